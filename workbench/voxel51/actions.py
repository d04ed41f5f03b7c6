"""What the App's plugin does, without the App: predict, evaluate, pre-label, mark reviewed, some samples of a dataset.

Each is what the command of that name does, on the images that a person has chosen; a run stays a run folder.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench import catalog
from workbench.errors import FiftyOneError, RunError
from workbench.evaluation.evaluation import evaluate
from workbench.evaluation.headlines import headlines
from workbench.formats import open_dataset
from workbench.formats.base import Dataset
from workbench.prediction.progress import Progress as PredictionProgress
from workbench.runs import MANIFEST, Run
from workbench.storage import exists, local_path
from workbench.voxel51.browse import push
from workbench.voxel51.ordering import Order
from workbench.voxel51.prelabel import prelabel
from workbench.voxel51.pull_sources import REVIEWED
from workbench.voxel51.push import Progress
from workbench.voxel51.target import INFO, Target, existing_target

_HEADLINES_TOLD = 3


@dataclass(frozen=True)
class Done:
    """What an action came to."""

    message: str
    view: str | None = None
    """The saved view that shows it best."""
    notes: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()


@dataclass(frozen=True)
class Wanted:
    """What to predict: the options of `workbench.predict`."""

    root: Path
    """The folder of run folders."""
    model: str | None = None
    task: str | None = None
    thresholds: Mapping[str, Any] = field(default_factory=dict)
    """Those of the task's own options that are not the published ones."""


def predict_samples(
    name: str, sample_ids: Collection[str], wanted: Wanted, progress: Progress, score: bool = True
) -> Done:
    """Predict the images of those samples of the FiftyOne dataset `name`, and push the run.

    With `score` the run is evaluated too, where the dataset has ground truth. The run is an ordinary folder below
    `wanted.root`, made of chosen images unless the samples are the whole dataset.
    """
    target = existing_target(name)
    dataset = dataset_of(target)
    run = _predict(target, dataset, sample_ids, wanted, progress)
    notes = _failures(run)
    if score and dataset.tasks:
        notes += evaluate(run, progress=progress).notes
    browsed = push([run], dataset, name, progress)
    images, (run_field, about) = run.store.count_images(), _pushed(name, run)
    message = f"Predicted {images} images into {run.path}: field {run_field}.{_numbers(run)}"
    return Done(message, _first_view(browsed.views), notes, (run_field, *about["ground_truth"]))


def evaluate_run(name: str, path: Path, progress: Progress, boundary: bool = False, corrected: bool = False) -> Done:
    """Score the run in folder `path` and push it into the FiftyOne dataset `name`, where it may be already."""
    target = existing_target(name)
    dataset, run = dataset_of(target), Run.open(path)
    evaluation = evaluate(run, progress=progress, corrected=corrected, boundary=boundary)
    browsed = push([run], dataset, name, progress)
    run_field, about = _pushed(name, run)
    message = f"Evaluated {run_field}.{_numbers(run)}"
    return Done(message, _first_view(browsed.views), evaluation.notes, (run_field, *about["ground_truth"]))


def prelabel_samples(
    name: str,
    sample_ids: Collection[str],
    source: Path | Wanted,
    progress: Progress,
    min_score: float = 0.0,
    order: Order = "uncertainty",
    labelled: bool = False,
    replace: bool = False,
) -> Done:
    """Put the labels of a run, or of a new prediction, into `label_edits` of those samples, as `prelabel` does."""
    target = existing_target(name)
    dataset = dataset_of(target)
    run = Run.open(source) if isinstance(source, Path) else _predict(target, dataset, sample_ids, source, progress)
    images = image_ids(target, sample_ids)
    done = prelabel(
        dataset,
        run,
        min_score,
        order,
        None,
        labelled=labelled,
        replace=replace,
        name=name,
        progress=progress,
        images=images,
    )
    message = f"{done.objects} pre-labels in {done.images} images, to be corrected in field label_edits"
    return Done(f"{message}.", done.view, done.notes, ("label_edits",))


