"""AP of masks and boxes, against pycocotools on one core."""

import contextlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from workbench import ground_truth
from workbench.bench.instance_scenes import CATEGORIES, InstanceScenes
from workbench.bench.measuring import Case, measure, times
from workbench.bench.reporting import Section
from workbench.bench.without_numba import no_compiled_code
from workbench.evaluation.average_precision import InstanceResult
from workbench.evaluation.evaluation import evaluate
from workbench.evaluation.instance import Geometry
from workbench.evaluation.passes import Comparison, count_instances
from workbench.runs import Run

Arrays = dict[str, Any]
_KINDS: dict[Geometry, str] = {"segm": "masks", "bbox": "boxes"}


def section(folder: Path, images: int, rounds: int, tell: Callable[[str], None]) -> Section:
    """All of it; `folder` takes what is drawn."""
    scenes = InstanceScenes(folder, images)
    run, files = scenes.make_run(), scenes.write_for_pycocotools()
    loaded = _load(*files)
    detections = run.store.count_segments() / images
    about = f"{images:,} images, {detections:.0f} detections each"

    def ours(geometry: Geometry) -> Arrays:
        return _arrays(count_instances(comparison(scenes, run), geometry))

    def without_compiled() -> Arrays:
        with no_compiled_code():
            return ours("segm")

    def complete() -> dict[str, Arrays]:
        results = evaluate(run, scenes).scores.instance or {}
        return {geometry: _arrays(results[geometry]) for geometry in _KINDS}

    def theirs(geometry: Geometry) -> Arrays:
        return _pycocotools(*loaded, geometry)

    def from_files(geometry: Geometry) -> Arrays:
        return _pycocotools(*_load(*files), geometry)

    scoring = {"peer": "pycocotools, `evaluate` and `accumulate` of loaded annotations", "agreement": _AGREEMENT}
    whole = {"peer": "pycocotools, from its JSON files", "agreement": _AGREEMENT}
    cases = [
        Case(
            f"AP of {name}, {about}",
            lambda geometry=geometry: ours(geometry),  # type: ignore[misc]
            lambda geometry=geometry: theirs(geometry),  # type: ignore[misc]
            goals=[times(10)] if geometry == "segm" else [],
            clock="cpu",
            items=images,
            **scoring,
        )
        for geometry, name in _KINDS.items()
    ]
    cases += [
        Case(
            f"AP of masks from files, {about}",
            lambda: ours("segm"),
            lambda: from_files("segm"),
            clock="cpu",
            items=images,
            **whole,
        ),
        Case(
            f"AP of masks without numba, {about}",
            without_compiled,
            lambda: theirs("segm"),
            clock="cpu",
            items=images,
            **scoring,
        ),
        Case(
            f"`workbench evaluate`, all that it writes, {about}",
            complete,
            lambda: {geometry: from_files(geometry) for geometry in _KINDS},
            clock="cpu",
            items=images,
            **whole,
        ),
    ]
    return Section("Average precision", [measure(case, rounds, tell) for case in cases], _NOTES)


_AGREEMENT = "precision, recall, scores, 12 numbers, bit for bit"
_NOTES = (
    "Our times begin with reading run and ground truth from Parquet, checking every mask. Where pycocotools' "
    "annotations are loaded, its own begin after JSON, index and `loadRes`. All are of the processor, on one core.",
    "`workbench evaluate` scores masks and boxes, types every error as TIDE does, and writes the match table and what "
    "intervals are drawn from; pycocotools scores masks and boxes.",
)


def comparison(scenes: InstanceScenes, run: Run) -> Comparison:
    """Of a run with the cached ground truth, both read from Parquet each time."""
    return Comparison(
        run=run,
        ground_truth=ground_truth.load(scenes, "instance"),
        categories=CATEGORIES,
        image_ids=tuple(record.image_id for record in scenes.images()),
        file_order=np.arange(scenes.count),
        progress=lambda count: None,
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
