"""`evaluate`: a run against its dataset's ground truth, by every metric that both allow, kept in the run's folder."""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from workbench import catalog, ground_truth, runs
from workbench.errors import EvaluationError
from workbench.evaluation import agreement, boundary_passes, confusion, engines, keeping, passes, slices, why
from workbench.evaluation.agreement import ScoredImages
from workbench.evaluation.average_precision import InstanceResult
from workbench.evaluation.bootstrap import StoredCounts, intervals_json
from workbench.evaluation.boundary_passes import BoundarySemantic
from workbench.evaluation.comparison import Comparison
from workbench.evaluation.confusion import Confusion
from workbench.evaluation.engines import Workers
from workbench.evaluation.instance import GEOMETRIES, Geometry
from workbench.evaluation.metrics import add_boundary, metrics_json, per_category_table
from workbench.evaluation.panoptic import PanopticResult
from workbench.evaluation.passes import Keeping
from workbench.evaluation.resampling import Bootstrap, notes_on
from workbench.evaluation.semantic import SemanticResult
from workbench.evaluation.tide_ap import TideResult
from workbench.formats import open_dataset
from workbench.formats.base import Dataset, Task
from workbench.formats.tasks import annotation_kinds
from workbench.runs import Run
from workbench.store import SegmentStore

Progress = Callable[[str, int, int], None]
"""Called with (what is under way, images done, images in all)."""

_GROUND_TRUTH_FOR: Mapping[Task, tuple[Task, ...]] = {
    "panoptic": ("panoptic", "instance", "semantic"),
    "instance": ("instance",),
    "semantic": ("semantic",),
}


@dataclass(frozen=True)
class Scores:
    """What was measured; None for what the run's task or the ground truth does not allow."""

    panoptic: PanopticResult | None = None
    instance: Mapping[Geometry, InstanceResult] | None = None
    semantic: SemanticResult | None = None
    panoptic_boundary: PanopticResult | None = None
    """By outlines; so the next one, and "boundary" among `instance`. None unless asked for."""
    semantic_boundary: BoundarySemantic | None = None
    tide: Mapping[Geometry, TideResult] | None = None
    """What each type of error costs in AP."""
    confusions: Mapping[Task, Confusion] = field(default_factory=dict)
    """Of segments, by the ground truth that they were matched with."""


@dataclass(frozen=True)
class Evaluation:
    """What a run scores."""

    run: Run
    scores: Scores = field(repr=False)
    """Raw counts and curves."""
    metrics: Mapping[str, Any] = field(repr=False)
    """The content of `metrics.json`."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the reader of the numbers must know: images left out, missing or failed."""
        return tuple(self.metrics["notes"])


