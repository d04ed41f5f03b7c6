"""`pull`: corrected labels out of FiftyOne, checked, and written as ground truth with a definition of its own."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as column
from pathlib import Path
from typing import Any, Literal, get_args

import pyarrow as pa
import pyarrow.compute as pc

from workbench import catalog, ground_truth
from workbench.errors import FiftyOneError, OptionError, did_you_mean
from workbench.formats import open_dataset
from workbench.formats.base import Dataset, Task
from workbench.runs import Run
from workbench.segments import concat
from workbench.store import SegmentStore
from workbench.voxel51 import documents, edits, names, ordering, overlaps, pulled_files
from workbench.voxel51.edits import Label, Problem
from workbench.voxel51.prelabel import PRELABELLED_BY
from workbench.voxel51.pulled_files import EDIT_SCHEMA, segment_rows
from workbench.voxel51.push import Progress
from workbench.voxel51.target import Target, existing_target

Overlap = Literal["refuse", "edited"]
OVERLAPS: tuple[Overlap, ...] = get_args(Overlap)
REVIEWED = "reviewed"
"""The sample tag of images that somebody has looked at."""
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


@dataclass(frozen=True)
class _Source:
    """Where the labels of some images came from."""

    store: SegmentStore
    task: Task
    by: str
    """What object ids are made from."""
    min_score: float | None
    """Of pre-labels; None for ground truth."""


def pull(
    dataset: Dataset | str,
    out: Path,
    field: str = names.LABEL_EDITS,
    reviewed: bool = False,
    overlap: Overlap = "refuse",
    overwrite: bool = False,
    name: str | None = None,
    progress: Progress | None = None,
) -> Pulled:
    """Write the labels in a FiftyOne field as ground truth: `out` is the new definition, a .toml file.

    The files go into the folder of the same stem beside it: COCO instances, COCO panoptic, or ADE20K label maps with a
    class table, by what the labels were made from; images as links; `edits.parquet` with a row for each object, and
    `pull.json` with the counts. `field` is `label_edits`, or a field of ground truth. With `reviewed` only the samples
    tagged `reviewed` are taken. `overlap` says what happens where segments of a panoptic or semantic map overlap.

    Raises FiftyOneError listing what is wrong with the labels, and TransferError for files that are there already,
    unless `overwrite`.
    """
    if overlap not in OVERLAPS:
        raise OptionError(f"unknown way with overlaps {overlap!r}. {did_you_mean(overlap, OVERLAPS)}")
    truth = dataset if isinstance(dataset, Dataset) else open_dataset(catalog.find(dataset))
    target = existing_target(name or truth.definition.name)
    sources = _sources(target, truth, field, reviewed)
    task = _one_task(sources, field)
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

    def tables(self, sources: Sequence[tuple[_Source, pa.Table]]) -> Iterator[tuple[pa.Table, pa.Table]]:
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

    def _chunk(self, source: _Source, images: pa.Table) -> tuple[pa.Table, list[Problem]]:
        ids: list[str] = images["image_id"].to_pylist()
        original = next(iter(source.store.chunks([ids])))
        original = ordering.kept(original, source.min_score or 0.0)
        offered = self._offered(original, ids, source)
        stored = self.target.read(self.name, ids)
        problems: list[Problem] = []
        rows, records = [], []
        for image in images.to_pylist():
            image_id, size_hw = image["image_id"], (image["height"], image["width"])
            objects = (stored[image_id] or {}).get("detections") or []
            labels, deleted, found = edits.compare(objects, offered[image_id], size_hw, self._categories, image_id)
            labels, clashes = self._without_overlaps(labels, size_hw, image_id)
            problems += [*found, *clashes]
            image_rows, image_records = segment_rows(
                image_id, size_hw, labels, deleted, self._isthing, self.target.labels
            )
            rows += image_rows
            records += image_records
        self.edits.append(pulled_files.edit_table(records))
        return pulled_files.table_of(rows), problems

    def _offered(
        self, original: pa.Table, ids: Sequence[str], source: _Source
    ) -> dict[str, list[tuple[documents.Document, Mapping[str, Any]]]]:
        found: dict[str, list[tuple[documents.Document, Mapping[str, Any]]]] = {image_id: [] for image_id in ids}
        by_segment = {(row["image_id"], row["segment_id"]): row for row in original.to_pylist()}
        made = documents.detections(original, ids, source.by, self.target.labels)
        for image_id, objects in zip(ids, made, strict=True):
            found[image_id] = [(document, by_segment[image_id, document["segment_id"]]) for document in objects]
        return found

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


def _sources(target: Target, dataset: Dataset, name: str, reviewed: bool) -> list[tuple[_Source, pa.Table]]:
    """Where the field's labels came from, each with the images that it gave them to."""
    samples = target.dataset.match_tags(REVIEWED) if reviewed else target.dataset
    if name != names.LABEL_EDITS:
        return [_ground_truth_source(target, dataset, name, samples)]
    if not target.info.get("prelabels"):
        raise FiftyOneError(
            f"FiftyOne dataset {target.dataset.name!r} has no pre-labels. Make some with `workbench prelabel`, or name "
            "another field with --field."
        )
    image_ids, by = samples.values([names.IMAGE_ID, PRELABELLED_BY])
    found = []
    for key, about in target.info["prelabels"].items():
        ids = [image_id for image_id, run in zip(image_ids, by, strict=True) if run == key]
        if ids:
            run = Run.open(about["path"])
            source = _Source(run.store, run.task, key, about["min_score"])
            found.append((source, _in_order(run.images(), ids)))
    return _not_empty(found, target, reviewed)


