"""AP of masks and boxes, against pycocotools on one core."""

import contextlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from workbench.bench.drawn_dataset import comparison
from workbench.bench.instance_scenes import InstanceScenes
from workbench.bench.measuring import Case, Goal, measure, times
from workbench.bench.reporting import Section
from workbench.bench.without_numba import no_compiled_code
from workbench.evaluation.average_precision import InstanceResult
from workbench.evaluation.evaluation import evaluate
from workbench.evaluation.instance import Geometry
from workbench.evaluation.passes import count_instances

Arrays = dict[str, Any]
Side = Callable[[], Any]
_BOTH: tuple[Geometry, ...] = ("segm", "bbox")


def section(scenes: InstanceScenes, rounds: int, tell: Callable[[str], None]) -> Section:
    """All of it."""
    run, files = scenes.make_run(), scenes.write_for_pycocotools()
    loaded = _load(*files)
    about = f"{scenes.count:,} images, {run.store.count_segments() / scenes.count:.0f} detections each"

    def ours(geometry: Geometry = "segm") -> Arrays:
        return _arrays(count_instances(comparison(scenes, run), geometry))

    def without_compiled() -> Arrays:
        with no_compiled_code():
            return ours()

    def complete() -> dict[str, Arrays]:
        results = evaluate(run, scenes).scores.instance or {}
        return {geometry: _arrays(results[geometry]) for geometry in _BOTH}

    def theirs(geometry: Geometry = "segm") -> Arrays:
        return _pycocotools(*loaded, geometry)

    def from_files(geometry: Geometry = "segm") -> Arrays:
        return _pycocotools(*_load(*files), geometry)

    def both_from_files() -> dict[str, Arrays]:
        return {geometry: from_files(geometry) for geometry in _BOTH}

    def case(title: str, ours: Side, theirs: Side, peer: str, goals: Sequence[Goal] = ()) -> Case:
        agreement = "precision, recall, scores, 12 numbers, bit for bit"
        named = f"{title}, {about}"
        return Case(named, ours, theirs, peer, agreement=agreement, goals=goals, clock="cpu", items=scenes.count)

    cases = [
        case("AP of masks", ours, theirs, _LOADED, [times(10)]),
        case("AP of boxes", lambda: ours("bbox"), lambda: theirs("bbox"), _LOADED),
        case("AP of masks from files", ours, from_files, _FILES),
        case("AP of masks without numba", without_compiled, theirs, _LOADED),
        case("`workbench evaluate`, all that it writes", complete, both_from_files, _FILES),
    ]
    return Section("Average precision", [measure(each, rounds, tell) for each in cases], _NOTES)


_LOADED = "pycocotools, `evaluate` and `accumulate` of loaded annotations"
_FILES = "pycocotools, from its JSON files"
_NOTES = (
    "Our times begin with reading run and ground truth from Parquet, checking every mask. Where pycocotools' "
    "annotations are loaded, its own begin after JSON, index and `loadRes`. All are of the processor, on one core.",
    "`workbench evaluate` scores masks and boxes, types every error as TIDE does, and writes the match table and what "
    "intervals are drawn from; pycocotools scores masks and boxes.",
)


def _load(truth: Path, results: Path) -> tuple[Any, Any]:
    from pycocotools.coco import COCO

    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO(str(truth))
        return gt, gt.loadRes(str(results))


def _pycocotools(gt: Any, detections: Any, geometry: Geometry) -> Arrays:
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        scored = COCOeval(gt, detections, geometry)
        scored.evaluate()
        scored.accumulate()
        scored.summarize()
    return {**{name: scored.eval[name] for name in ("precision", "recall", "scores")}, "stats": scored.stats.tolist()}


def _arrays(result: InstanceResult) -> Arrays:
    stats = [-1.0 if value is None else value for value in result.summary().values()]
    return {"precision": result.precision, "recall": result.recall, "scores": result.scores, "stats": stats}