def evaluate(
    run: Run | str | os.PathLike[str] | None = None,
    dataset: Dataset | str | None = None,
    progress: Progress | None = None,
    bootstrap: Bootstrap | None = None,
    corrected: bool = False,
    by: Sequence[str] = (),
    boundary: bool = False,
    engine: str = "local",
    processes: int | None = None,
    num_workers: int | None = None,
    address: str | None = None,
) -> Evaluation:
    """Score a run (None: the newest) and keep metrics.json and its tables (docs/evaluation.md) in the run's folder.

    A panoptic run gives PQ, mIoU of its segments merged by category, and AP of its things; an instance run AP; a
    semantic run mIoU. `dataset` (a name, the path of a definition, or a dataset) stands in for the one that the run was
    made with. `bootstrap` adds confidence intervals. `corrected` mends what the official tools get wrong, see
    docs/parity.md. `by` adds the numbers of slices, see `slices.slices`. `boundary` adds the same
    metrics by outlines, see `boundary.py`. Earlier results are replaced.

    The work is spread over so many `processes` of this machine, or with `engine` "ray" over a Ray cluster (of it
    `num_workers`, at `address`), as for `workbench.predict`. Whoever counts, the results are the same to the bit.

    Raises EvaluationError where run and ground truth do not belong together, RunError and DatasetError where one of
    them cannot be used, EngineError where the engine cannot be used.
    """
    spread = engines.chosen(engine, processes, num_workers, address)
    opened = run if isinstance(run, Run) else Run.newest() if run is None else Run.open(run)
    opened.check_whole()
    truth = dataset_of(opened, dataset)
    wanted = ground_truths(opened, truth)
    for each in by:
        slices.check(each)
    with runs.lock(opened.path), keeping.staging(opened.path) as place:
        with nullcontext() if spread is None else spread.workers() as workers, keeping.row_files(place) as keep:
            tell = progress or (lambda what, done, total: None)
            scoring = _Scoring(opened, truth, keep, tell, corrected, workers)
            scores = scoring.run_passes(wanted)
            if boundary:
                scores = scoring.run_boundary_passes(wanted, scores)
        metrics = metrics_json(scores.panoptic, scores.instance, scores.semantic, truth.categories)
        add_boundary(metrics, scores.panoptic_boundary, scores.semantic_boundary, truth.categories)
        metrics["images"] = {task: _counts(images) for task, images in scoring.images.items()}
        metrics["notes"] = list(dict.fromkeys([*notes_on_dataset(opened, truth, dataset), *scoring.notes]))
        metrics["provenance"] = keeping.provenance(opened, truth)
        metrics["intervals"] = None
        if bootstrap is not None:
            metrics["intervals"] = intervals_json(StoredCounts(place, metrics), bootstrap)
            metrics["notes"].extend(notes_on(min(len(images.ids) for images in scoring.images.values())))
        reasons = why.read_reasons(place / keeping.MATCHES)
        errors = why.error_table(reasons, truth.categories)
        metrics["mode"] = "corrected" if corrected else "strict"
        metrics["errors"] = why.errors_json(errors, scores.tide)
        metrics["calibration"] = why.calibrations_json(reasons)
        parts = [part for each in by for part in slices.slices(place, metrics, scoring.gt_images, each)]
        metrics["slices"] = slices.slices_json(parts)
        tables = {
            keeping.PER_CATEGORY: per_category_table(metrics),
            keeping.ERRORS: errors,
            keeping.SLICES: slices.slices_table(parts),
            keeping.CONFUSION: confusion.whole_table(scores.confusions, scores.semantic),
        }
        keeping.publish(place, opened.path, metrics, tables)
    return Evaluation(opened, scores, metrics)


def ground_truths(run: Run, dataset: Dataset) -> tuple[Task, ...]:
    """The kinds of ground truth to score a run against. Raises EvaluationError where there is none."""
    wanted = [task for task in _GROUND_TRUTH_FOR[run.task] if task in dataset.tasks]
    if not wanted:
        raise EvaluationError(
            f"{run.path}: a run of the task {run.task} needs {' or '.join(_GROUND_TRUTH_FOR[run.task])} ground truth, "
            f"but dataset {dataset.definition.name} has {' and '.join(dataset.tasks) or 'none'}. Name its annotations "
            f"in {dataset.definition.source}, or another dataset with --dataset."
        )
    if "panoptic" in wanted and "semantic" not in annotation_kinds(dataset.definition):
        wanted = [task for task in wanted if task != "semantic"]  # falls out of the panoptic pass
    return tuple(wanted)


