"""`prelabel`: a run's predictions as labels to be corrected in FiftyOne, the images that need it most first."""

import math
import os
from collections.abc import Collection, Sequence
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
from workbench.voxel51 import appearance, database, documents, editing, names, ordering
from workbench.voxel51.documents import Document
from workbench.voxel51.editing import RANK, VIEW, WORTH
from workbench.voxel51.ordering import Order
from workbench.voxel51.push import Progress, check_categories
from workbench.voxel51.target import Target, detections_document, open_target, polylines_document

BANDS = (0.7, 0.9)
"""Where medium and high confidence begin."""
_IMAGES_PER_CHUNK = 256


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
    field: str = names.LABEL_EDITS
    """Where the labels are."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out, in words."""
        notes = []
        if self.labelled:
            notes.append(f"{self.labelled} images have ground truth and are left out (--labelled takes them too)")
        if self.kept:
            notes.append(f"{self.kept} images have pre-labels, corrected perhaps, and keep them (--yes replaces them)")
        return tuple(notes)


@database.told_if_it_fails()
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
    polygons: float | None = None,
    images: Collection[str] | None = None,
) -> Prelabelled:
    """Put a run's segments into the field `label_edits` of a dataset's FiftyOne dataset, ready for editing.

    Each object of at least `min_score` becomes a `Detection` (of a semantic run: one a class) tagged by its band of
    confidence; samples get `prelabel_worth` and `prelabel_rank` by `order` (see `ordering`), and a saved view in that
    order. Images that have ground truth are left out unless `labelled`, and those that have pre-labels keep them unless
    `replace`. With `polygons`, a tolerance in pixels, they are `Polyline` objects of the field `polygon_edits` instead,
    their outlines simplified by at most that much (see `workbench.polygons`). `images` are ids: only those are taken.

    Raises OptionError for an order that the runs do not allow, FiftyOneError as `push` does, and RunError for a run of
    which images are lost.
    """
    truth = dataset if isinstance(dataset, Dataset) else open_dataset(catalog.find(dataset))
    opened = run if isinstance(run, Run) else Run.open(run)
    second = second_run if second_run is None or isinstance(second_run, Run) else Run.open(second_run)
    if not 0 <= bands[0] <= bands[1] <= 1:
        raise OptionError(f"bands {bands}: two scores between 0 and 1, the lower first.")
    if not math.isfinite(min_score):
        raise OptionError(f"min_score {min_score}: a number.")
    if polygons is not None and not (math.isfinite(polygons) and polygons >= 0):
        raise OptionError(f"polygons {polygons}: a tolerance in pixels, 0 or more.")
    for used in (opened, second):
        if used is not None:
            used.check_whole()
    of_run = _images(truth, opened, images)
    unlabelled = of_run if labelled else _without_ground_truth(of_run, truth, opened)
    if not len(unlabelled):
        raise FiftyOneError(
            f"nothing to pre-label: all {len(of_run)} images of {opened.path} have ground truth. To take them all the "
            "same: --labelled."
        )
    target = open_target(truth, truth.categories or opened.categories, name)
    check_categories(target, opened)
    field = _declare(target, polygons)
    target.add_images(_records(truth, unlabelled), _sizes(unlabelled))
    todo = unlabelled if replace else _without_prelabels(unlabelled, target, field)
    ids: list[str] = todo["image_id"].to_pylist()
    by = _register(target, opened, min_score, order, polygons)
    valued = {*ids, *_without_worth(target, field, by)}
    in_order = [image_id for image_id in unlabelled["image_id"].to_pylist() if image_id in valued]
    worth = ordering.worth(opened, in_order, min_score, order, second)
    target.save_info()
    writing = _Writing(target, field, by, polygons, bands, progress or (lambda what, done, total: None))
    objects = writing.write(opened, ids, min_score)
    _write_order(target, worth)
    view = editing.set_up(target, field)
    appearance.dress(target)
    left_out, kept = len(of_run) - len(unlabelled), len(unlabelled) - len(todo)
    return Prelabelled(target.dataset.name, str(opened.path), len(ids), objects, left_out, kept, view, field)


def offered_documents(
    table: pa.Table, image_ids: Sequence[str], by: str, labels: dict[int, str], polygons: float | None
) -> list[list[Document]]:
    """For each image the objects as they are offered for editing, without tags: masks, or polygons of a tolerance."""
    if polygons is None:
        return documents.detections(table, image_ids, by, labels)
    return documents.polylines(table, image_ids, by, labels, polygons)


def _band(score: float | None, bands: tuple[float, float]) -> str:
    if score is None:
        return "unknown"
    return "high" if score >= bands[1] else "medium" if score >= bands[0] else "low"