def mark_reviewed(name: str, sample_ids: Collection[str], reviewed: bool = True) -> Done:
    """Tag those samples `reviewed`, or take the tag away: `pull --reviewed` takes home the tagged ones alone."""
    target = existing_target(name)
    samples = target.dataset.select(list(sample_ids))
    before = len(samples.match_tags(REVIEWED))
    if reviewed:
        samples.tag_samples(REVIEWED)
    else:
        samples.untag_samples(REVIEWED)
    total = len(target.dataset.match_tags(REVIEWED))
    changed = len(samples) - before if reviewed else before
    what = "marked reviewed" if reviewed else "not marked any more"
    return Done(f"{changed} images {what}; {total} of {len(target.dataset)} are.")


def dataset_of(target: Target) -> Dataset:
    """The workbench's dataset behind a FiftyOne dataset: by the definition that was pushed, or by its name."""
    source = local_path(target.info["definition"])
    return open_dataset(catalog.read(source) if exists(source) else catalog.find(target.info["dataset"]))


def image_ids(target: Target, sample_ids: Collection[str]) -> list[str]:
    """The images of those samples, in the dataset's order. Raises FiftyOneError where there is none."""
    wanted = set(sample_ids)
    found = [image_id for image_id, sample_id in target.sample_ids.items() if sample_id in wanted]
    if not found:
        raise FiftyOneError("no image is chosen: the view is empty. Widen the view, or select samples.")
    return found


def about(dataset: Any) -> Mapping[str, Any]:
    """What the workbench has pushed into a `fiftyone.Dataset`, cheap enough to be asked at every key that is pressed.

    Raises FiftyOneError where it is none of ours.
    """
    found = dataset.info.get(INFO)
    if found is None:
        raise FiftyOneError(
            f"{dataset.name!r} was not made by the workbench. Push a dataset with `workbench browse --dataset NAME`."
        )
    return dict(found)


def known_runs(info: Mapping[str, Any], root: Path | None = None) -> dict[str, Path]:
    """Run folders of the dataset that are there: those pushed by field, then others below `root` by folder name.

    One whose name another has already is there by its path.
    """
    pushed = {name: Path(run["path"]) for name, run in info["runs"].items() if (Path(run["path"]) / MANIFEST).exists()}
    others = sorted(root.glob(f"*/{MANIFEST}")) if root else []
    taken = set(pushed.values())
    for manifest in others:
        folder = manifest.parent.resolve()
        if folder not in taken and _is_of(folder, info["dataset"]):
            pushed[folder.name if folder.name not in pushed else str(folder)] = folder
    return pushed


def _is_of(folder: Path, dataset_name: str) -> bool:
    try:
        return bool(Run.open(folder).manifest["dataset"]["name"] == dataset_name)
    except RunError:
        return False


def _predict(target: Target, dataset: Dataset, sample_ids: Collection[str], wanted: Wanted, progress: Progress) -> Run:
    from workbench.prediction.api import predict  # here: torch takes a second, which no form should wait for

    chosen = image_ids(target, sample_ids)
    every = len(chosen) == len(dataset.images())
    return predict(
        target.info["definition"],
        model=wanted.model,
        task=wanted.task,
        root=wanted.root,
        images=None if every else chosen,
        progress=_Told(progress),
        **wanted.thresholds,
    )


class _Told(PredictionProgress):
    """Tells a prediction's progress as the other actions do."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def advance(self, images: int) -> None:
        super().advance(images)
        self._progress("Predicting", self.done, self.total)


def _failures(run: Run) -> tuple[str, ...]:
    from workbench.prediction.summary import summary

    result = summary(run)
    first = "".join(f": {failure['image_id']}: {failure['error']}" for failure in result["errors"][:1])
    return (f"{result['failed']} images failed{first}",) if result["failed"] else ()


def _pushed(name: str, run: Run) -> tuple[str, Mapping[str, Any]]:
    """The run's field, and what is in the dataset now."""
    info = existing_target(name).info
    path = str(run.path.resolve())
    return next(field for field, entry in info["runs"].items() if entry["path"] == path), info


def _numbers(run: Run) -> str:
    if not (run.path / "metrics.json").exists():
        return ""
    told = [(key, value) for key, value in headlines(run.metrics()).items() if value is not None][:_HEADLINES_TOLD]
    return " " + ", ".join(f"{key} {100 * value:.1f}" for key, value in told) if told else ""


def _first_view(views: Collection[str]) -> str | None:
    return next(iter(views), None)
