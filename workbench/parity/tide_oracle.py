"""tidecv as it is called here: from instances in memory, without what only its drawings need."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

_DRAWING = ("cv2", "seaborn", "appdirs", "matplotlib", "matplotlib.pyplot", "matplotlib.lines")
"""Imported by tidecv when it is imported, used when it draws and downloads."""


@dataclass(frozen=True)
class TideInstance:
    """One annotation (`score` None) or detection."""

    image_id: int
    category_id: int
    rle: dict[str, object]
    """As pycocotools takes masks."""
    bbox: tuple[float, float, float, float]
    score: float | None = None
    iscrowd: bool = False


def import_tidecv() -> ModuleType:
    """tidecv, with stand-ins for what only its drawings need, where that is missing. Raises ImportError without it."""
    with _stand_ins():
        return import_module("tidecv")


def tidecv_scores(
    gt: Iterable[TideInstance],
    dets: Iterable[TideInstance],
    image_ids: Iterable[int],
    category_ids: Iterable[int],
    geometry: str,
) -> dict[str, Any]:
    """AP50, the count and dAP of every type and the special dAPs, as fractions, keyed as in metrics.json.

    ZeroDivisionError where no category has a detection or ground truth, as tidecv has it.
    """
    tidecv = import_tidecv()
    truth, found = tidecv.Data("gt", max_dets=100), tidecv.Data("pred")
    for image_id in image_ids:
        truth.add_image(image_id, str(image_id))
    for category_id in category_ids:
        truth.add_class(category_id, str(category_id))
    for each in gt:
        add = truth.add_ignore_region if each.iscrowd else truth.add_ground_truth
        add(each.image_id, each.category_id, list(each.bbox), each.rle)
    for each in dets:
        found.add_detection(each.image_id, each.category_id, each.score, list(each.bbox), each.rle)
    run = tidecv.TIDE().evaluate(truth, found, mode="bbox" if geometry == "bbox" else "mask")
    costs, counts, special = run.fix_main_errors(), run.count_errors(), run.fix_special_errors()
    return {
        "ap50": run.ap / 100,
        "types": {kind.short_name.lower(): {"count": counts[kind], "dap": float(costs[kind]) / 100} for kind in costs},
        "special": {
            name: float(special[kind]) / 100
            for name, kind in (
                ("false_positive", tidecv.errors.main_errors.FalsePositiveError),
                ("false_negative", tidecv.errors.main_errors.FalseNegativeError),
            )
        },
    }


@contextmanager
def _stand_ins() -> Iterator[None]:
    missing = []
    for name in _DRAWING:
        try:
            import_module(name)
        except ImportError:
            missing.append(name)
    for name in missing:
        sys.modules[name] = MagicMock()
    try:
        yield
    finally:
        for name in missing:
            del sys.modules[name]
