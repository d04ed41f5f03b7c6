"""`pull`: corrected labels out of FiftyOne, checked, and written as ground truth with a definition of its own."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as column
from pathlib import Path
from typing import Any, Literal, get_args

import pyarrow as pa

from workbench import catalog
from workbench.errors import FiftyOneError, OptionError, did_you_mean
from workbench.formats import open_dataset
from workbench.formats.base import Dataset, Task
from workbench.segments import concat
from workbench.voxel51 import database, edited_maps, edits, ordering, overlaps, pull_sources, pulled_files
from workbench.voxel51.edits import Label, Problem
from workbench.voxel51.prelabel import offered_documents
from workbench.voxel51.pull_sources import Source, Sources
from workbench.voxel51.pulled_files import EDIT_SCHEMA, segment_rows
from workbench.voxel51.push import Progress
from workbench.voxel51.target import Target, existing_target, objects_of

Overlap = Literal["refuse", "edited"]
OVERLAPS: tuple[Overlap, ...] = get_args(Overlap)
_Compared = tuple[list[Label], list[Mapping[str, Any]], list[Problem]]
_IMAGES_PER_CHUNK = 128
_MOST_PROBLEMS_SHOWN = 8


@dataclass(frozen=True)
class Pulled:
    """What came home."""

    definition: Path
    images: int
    counts: dict[str, int]
    """How many objects of each edit; an object that was moved and relabelled counts in both."""
    edits: pa.Table = column(repr=False)
    """One row an object (`pulled_files.EDIT_SCHEMA`)."""

    def summary(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"definition": str(self.definition), "images": self.images, **self.counts}


@database.told_if_it_fails()
def pull(
    dataset: Dataset | str,
    out: Path,
    field: str | None = None,
    reviewed: bool = False,
    overlap: Overlap = "refuse",
    overwrite: bool = False,
    name: str | None = None,
    progress: Progress | None = None,
) -> Pulled:
    """Write the labels in a FiftyOne field as ground truth: `out` is the new definition, a .toml file.

    The files go into the folder of the same stem beside it: COCO instances, COCO panoptic, or ADE20K label maps with a
    class table, by what the labels were made from; images as links; `edits.parquet` with a row for each object, and
    `pull.json` with the counts. `field` is a field of ground truth or of pre-labels: by default the one that holds
    pre-labels, `label_edits` or `polygon_edits`. With `reviewed` only the samples tagged `reviewed` are taken.
    `overlap` says what happens where segments of a panoptic or semantic map overlap.

    Raises FiftyOneError listing what is wrong with the labels, and TransferError for files that are there already,
    unless `overwrite`.
    """
    if overlap not in OVERLAPS:
        raise OptionError(f"unknown way with overlaps {overlap!r}. {did_you_mean(overlap, OVERLAPS)}")
    truth = dataset if isinstance(dataset, Dataset) else open_dataset(catalog.find(dataset))
    target = existing_target(name or truth.definition.name)
    field = field or pull_sources.default_field(target)
    sources = pull_sources.find(target, truth, field, reviewed)
    task = pull_sources.only_task(sources, field)
    reading = _Reading(target, field, task, overlap, progress or (lambda what, done, total: None))
    pulled_files.check(out, overwrite)
    with pulled_files.new_files(out, truth.definition, target.categories, task) as write:
        images = write(reading.tables(sources), {record.image_id: record.path for record in truth.images()})
        table = concat(reading.edits, EDIT_SCHEMA)
        counts = _counts(table)
        write.report(table, {"field": field, "task": task, "images": images, **counts})
    return Pulled(out, images, counts, table)


class _Reading:
    """Goes through the images, and notes what was done to them."""

    def __init__(self, target: Target, name: str, task: Task, overlap: Overlap, progress: Progress) -> None:
        self.target, self.name, self.task, self.overlap, self.progress = target, name, task, overlap, progress
        self.edits: list[pa.Table] = []
        self._categories = {label: category_id for category_id, label in target.labels.items()}
        self._isthing = {category.category_id: category.isthing for category in target.categories}

    def tables(self, sources: Sources) -> Iterator[tuple[pa.Table, pa.Table]]:
        """(segment table, image table) pairs. Raises FiftyOneError, at the end, for labels that cannot be taken."""
        problems: list[Problem] = []
        total, done = sum(len(images) for _, images in sources), 0
        for source, images in sources:
            for begin in range(0, len(images), _IMAGES_PER_CHUNK):
                chunk = images.slice(begin, _IMAGES_PER_CHUNK)
                segments, found = self._chunk(source, chunk)
                problems += found
                done += len(chunk)
                self.progress("Pulling", done, total)
                yield segments, chunk
        if problems:
            raise FiftyOneError(_problem_message(self.name, self.target.dataset.name, problems))

    def _chunk(self, source: Source, images: pa.Table) -> tuple[pa.Table, list[Problem]]:
        ids: list[str] = images["image_id"].to_pylist()
        original = next(iter(source.store.chunks([ids])))
        original = ordering.kept(original, source.min_score)
        compared = (self._maps if source.is_map else self._objects)(original, images, source)
        problems: list[Problem] = []
        rows, records = [], []
        for image in images.to_pylist():
            image_id, size_hw = image["image_id"], (image["height"], image["width"])
            labels, deleted, found = compared[image_id]
            labels, clashes = self._without_overlaps(labels, size_hw, image_id)
            problems += [*found, *clashes]
            image_rows, image_records = segment_rows(
                image_id, size_hw, labels, deleted, self._isthing, self.target.labels
            )
            rows += image_rows
            records += image_records
        self.edits.append(pulled_files.edit_table(records))
        return pulled_files.table_of(rows), problems

    def _objects(self, original: pa.Table, images: pa.Table, source: Source) -> dict[str, _Compared]:
        """The objects of each image against those that were offered."""
        ids: list[str] = images["image_id"].to_pylist()
        row_of = {(row["image_id"], row["segment_id"]): row for row in original.to_pylist()}
        offered = offered_documents(original, ids, source.by, self.target.labels, source.polygons)
        stored = self.target.read(self.name, ids)
        found = {}
        for image, documents in zip(images.to_pylist(), offered, strict=True):
            image_id, size_hw = image["image_id"], (image["height"], image["width"])
            pairs = [(document, row_of[image_id, document["segment_id"]]) for document in documents]
            found[image_id] = edits.compare(objects_of(stored[image_id]), pairs, size_hw, self._categories, image_id)
        return found

    def _maps(self, original: pa.Table, images: pa.Table, source: Source) -> dict[str, _Compared]:
        """The semantic map of each image against the one that was pushed."""
        stored = self.target.read(self.name, images["image_id"].to_pylist())
        rows_of: dict[str, list[Mapping[str, Any]]] = {image_id: [] for image_id in stored}
        for row in original.to_pylist():
            rows_of[row["image_id"]].append(row)
        category_ids = [category.category_id for category in self.target.categories]
        return {
            image["image_id"]: edited_maps.compare(
                stored[image["image_id"]],
                rows_of[image["image_id"]],
                (image["height"], image["width"]),
                category_ids,
                image["image_id"],
            )
            for image in images.to_pylist()
        }

    def _without_overlaps(
        self, labels: list[Label], size_hw: tuple[int, int], image_id: str
    ) -> tuple[list[Label], list[Problem]]:
        if self.task == "instance" or not any(label.is_edited for label in labels):
            return labels, []
        clashes = overlaps.find(labels, size_hw, same_class_may=self.task == "semantic")
        if not clashes or self.overlap == "edited":
            return overlaps.edited_win(labels, size_hw) if clashes else labels, []
        names_of = self.target.labels
        pairs = ", ".join(
            f"{names_of[labels[a].category_id]} and {names_of[labels[b].category_id]}" for a, b in clashes[:3]
        )
        # None of the image's labels go on: the writers refuse overlaps one by one, and here all of them are listed.
        return [], [Problem("overlap", image_id, f"{len(clashes)} pairs of segments overlap: {pairs}")]


def _counts(table: pa.Table) -> dict[str, int]:
    found = Counter(edit for edits_of in table["edits"].to_pylist() for edit in edits_of)
    every = (edits.KEPT, edits.MOVED, edits.RELABELLED, edits.DELETED, edits.ADDED, edits.TRIMMED)
    return {edit: found[edit] for edit in every}


def _problem_message(name: str, dataset_name: str, problems: Sequence[Problem]) -> str:
    shown = [f"  image {p.image_id}: {p.detail} [{p.code}]" for p in problems[:_MOST_PROBLEMS_SHOWN]]
    if len(problems) > len(shown):
        shown.append(f"  ... and {len(problems) - len(shown)} more")
    remedy = "Correct them in FiftyOne"
    if any(problem.code == "overlap" for problem in problems):
        remedy += ", or let edited segments take the pixels with --overlap edited"
    return f"field {name!r} of {dataset_name!r}: {len(problems)} problems\n" + "\n".join(shown) + f"\n{remedy}."
