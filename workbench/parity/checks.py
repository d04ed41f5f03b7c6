"""Each official tool that is installed against `evaluate`, and transformers against the model, on the bundled data."""

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from workbench.evaluation.evaluation import Evaluation, evaluate
from workbench.evaluation.instance import Geometry
from workbench.imports.api import import_predictions
from workbench.parity import oracles
from workbench.parity.worn_scenes import WornScenes, write_worn_scenes

PACKAGES = {
    "panopticapi": ("panopticapi-lite", "panopticapi"),
    "pycocotools": ("pycocotools",),
    "tidecv": ("tidecv",),
    "transformers": ("transformers",),
}
"""Oracle -> the distributions that have it."""
_AP_GEOMETRIES: tuple[Geometry, ...] = ("segm", "bbox")
TIDE_TOLERANCE = 1e-12
LOGITS_TOLERANCE = 1e-4
"""Of logits around 10 in float32."""


@dataclass(frozen=True)
class Check:
    """What came of one comparison."""

    oracle: str
    version: str | None
    """None: not installed, so nothing was compared."""
    what: str
    numbers: int = 0
    """How many were compared."""
    difference: float = 0.0
    """The largest."""
    tolerance: float = 0.0
    """0: to the last bit."""

    @property
    def passed(self) -> bool | None:
        """None where nothing was compared."""
        return None if self.version is None else self.numbers > 0 and self.difference <= self.tolerance

    @property
    def outcome(self) -> str:
        """The same in a word."""
        return {True: "pass", False: "FAIL", None: "not installed"}[self.passed]


@dataclass(frozen=True)
class Outcome:
    """All comparisons, and how often each oddity of the ledger occurred in the data."""

    checks: tuple[Check, ...]
    oddities: Mapping[str, int]


def run_checks(seed: int) -> Outcome:
    """Compare with every oracle that is installed, on the bundled scenes worn by that seed."""
    with tempfile.TemporaryDirectory(prefix="workbench-parity-") as name, _cache_in(Path(name)):
        folder = Path(name)
        files = write_worn_scenes(folder, seed)
        segments, instances = _evaluate(files, folder)
        checks = [
            _check("panopticapi", "PQ of all, things, stuff and every class", lambda: _panoptic(segments, files)),
            *(
                _check("pycocotools", f"{geometry}: 12 numbers; precision, recall and scores", ap)
                for geometry, ap in _for_geometries(lambda geometry: _ap(instances, files, geometry))
            ),
            *(
                _check("tidecv", f"{geometry}: AP50, count and dAP of every type of error", tide, TIDE_TOLERANCE)
                for geometry, tide in _for_geometries(lambda geometry: _tide(instances, files, geometry))
            ),
            _check("transformers", "logits of the bundled checkpoint", _logits, LOGITS_TOLERANCE),
        ]
    return Outcome(tuple(checks), files.oddities)


Pairs = Iterator[tuple[Any, Any]]
"""(official, ours): numbers or arrays of one shape."""


def _check(oracle: str, what: str, compare: Callable[[], Pairs], tolerance: float = 0.0) -> Check:
    installed = _version(PACKAGES[oracle])
    if installed is None:
        return Check(oracle, None, what)
    numbers, worst = 0, 0.0
    for official, ours in compare():
        expected, found = np.asarray(official, dtype=np.float64), np.asarray(ours, dtype=np.float64)
        different = np.inf if expected.shape != found.shape else np.abs(expected - found).max(initial=0.0)
        numbers, worst = numbers + expected.size, float(np.maximum(worst, different))
    return Check(oracle, installed, what, numbers, worst if not np.isnan(worst) else np.inf, tolerance)


def _version(distributions: Sequence[str]) -> str | None:
    for name in distributions:
        with suppress(PackageNotFoundError):
            return version(name)
    return None


def _for_geometries(compare: Callable[[Geometry], Pairs]) -> Iterator[tuple[Geometry, Callable[[], Pairs]]]:
    for geometry in _AP_GEOMETRIES:
        yield geometry, lambda geometry=geometry: compare(geometry)  # type: ignore[misc]


def _evaluate(files: WornScenes, folder: Path) -> tuple[Evaluation, Evaluation]:
    definition = str(files.definition)
    panoptic = import_predictions(
        files.panoptic_predictions, definition, "coco-panoptic", out=folder / "runs" / "panoptic"
    )
    instances = import_predictions(files.results, definition, "coco-results", out=folder / "runs" / "instances")
    return evaluate(panoptic), evaluate(instances)


def _panoptic(ours: Evaluation, files: WornScenes) -> Pairs:
    official, found = oracles.panopticapi_scores(files), ours.metrics["panoptic"]
    for name in ("all", "things", "stuff"):
        for key in ("pq", "sq", "rq", "n"):
            yield official[name][key], found[name][key]
    for category_id, counts in official["per_class"].items():
        yield counts, [found["per_category"][category_id][key] for key in ("tp", "fp", "fn", "iou_sum")]


def _ap(ours: Evaluation, files: WornScenes, geometry: Geometry) -> Pairs:
    official = oracles.pycocotools_scores(files, geometry)
    assert ours.scores.instance is not None
    found = ours.scores.instance[geometry]
    yield official.stats, [-1.0 if value is None else value for value in found.summary().values()]
    known = np.isin(found.category_ids, official.params.catIds)  # the panoptic file has stuff besides
    for name, axis in (("precision", 2), ("recall", 1), ("scores", 2)):
        yield official.eval[name], np.compress(known, getattr(found, name), axis=axis)


def _tide(ours: Evaluation, files: WornScenes, geometry: Geometry) -> Pairs:
    official, found = oracles.tidecv_of_files(files, geometry), ours.metrics["errors"]["instance"]["tide"][geometry]
    yield official["ap50"], found["ap50"]
    for name, numbers in official["types"].items():
        yield [numbers["count"], numbers["dap"]], [found["types"][name]["count"], found["types"][name]["dap"]]
    for name, value in official["special"].items():
        yield value, found["special"][name]


def _logits() -> Pairs:
    from workbench.parity.transformers_oracle import logits  # torch and transformers take seconds to import

    return logits()


@contextmanager
def _cache_in(folder: Path) -> Iterator[None]:
    """The worn scenes are converted once and never again: they have no place in the user's cache."""
    before = os.environ.get("WORKBENCH_CACHE")
    os.environ["WORKBENCH_CACHE"] = str(folder / "cache")
    try:
        yield
    finally:
        if before is None:
            del os.environ["WORKBENCH_CACHE"]
        else:
            os.environ["WORKBENCH_CACHE"] = before
