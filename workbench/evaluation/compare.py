"""Two runs on the same images: what changed, how sure that is, in which categories, and on which images.

Intervals are those of the paired bootstrap: each resample draws the same images for both runs.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench import catalog
from workbench.errors import EvaluationError
from workbench.evaluation.bootstrap import METHOD, StoredCounts, low_high, point, sample
from workbench.evaluation.evaluation import Progress, evaluate
from workbench.evaluation.headlines import main_headline
from workbench.evaluation.keeping import DETECTIONS, METRICS, PER_IMAGE, check_rows
from workbench.evaluation.per_image_quality import qualities
from workbench.evaluation.resampling import Bootstrap, notes_on
from workbench.formats import open_dataset
from workbench.formats.base import Dataset
from workbench.runs import MANIFEST, Run

Json = dict[str, Any]


@dataclass(frozen=True)
class RunComparison:
    """How run B differs from run A."""

    first: Run
    second: Run
    main: str
    """The headline number that runs of this task are judged by."""
    report: Json = field(repr=False)
    """The object that `workbench compare --json` prints; differences are B - A, numbers are fractions."""

    def numbers(self, side: str) -> dict[str, float | None]:
        """The headline numbers of "a" or "b" on the images that were compared."""
        return {name: row[side] for name, row in self.report["headlines"].items()}


def compare(
    first: Run | str | os.PathLike[str],
    second: Run | str | os.PathLike[str],
    dataset: Dataset | str | None = None,
    bootstrap: Bootstrap | None = None,
    progress: Progress | None = None,
) -> RunComparison:
    """Compare two runs of one task on one dataset, evaluating first what is not evaluated yet.

    Compared are the images that both were scored on. `dataset` stands in for the one that the runs were made with.
    Raises EvaluationError where the runs have different tasks, were scored against different ground truth, or share no
    image.
    """
    bootstrap = bootstrap or Bootstrap()
    runs = [run if isinstance(run, Run) else Run.open(run) for run in (first, second)]
    _check_tasks(*runs)
    truth = open_dataset(catalog.find(dataset)) if isinstance(dataset, str) else dataset
    metrics = [evaluated(run, truth, progress) for run in runs]
    _check_datasets(runs, metrics)
    counts = [StoredCounts(run.path, found) for run, found in zip(runs, metrics, strict=True)]
    headlines: Json = {}
    per_category: Json = {}
    shared = [metric for metric in counts[0].metrics if metric in counts[1].metrics]
    for metric in shared:
        headlines_of, categories_of = _differences(counts, metric, bootstrap)
        headlines |= headlines_of
        per_category[metric] = categories_of
    main = main_headline(runs[0].task, headlines)
    counted = "iou" if main == "miou" else main
    ids = _shared_images(counts, counted)
    report = {
        "a": str(runs[0].path),
        "b": str(runs[1].path),
        "task": runs[0].task,
        "dataset": metrics[0]["provenance"]["dataset"],
        **asdict(bootstrap),
        "method": f"{METHOD}, paired",
        "notes": [*_notes(runs, metrics, counts, counted), *notes_on(len(ids))],
        "images_compared": len(ids),
        "headlines": headlines,
        "per_category": per_category,
        "categories": counts[0].category_names,
        "images": _image_rows(counts, counted, ids),
    }
    return RunComparison(runs[0], runs[1], main, report)


def evaluated(
    run: Run,
    dataset: Dataset | None = None,
    progress: Progress | None = None,
    bootstrap: Bootstrap | None = None,
) -> Mapping[str, Any]:
    """The run's metrics.json: as it is where it is newer than the run and of the dataset as it is now, else made.

    `dataset` stands in for the run's own. `bootstrap` adds intervals to what is made. Raises RunError where its files
    are not what an evaluation leaves.
    """
    run.check_whole()
    files = [run.path / name for name in (METRICS, PER_IMAGE, DETECTIONS)]
    if all(file.exists() for file in files):
        fresh = files[0].stat().st_mtime_ns >= (run.path / MANIFEST).stat().st_mtime_ns
        metrics = run.metrics()
        truth = dataset or open_dataset(run.dataset)
        if fresh and metrics["provenance"]["dataset"]["fingerprint"] == truth.fingerprint():
            check_rows(run)
            return metrics
    return evaluate(run, dataset, progress, bootstrap).metrics


def _check_tasks(first: Run, second: Run) -> None:
    if first.task != second.task:
        raise EvaluationError(
            f"{first.path} is a run of the task {first.task}, {second.path} one of {second.task}: their numbers mean "
            "different things. Compare runs of one task."
        )


def _check_datasets(runs: Sequence[Run], metrics: Sequence[Mapping[str, Any]]) -> None:
    modes = [found["mode"] for found in metrics]
    if modes[0] != modes[1]:
        raise EvaluationError(
            f"{runs[0].path} was scored in the mode {modes[0]}, {runs[1].path} in {modes[1]}. Run `workbench evaluate` "
            "on both with --corrected, or on both without."
        )
    first, second = (found["provenance"]["dataset"] for found in metrics)
    if first["fingerprint"] == second["fingerprint"]:
        return
    if first["name"] == second["name"]:
        raise EvaluationError(
            f"{runs[0].path} and {runs[1].path} were scored against different versions of {first['name']} (its "
            "annotations, images or definition changed in between). Run `workbench evaluate` on both again."
        )
    raise EvaluationError(
        f"{runs[0].path} was scored against {first['name']}, {runs[1].path} against {second['name']}. Name one dataset "
        "for both: --dataset."
    )


def _shared_images(counts: Sequence[StoredCounts], metric: str) -> tuple[str, ...]:
    second = set(counts[1].image_ids(metric))
    shared = tuple(image_id for image_id in counts[0].image_ids(metric) if image_id in second)
    if not shared:
        raise EvaluationError("the two runs share no image, so there is nothing to compare them on.")
    return shared


def _differences(counts: Sequence[StoredCounts], metric: str, bootstrap: Bootstrap) -> tuple[Json, Json]:
    """The rows of the headline numbers, by name, and of the categories, by id, that one metric's counts give."""
    ids = _shared_images(counts, metric)
    both = [each.counted(metric, ids) for each in counts]
    points = [point(each) for each in both]
    samples = sample(both, bootstrap)
    names = (both[0].names, [str(category_id) for category_id in both[0].category_ids.tolist()])
    headlines, categories = (
        {
            name: _row(bootstrap, *(found[part][0, i] for found in points), *(found[part][:, i] for found in samples))
            for i, name in enumerate(names[part])
        }
        for part in (0, 1)
    )
    known = {name: row for name, row in categories.items() if row["a"] is not None or row["b"] is not None}
    return headlines, known