class _Scoring:
    """The passes of one evaluation, and what they find out about the images."""

    def __init__(
        self,
        run: Run,
        dataset: Dataset,
        keep: Keeping,
        progress: Progress,
        corrected: bool,
        workers: Workers | None,
    ) -> None:
        self.run, self.dataset, self.keep = run, dataset, keep
        self.progress, self.corrected, self.workers = progress, corrected, workers
        self.images: dict[Task, ScoredImages] = {}
        self.ground_truth: SegmentStore | None = None
        """The one that was compared with last."""
        self.notes: list[str] = []

    @property
    def gt_images(self) -> pa.Table:
        """The images of the ground truth that was compared with last."""
        return pa.table({}) if self.ground_truth is None else self.ground_truth.images()

    def run_passes(self, wanted: tuple[Task, ...]) -> Scores:
        """Walk through each ground truth once."""
        found: dict[str, Any] = {}
        confusions: dict[Task, Confusion] = {}
        if "panoptic" in wanted:
            segments = passes.score_panoptic(
                self._comparison("panoptic"), self.keep, semantic_too="semantic" not in wanted
            )
            found["panoptic"], found["semantic"] = segments.panoptic, segments.semantic
            confusions["panoptic"] = segments.confusion
        if "instance" in wanted and self._can_be_ranked():
            instances = self._score_instances()
            found["instance"], found["tide"] = instances.instance, instances.tide
            confusions["instance"] = instances.confusion
        if "semantic" in wanted:
            comparison = self._comparison("semantic")
            found["semantic"] = passes.score_semantic(comparison, self.keep, matched=self.run.task == "semantic")
        return Scores(**found, confusions=confusions)

    def run_boundary_passes(self, wanted: tuple[Task, ...], scores: Scores) -> Scores:
        """Walk through it once more for what outlines give; boxes have none."""
        if "panoptic" in wanted:
            outlines = boundary_passes.score_panoptic(self._comparison("panoptic"), self.keep)
            scores = replace(scores, panoptic_boundary=outlines)
        if scores.instance and "segm" in scores.instance:
            comparison, things_only = self._comparison("instance"), self.run.task == "panoptic"
            curves = boundary_passes.score_instances(comparison, self.keep, things_only)
            scores = replace(scores, instance={**scores.instance, "boundary": curves})
        if self.run.task == "semantic":
            scores = replace(scores, semantic_boundary=boundary_passes.score_semantic(self._comparison("semantic")))
        return scores

    def _can_be_ranked(self) -> bool:
        if not self.run.store.has_null("score"):
            return True
        if self.run.task == "instance":
            raise EvaluationError(
                f"{self.run.path}: it has segments without a score, which AP ranks by. Give every prediction a score, "
                "and import them again."
            )
        self.notes.append("the run has segments without a score, which AP ranks by, so there is no AP")
        return False

    def _score_instances(self) -> passes.InstanceScores:
        kinds = self.run.manifest.get("iou_types", GEOMETRIES)
        geometries = [geometry for geometry in GEOMETRIES if geometry in kinds]
        if "segm" not in geometries:
            self.notes.append("the run has boxes without masks, so there is no AP of masks")
        return passes.score_instances(
            self._comparison("instance"), self.keep, geometries, things_only=self.run.task == "panoptic"
        )

    def _comparison(self, task: Task) -> Comparison:
        comparison, images = comparison_with(self.run, self.dataset, task, self.progress, self.corrected, self.workers)
        self.ground_truth = comparison.ground_truth
        self.images[task] = images
        self.notes.extend(images.notes)
        return comparison


def comparison_with(
    run: Run,
    dataset: Dataset,
    task: Task,
    progress: Progress,
    corrected: bool = False,
    workers: Workers | None = None,
) -> tuple[Comparison, ScoredImages]:
    """The run beside the dataset's ground truth for a task, converted if need be, and the images of both."""
    store = ground_truth.load(
        dataset, task, lambda done, total: progress(f"Converting {task} ground truth", done, total)
    )
    images = agreement.images_to_score(run, run.images(), store.images(), dataset.image_ids())
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress(f"Scoring against {task} ground truth", done, len(images.ids))

    comparison = Comparison(
        run=run,
        ground_truth=store,
        categories=dataset.categories,
        image_ids=images.ids,
        file_order=images.file_order,
        progress=advance,
        corrected=corrected,
        workers=workers,
    )
    return comparison, images


def dataset_of(run: Run, dataset: Dataset | str | None) -> Dataset:
    """The dataset to score a run against: the one given, by name or path too, else the run's own."""
    if isinstance(dataset, Dataset):
        return dataset
    return open_dataset(run.dataset if dataset is None else catalog.find(dataset))


def notes_on_dataset(run: Run, truth: Dataset, dataset: Dataset | str | None) -> list[str]:
    """Where `truth` is not quite what the run was made with; `dataset` is what the user named."""
    notes = []
    made_with = run.manifest.get("identity", {}).get("dataset")
    if dataset is None and made_with not in (None, truth.fingerprint()):
        notes.append(f"the annotations or images of {truth.definition.name} have changed since the run was made")
    renamed = agreement.category_note(run, truth.categories)
    return notes if renamed is None else [*notes, renamed]


def _counts(images: ScoredImages) -> dict[str, int]:
    return {"scored": len(images.ids), "failed": images.failed, "missing": images.missing}
