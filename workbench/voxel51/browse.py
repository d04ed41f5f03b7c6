"""`browse`: ground truth and runs of one dataset pushed into FiftyOne, and the App opened on them."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import pyarrow as pa

from workbench import catalog
from workbench.errors import FiftyOneError
from workbench.formats import open_dataset
from workbench.formats.base import Dataset, Task
from workbench.runs import Run
from workbench.voxel51 import appearance, auditing, database, evaluations, names, views
from workbench.voxel51.matches import MatchTable
from workbench.voxel51.push import (
    Predicted,
    Progress,
    Push,
    Pushed,
    Truth,
    check_categories,
    open_truth,
    push_images,
    truth_task,
)
from workbench.voxel51.scoring import Keys, Scored
from workbench.voxel51.target import Target, open_target

RunLike = Run | str | os.PathLike[str]


@dataclass(frozen=True)
class Browsed:
    """What is in FiftyOne now."""

    name: str
    """Of the FiftyOne dataset."""
    images: int
    """Of this push."""
    written: int
    """Labels of this push: objects, or semantic maps."""
    fields: tuple[str, ...]
    views: tuple[str, ...]
    notes: tuple[str, ...]
    dataset: Any = field(repr=False)
    """`fiftyone.Dataset`."""

    def summary(self) -> dict[str, Any]:
        """As JSON has it: without the dataset itself."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self) if entry.name != "dataset"}


@database.told_if_it_fails()
def push(
    runs: Sequence[RunLike] = (),
    dataset: Dataset | str | None = None,
    name: str | None = None,
    progress: Progress | None = None,
    newest: bool = False,
) -> Browsed:
    """Push a dataset's ground truth and runs into one FiftyOne dataset; a second push updates the first.

    Without runs the ground truth alone, of every image; with runs that of their images. All runs are of one dataset:
    the one named, else the first run's. With `newest`, and neither runs nor a dataset, the newest run. Runs that
    `workbench evaluate` has scored bring every object's match, the numbers for the Model Evaluation panel, and saved
    views.

    Raises FiftyOneError where FiftyOne is not installed or holds something else under that `name`, and what opening
    runs and datasets raises.
    """
    opened, truth = _open(runs, dataset, newest)
    for run in opened:
        run.check_whole()
    show = progress or (lambda what, done, total: None)
    categories = truth.categories or (opened[0].categories if opened else ())
    target = open_target(truth, categories, name)
    pushing = _Pushing(target, truth, show)
    for run in opened:
        pushing.push_run(run)
    if not opened:
        pushing.push_ground_truth()
    return pushing.finish()