def _ground_truth_source(target: Target, dataset: Dataset, name: str, samples: Any) -> tuple[_Source, pa.Table]:
    known = target.info["ground_truth"]
    if name not in known:
        raise FiftyOneError(
            f"field {name!r} holds no labels to pull. {did_you_mean(name, [names.LABEL_EDITS, *known])}"
        )
    task: Task = known[name]["task"]
    if task == "semantic":
        raise FiftyOneError(
            f"field {name!r} holds semantic maps, which FiftyOne's App cannot edit. Pre-label with a semantic run: its "
            f"classes become objects of {names.LABEL_EDITS!r} that can be."
        )
    if known[name]["fingerprint"] != dataset.fingerprint():
        raise FiftyOneError(
            f"the annotations of {dataset.definition.name} have changed since field {name!r} was pushed, so nobody can "
            "tell edits from that. Push again with `workbench browse` first."
        )
    store = ground_truth.load(dataset, task)
    ids = samples.exists(name).values(names.IMAGE_ID)
    return _Source(store, task, name, None), _in_order(store.images(), ids)


def _in_order(images: pa.Table, ids: Sequence[str]) -> pa.Table:
    wanted = images.filter(pc.is_in(images["image_id"], pa.array(ids, pa.string())))
    return wanted.filter(pc.is_valid(wanted["height"])).sort_by("ordinal")


def _not_empty(found: list[tuple[_Source, pa.Table]], target: Target, reviewed: bool) -> list[tuple[_Source, pa.Table]]:
    if not found:
        tag = f" with the tag {REVIEWED!r}" if reviewed else ""
        raise FiftyOneError(f"FiftyOne dataset {target.dataset.name!r} has no pre-labelled images{tag}.")
    return found


def _one_task(sources: Sequence[tuple[_Source, pa.Table]], name: str) -> Task:
    tasks = sorted({source.task for source, _ in sources})
    if len(tasks) > 1:
        raise FiftyOneError(
            f"field {name!r} holds pre-labels of {' and '.join(tasks)} runs, and one file holds one kind. Pre-label "
            "all images with runs of one task."
        )
    return tasks[0]


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