def _declare(target: Target, polygons: float | None) -> str:
    """The field that the labels go into, there from now on."""
    if polygons is None:
        field = names.LABEL_EDITS
        target.declare_detections(field)
    else:
        field = names.POLYGON_EDITS
        target.declare_polylines(field)
    target.declare_values({names.PRELABELLED_BY[field]: "StringField", WORTH: "FloatField", RANK: "IntField"})
    return field


def _images(dataset: Dataset, run: Run, chosen: Collection[str] | None) -> pa.Table:
    images = run.images().sort_by("ordinal")
    images = images.filter(pc.equal(images["status"], "ok"))
    known = {record.image_id for record in dataset.images()}
    strangers = [image_id for image_id in images["image_id"].to_pylist() if image_id not in known]
    if strangers:
        raise FiftyOneError(f"{run.path}: image {strangers[0]} is not in dataset {dataset.definition.name}.")
    if chosen is None:
        return images
    images = images.filter(pc.is_in(images["image_id"], pa.array(list(chosen), pa.string())))
    if not len(images):
        raise FiftyOneError(f"{run.path}: it has predictions for none of the {len(chosen)} chosen images.")
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


def _without_prelabels(images: pa.Table, target: Target, field: str) -> pa.Table:
    image_ids, by = target.dataset.values([names.IMAGE_ID, names.PRELABELLED_BY[field]])
    done = [image_id for image_id, run in zip(image_ids, by, strict=True) if run is not None]
    return images.filter(pc.invert(pc.is_in(images["image_id"], pa.array(done, pa.string()))))


def _without_worth(target: Target, field: str, by: str) -> list[str]:
    """Images with pre-labels of that name, but without a worth, which comes last: an earlier attempt was cut short."""
    rows = zip(*target.dataset.values([names.IMAGE_ID, names.PRELABELLED_BY[field], WORTH]), strict=True)
    return [image_id for image_id, run, worth in rows if run == by and worth is None]


def _records(dataset: Dataset, images: pa.Table) -> list[Any]:
    of_id = {record.image_id: record for record in dataset.images()}
    return [of_id[image_id] for image_id in images["image_id"].to_pylist()]


def _sizes(images: pa.Table) -> dict[str, tuple[int, int] | None]:
    rows = zip(*(images[name].to_pylist() for name in ("image_id", "height", "width")), strict=True)
    return {image_id: (height, width) for image_id, height, width in rows}


def _register(target: Target, run: Run, min_score: float, order: Order, polygons: float | None) -> str:
    """Remember which run these pre-labels come from; returns the name it goes by."""
    known = target.info.setdefault("prelabels", {})
    about = {"path": str(run.path.resolve()), "task": run.task, "min_score": min_score, "polygons": polygons}
    identity, about = about, {**about, "order": order}
    for name, other in known.items():
        if {key: other.get(key) for key in identity} == identity:
            known[name] = about
            return str(name)
    name = names.run_field(run.path.resolve().name, target.info["dataset"], known)
    known[name] = about
    return name


@dataclass(frozen=True)
class _Writing:
    """Objects on their way into a field."""

    target: Target
    field: str
    by: str
    polygons: float | None
    bands: tuple[float, float]
    progress: Progress

    def write(self, run: Run, ids: list[str], min_score: float) -> int:
        """Offer the run's objects of those images; returns how many they are."""
        objects = 0
        starts = range(0, len(ids), _IMAGES_PER_CHUNK)
        for start, table in zip(starts, ordering.chunks(run, ids, min_score), strict=True):
            chunk = ids[start : start + _IMAGES_PER_CHUNK]
            objects += self._write_chunk(chunk, table)
            self.progress("Writing pre-labels", min(start + _IMAGES_PER_CHUNK, len(ids)), len(ids))
        return objects

    def _write_chunk(self, ids: list[str], table: pa.Table) -> int:
        found = offered_documents(table, ids, self.by, self.target.labels, self.polygons)
        for document in (document for objects in found for document in objects):
            document["tags"] = [f"confidence:{_band(document.get('confidence'), self.bands)}"]
        as_value = detections_document if self.polygons is None else polylines_document
        self.target.write(self.field, {i: as_value(objects) for i, objects in zip(ids, found, strict=True)})
        self.target.write(names.PRELABELLED_BY[self.field], dict.fromkeys(ids, self.by))
        return sum(map(len, found))


def _write_order(target: Target, worth: dict[str, float]) -> None:
    """Keep the worth of these images, and rank all that have one: larger first, ties by id."""
    target.write(WORTH, worth)
    image_ids, values = target.dataset.values([names.IMAGE_ID, WORTH])
    valued = [(image_id, value) for image_id, value in zip(image_ids, values, strict=True) if value is not None]
    valued.sort(key=lambda pair: (-pair[1], pair[0]))
    target.write(RANK, {image_id: rank for rank, (image_id, _) in enumerate(valued, start=1)})