class _Pushing:
    """The runs of one call, one after the other."""

    def __init__(self, target: Target, dataset: Dataset, progress: Progress) -> None:
        self.target, self.dataset, self.progress = target, dataset, progress
        self.images = self.written = 0
        self.notes: list[str] = []
        self.fields: list[str] = []
        self.views: list[str] = []
        self._records = {record.image_id: record for record in dataset.images()}

    def push_run(self, run: Run) -> None:
        """One run with the ground truth that it is compared with."""
        target = self.target
        check_categories(target, run)
        pred_field = _field_of(target, run)
        task = truth_task(run, self.dataset)
        truth = open_truth(target, self.dataset, task, self.progress) if task else None
        images = self._images_of(run)
        sizes = _sizes(images)
        if truth:
            sizes |= {
                i: size for i, size in _sizes(truth.store.images()).items() if sizes.get(i) is None and i in sizes
            }
        target.add_images([self._records[i] for i in images["image_id"].to_pylist()], sizes)
        self._begin(run, pred_field)
        if task == "semantic" or (task is None and run.task == "semantic"):
            target.declare_segmentation(pred_field)
        else:
            target.declare_detections(pred_field)
        scored = self._evaluation(run, truth, pred_field)
        pushed = push_images(Push(target, truth, Predicted(run, pred_field), scored), images, self.progress)
        if truth and scored:
            self._keep_results(run, truth.task, scored, pushed)
        self._remember(pushed, truth, pred_field, scored.keys if scored else None)

    def push_ground_truth(self) -> None:
        """The dataset's first kind of ground truth, of every image."""
        if not self.dataset.tasks:
            raise FiftyOneError(
                f"{self.dataset.definition.name} has no ground truth to show. Name a run, or make one with "
                f"`workbench predict --dataset {self.dataset.definition.name}`."
            )
        truth = open_truth(self.target, self.dataset, self.dataset.tasks[0], self.progress)
        images = truth.store.images()
        self.target.add_images([self._records[i] for i in images["image_id"].to_pylist()], _sizes(images))
        self._remember(push_images(Push(self.target, truth), images, self.progress), truth)

    def finish(self) -> Browsed:
        """Colour everything, and say what was done."""
        appearance.dress(self.target)
        return Browsed(
            self.target.dataset.name,
            self.images,
            self.written,
            tuple(dict.fromkeys(self.fields)),
            tuple(self.views),
            tuple(self.notes),
            self.target.dataset,
        )

    def _begin(self, run: Run, pred_field: str) -> None:
        """Note whose the field is before it is there: if this push is killed, the next one goes on with that field."""
        about = self.target.info["runs"].get(pred_field, {})
        place = {"path": str(run.path.resolve()), "task": run.task}
        self.target.info["runs"][pred_field] = {**about, **place, "complete": False}
        self.target.save_info()

    def _images_of(self, run: Run) -> pa.Table:
        images = run.images().sort_by("ordinal")
        strangers = [i for i in images["image_id"].to_pylist() if i not in self._records]
        if strangers:
            raise FiftyOneError(
                f"{run.path}: image {strangers[0]} is not in dataset {self.dataset.definition.name}. Name the dataset "
                "that the run was made with."
            )
        return images

    def _evaluation(self, run: Run, truth: Truth | None, pred_field: str) -> Scored | None:
        if truth is None:
            return None
        if not (run.path / "metrics.json").exists():
            self.notes.append(
                f"{run.path} is not evaluated, so its objects carry no matches: run `workbench evaluate {run.path}` "
                "and push again"
            )
            return None
        metric = names.evaluation_key(truth.task, pred_field)
        keys = Keys(metric, names.confusion_key(pred_field), truth.field, pred_field)
        if truth.task == "semantic":
            evaluations.register_maps(self.target, keys)
        else:
            evaluations.register_objects(self.target, keys)
        return Scored(MatchTable(run.path / "matches.parquet", truth.task), keys)

    def _keep_results(self, run: Run, task: Task, scored: Scored, pushed: Pushed) -> None:
        metrics, keys = run.metrics(), scored.keys
        if task == "semantic":
            evaluations.save_maps(self.target, keys, metrics, pushed.pixels)
        else:
            evaluations.save_objects(self.target, keys, run.path, metrics, pushed.tally)
        saved = views.save_views(self.target, keys.pred_field, keys, task, scored.matches.has_error_types)
        self.views += saved if task == "semantic" else auditing.with_suspects(self.target, keys, run, saved)

    def _remember(
        self, pushed: Pushed, truth: Truth | None, pred_field: str | None = None, keys: Keys | None = None
    ) -> None:
        self.images, self.written = self.images + pushed.images, self.written + pushed.written
        info = self.target.info
        if truth:
            info["ground_truth"][truth.field] = {"task": truth.task, "fingerprint": self.dataset.fingerprint()}
            self.fields.append(truth.field)
        if pred_field:
            semantic = truth is not None and truth.task == "semantic"
            of_run = [] if keys is None else [keys.metric] if semantic else [keys.metric, keys.confusion]
            info["runs"][pred_field].update(complete=True, evaluations=of_run)
            self.fields.append(pred_field)
        self.target.save_info()


def dataset_name(runs: Sequence[RunLike], dataset: str | None) -> str:
    """What the FiftyOne dataset of those runs, of that dataset, or of the newest run is called."""
    return _open(runs, dataset, newest=True)[1].definition.name


def _open(runs: Sequence[RunLike], dataset: Dataset | str | None, newest: bool) -> tuple[list[Run], Dataset]:
    opened = [run if isinstance(run, Run) else Run.open(run) for run in runs]
    if isinstance(dataset, Dataset):
        return opened, dataset
    if dataset is not None:
        return opened, open_dataset(catalog.find(dataset))
    if not opened and newest:
        opened = [Run.newest()]
    if not opened:
        raise FiftyOneError("nothing to push: name a run or a dataset.")
    others = sorted({run.dataset.name for run in opened})
    if len(others) > 1:
        raise FiftyOneError(f"the runs are of different datasets ({', '.join(others)}). Push those of one at a time.")
    return opened, open_dataset(opened[0].dataset)


def _field_of(target: Target, run: Run) -> str:
    """The field that the run has already, or a new one."""
    path = str(run.path.resolve())
    for name, about in target.info["runs"].items():
        if about["path"] == path:
            return str(name)
    taken = target.dataset.get_field_schema().keys()
    return names.run_field(run.path.resolve().name, target.info["dataset"], taken)


def _sizes(images: pa.Table) -> dict[str, tuple[int, int] | None]:
    rows = zip(*(images[name].to_pylist() for name in ("image_id", "height", "width")), strict=True)
    return {image_id: None if height is None else (height, width) for image_id, height, width in rows}
