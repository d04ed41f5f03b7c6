"""`prelabel`: a run's predictions as labels to be corrected in FiftyOne, the images that need it most first."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from workbench import catalog, ground_truth
from workbench.errors import FiftyOneError, OptionError
from workbench.formats import open_dataset
from workbench.formats.base import Dataset, Task
from workbench.runs import Run
from workbench.segments import void_mask
from workbench.voxel51 import appearance, documents, names, ordering
from workbench.voxel51.documents import Document
from workbench.voxel51.ordering import Order
from workbench.voxel51.push import Progress, check_categories
from workbench.voxel51.target import Target, detections_document, open_target

BANDS = (0.7, 0.9)
"""Where medium and high confidence begin."""
PRELABELLED_BY = "prelabelled_by"
"""The sample field that says which of `info["prelabels"]` an image's labels come from."""
WORTH, RANK = "prelabel_worth", "prelabel_rank"
VIEW = "pre-labels: most worth a look first"
_IMAGES_PER_CHUNK = 256
_EDITABLE = ("id", "tags", "iscrowd", "confidence")  # the other attributes are ours, and follow from the mask


@dataclass(frozen=True)
class Prelabelled:
    """What there is to correct now."""

    name: str
    """Of the FiftyOne dataset."""
    run: str
    images: int
    """That got pre-labels."""
    objects: int
    labelled: int
    """Images left out because they have ground truth."""
    kept: int
    """Images left as they are because they have pre-labels already, corrected perhaps."""
    view: str = VIEW

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out, in words."""
        notes = []
        if self.labelled:
            notes.append(f"{self.labelled} images have ground truth and are left out (--labelled takes them too)")
        if self.kept:
            notes.append(f"{self.kept} images have pre-labels, corrected perhaps, and keep them (--yes replaces them)")
        return tuple(notes)


def prelabel(
    dataset: Dataset | str,
    run: Run | str | os.PathLike[str],
    min_score: float = 0.0,
    order: Order = "uncertainty",
    second_run: Run | str | os.PathLike[str] | None = None,
    bands: tuple[float, float] = BANDS,
    labelled: bool = False,
    replace: bool = False,
    name: str | None = None,
    progress: Progress | None = None,
) -> Prelabelled:
    """Put a run's segments into the field `label_edits` of a dataset's FiftyOne dataset, ready for editing.

    Each object of at least `min_score` becomes a `Detection` (of a semantic run: one a class) tagged by its band of
    confidence; samples get `prelabel_worth` and `prelabel_rank` by `order` (see `ordering`), and a saved view in that
    order. Images that have ground truth are left out unless `labelled`, and those that have pre-labels keep them unless
    `replace`.

    Raises OptionError for an order that the runs do not allow, FiftyOneError as `push` does.
    """
    truth = dataset if isinstance(dataset, Dataset) else open_dataset(catalog.find(dataset))
    opened = run if isinstance(run, Run) else Run.open(run)
    second = second_run if second_run is None or isinstance(second_run, Run) else Run.open(second_run)
    if not 0 <= bands[0] <= bands[1] <= 1:
        raise OptionError(f"bands {bands}: two scores between 0 and 1, the lower first.")
    images = _images(truth, opened)
    unlabelled = images if labelled else _without_ground_truth(images, truth, opened)
    if not len(unlabelled):
        raise FiftyOneError(
            f"nothing to pre-label: all {len(images)} images of {opened.path} have ground truth. To take them all the "
            "same: --labelled."
        )
    target = open_target(truth, truth.categories or opened.categories, name)
    check_categories(target, opened)
    _declare(target)
    target.add_images(_records(truth, unlabelled), _sizes(unlabelled))
    todo = unlabelled if replace else _without_prelabels(unlabelled, target)
    ids: list[str] = todo["image_id"].to_pylist()
    worth = ordering.worth(opened, ids, min_score, order, second)
    by = _register(target, opened, min_score, order)
    objects = _write(target, opened, ids, min_score, bands, by, progress or (lambda what, done, total: None))
    _write_order(target, worth)
    _set_up_editing(target)
    left_out, kept = len(images) - len(unlabelled), len(unlabelled) - len(todo)
    return Prelabelled(target.dataset.name, str(opened.path), len(ids), objects, left_out, kept)


def prelabel_documents(
    table: pa.Table, image_ids: Sequence[str], by: str, labels: dict[int, str], bands: tuple[float, float]
) -> list[list[Document]]:
    """For each image the documents as they are offered for editing."""
    found = documents.detections(table, image_ids, by, labels)
    for document in (document for objects in found for document in objects):
        document["tags"] = [f"confidence:{_band(document.get('confidence'), bands)}"]
    return found


def _band(score: float | None, bands: tuple[float, float]) -> str:
    if score is None:
        return "unknown"
    return "high" if score >= bands[1] else "medium" if score >= bands[0] else "low"


def _declare(target: Target) -> None:
    target.declare_detections(names.LABEL_EDITS)
    target.declare_values({PRELABELLED_BY: "StringField", WORTH: "FloatField", RANK: "IntField"})


def _images(dataset: Dataset, run: Run) -> pa.Table:
    images = run.images().sort_by("ordinal")
    images = images.filter(pc.equal(images["status"], "ok"))
    known = {record.image_id for record in dataset.images()}
    strangers = [image_id for image_id in images["image_id"].to_pylist() if image_id not in known]
    if strangers:
        raise FiftyOneError(f"{run.path}: image {strangers[0]} is not in dataset {dataset.definition.name}.")
    return images


def _without_ground_truth(images: pa.Table, dataset: Dataset, run: Run) -> pa.Table:
    task: Task | None = run.task if run.task in dataset.tasks else next(iter(dataset.tasks), None)
    if task is None:
        return images
    store = ground_truth.load(dataset, task)
    ids = images["image_id"].to_pylist()
    labelled: set[str] = set()
    for start in range(0, len(ids), _IMAGES_PER_CHUNK):
        for table in store.chunks([ids[start : start + _IMAGES_PER_CHUNK]]):
            labelled.update(pc.unique(table.filter(~void_mask(table))["image_id"]).to_pylist())
    return images.filter(pc.invert(pc.is_in(images["image_id"], pa.array(sorted(labelled), pa.string()))))


def _without_prelabels(images: pa.Table, target: Target) -> pa.Table:
    image_ids, by = target.dataset.values([names.IMAGE_ID, PRELABELLED_BY])
    done = [image_id for image_id, run in zip(image_ids, by, strict=True) if run is not None]
    return images.filter(pc.invert(pc.is_in(images["image_id"], pa.array(done, pa.string()))))


def _records(dataset: Dataset, images: pa.Table) -> list[Any]:
    of_id = {record.image_id: record for record in dataset.images()}
    return [of_id[image_id] for image_id in images["image_id"].to_pylist()]


def _sizes(images: pa.Table) -> dict[str, tuple[int, int] | None]:
    rows = zip(*(images[name].to_pylist() for name in ("image_id", "height", "width")), strict=True)
    return {image_id: (height, width) for image_id, height, width in rows}


def _register(target: Target, run: Run, min_score: float, order: Order) -> str:
    """Remember which run these pre-labels come from; returns the name it goes by."""
    known = target.info.setdefault("prelabels", {})
    about = {"path": str(run.path.resolve()), "task": run.task, "min_score": min_score, "order": order}
    for name, other in known.items():
        if (other["path"], other["min_score"]) == (about["path"], min_score):
            known[name] = about
            return str(name)
    name = names.run_field(run.path.resolve().name, target.info["dataset"], known)
    known[name] = about
    return name


def _write(
    target: Target,
    run: Run,
    ids: list[str],
    min_score: float,
    bands: tuple[float, float],
    by: str,
    progress: Progress,
) -> int:
    objects = 0
    starts = range(0, len(ids), _IMAGES_PER_CHUNK)
    for start, table in zip(starts, ordering.chunks(run, ids, min_score), strict=True):
        chunk = ids[start : start + _IMAGES_PER_CHUNK]
        found = prelabel_documents(table, chunk, by, target.labels, bands)
        target.write(
            names.LABEL_EDITS, {i: detections_document(found_of) for i, found_of in zip(chunk, found, strict=True)}
        )
        target.write(PRELABELLED_BY, dict.fromkeys(chunk, by))
        objects += sum(map(len, found))
        progress("Writing pre-labels", min(start + _IMAGES_PER_CHUNK, len(ids)), len(ids))
    return objects


def _write_order(target: Target, worth: dict[str, float]) -> None:
    """Keep the worth of these images, and rank all that have one: larger first, ties by id."""
    target.write(WORTH, worth)
    image_ids, values = target.dataset.values([names.IMAGE_ID, WORTH])
    valued = [(image_id, value) for image_id, value in zip(image_ids, values, strict=True) if value is not None]
    valued.sort(key=lambda pair: (-pair[1], pair[0]))
    target.write(RANK, {image_id: rank for rank, (image_id, _) in enumerate(valued, start=1)})


def _set_up_editing(target: Target) -> None:
    """Classes and attributes for editing in the App and for `dataset.annotate`, the view, and the looks."""
    dataset = target.dataset
    classes = list(target.labels.values())
    schema = dataset.generate_label_schemas(names.LABEL_EDITS, scan_samples=False)
    shown = [attribute for attribute in schema["attributes"] if attribute["name"] in _EDITABLE]
    dataset.update_label_schema(
        names.LABEL_EDITS, {**schema, "attributes": shown, "classes": classes, "component": "dropdown"}
    )
    dataset.active_label_schemas = [names.LABEL_EDITS]
    target.info["annotate"] = {
        names.LABEL_EDITS: {
            "type": "instances",
            "classes": classes,
            "attributes": {"iscrowd": {"type": "checkbox", "default": False}},
        }
    }
    target.save_info()
    dataset.save_view(VIEW, dataset.exists(PRELABELLED_BY).sort_by(RANK), overwrite=True)
    appearance.dress(target)
