"""mIoU against the usual way: decode both label maps of an image and count pairs of classes with `bincount`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from workbench.bench.drawn_dataset import comparison
from workbench.bench.measuring import Case, measure, times
from workbench.bench.panoptic_scenes import CATEGORIES, LabelledMap, PanopticScenes
from workbench.bench.reporting import Section
from workbench.evaluation.passes import Keeping, score_semantic
from workbench.runs import Run

_IGNORED = 255
_CLASSES = len(CATEGORIES)


def section(scenes: PanopticScenes, run: Run, rounds: int, tell: Callable[[str], None]) -> Section:
    """The same scenes with their segments merged by category."""
    folders = _write_class_maps(scenes)
    decoded = [tuple(_read(folder / f"{number}.png") for folder in folders) for number in range(scenes.distinct)]

    def ours() -> NDArray[np.int64]:
        nothing = Keeping(*[lambda rows: None] * 3)
        return score_semantic(comparison(scenes, run), nothing, matched=False).confusion

    def from_files() -> NDArray[np.int64]:
        return _bincount([tuple(_read(folder / f"{n}.png") for folder in folders) for n in range(scenes.distinct)])

    peers: list[tuple[str, Callable[[], Any], tuple[Any, ...]]] = [
        ("PNGs decoded, then `numpy.bincount`", from_files, (times(5),)),
        ("`numpy.bincount` of maps in memory", lambda: _bincount(decoded), ()),
    ]
    cases = [
        Case(
            f"mIoU, {scenes.distinct} images",
            ours,
            theirs,
            peer,
            agreement="confusion, every pixel",
            goals=goals,
            clock="cpu",
        )
        for peer, theirs, goals in peers
    ]
    notes = ["Ours is from Parquet in both rows, with the rows of every image for intervals and comparisons."]
    return Section("Mean IoU", [measure(case, rounds, tell) for case in cases], notes)


def _write_class_maps(scenes: PanopticScenes) -> tuple[Path, Path]:
    folders = scenes.folder / "gt-classes", scenes.folder / "pred-classes"
    for folder, side in zip(folders, (0, 1), strict=True):
        folder.mkdir(exist_ok=True)
        for number, pair in enumerate(scenes.maps):
            Image.fromarray(class_map(pair[side])).save(folder / f"{number}.png")
    return folders


def class_map(drawn: LabelledMap) -> NDArray[np.uint8]:
    """The class index of each pixel, 255 where there is none."""
    index = np.full(int(drawn.label_map.max()) + 1, _IGNORED, np.uint8)
    for key, category_id in drawn.category_ids.items():
        index[key] = category_id - 1
    return np.asarray(index[drawn.label_map])


def _read(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image)


def _bincount(pairs: Any) -> NDArray[np.int64]:
    """(K, K + 1), as mmsegmentation and torchvision count it; the last column has no prediction."""
    total = np.zeros(_CLASSES * (_CLASSES + 1), np.int64)
    for truth, guess in pairs:
        labelled = truth != _IGNORED
        predicted = np.minimum(guess[labelled], _CLASSES)
        cells = truth[labelled].astype(np.int64) * (_CLASSES + 1) + predicted
        total += np.bincount(cells, minlength=len(total))
    return total.reshape(_CLASSES, _CLASSES + 1)