def _row(
    bootstrap: Bootstrap, a: float, b: float, samples_a: NDArray[np.float64], samples_b: NDArray[np.float64]
) -> Json:
    difference = samples_b - samples_a
    known = difference[~np.isnan(difference)]
    return {
        "a": _or_none(a),
        "b": _or_none(b),
        "difference": _or_none(b - a),
        "interval": low_high(bootstrap, difference),
        "b_better": float((known > 0).mean()) if len(known) else None,
    }


def _image_rows(counts: Sequence[StoredCounts], metric: str, ids: Sequence[str]) -> list[Json]:
    """Every image that both can be judged on, those that changed most first."""
    a, b = (qualities(each.rows(metric), ids) for each in counts)
    known = np.flatnonzero(~np.isnan(b - a))
    order = known[np.argsort(-np.abs(b - a)[known], kind="stable")]
    return [
        {"image_id": ids[i], "a": float(a[i]), "b": float(b[i]), "difference": float(b[i] - a[i])}
        for i in order.tolist()
    ]


def _notes(
    runs: Sequence[Run], metrics: Sequence[Mapping[str, Any]], counts: Sequence[StoredCounts], metric: str
) -> list[str]:
    notes = [f"{run.path}: {note}" for run, found in zip(runs, metrics, strict=True) for note in found["notes"]]
    shared = len(_shared_images(counts, metric))
    for run, each in zip(runs, counts, strict=True):
        left_out = len(each.image_ids(metric)) - shared
        if left_out:
            notes.append(f"{run.path}: {left_out} of its images are left out: the other run was not scored on them")
    return notes


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
