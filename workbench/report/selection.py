"""Which images and segments a report shows: the worst first, few of each kind, no image twice where others will do."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from workbench.evaluation.keeping import MATCHES, PER_IMAGE
from workbench.evaluation.per_image import NO_CATEGORY
from workbench.evaluation.per_image_quality import qualities
from workbench.formats.base import Task
from workbench.report.words import ERROR_TYPES

_BY_STATUS = {"fp": ("prediction", "False positives"), "fn": ("ground_truth", "False negatives")}
"""What stands in for error types in runs that were evaluated before there were any."""
_ROWS_LOOKED_AT = 400  # of one error type, the gravest: enough for other images where one image has many


@dataclass(frozen=True)
class WorstImage:
    """An image by its quality (PQ of all its segments as one class, mean IoU for the other tasks), 0..1."""

    image_id: str
    quality: float
    tp: int | None
    fp: int | None
    fn: int | None


@dataclass(frozen=True)
class ErrorExample:
    """One segment that went wrong, on the side of the predictions or of the ground truth, and its counterpart."""

    image_id: str
    kind: str
    segment_id: int
    category_id: int
    score: float | None
    area: int
    other_segment_id: int | None
    iou: float | None


@dataclass(frozen=True)
class ErrorGroup:
    """The gravest examples of one error type, out of `total`."""

    name: str
    kind: str
    total: int
    examples: tuple[ErrorExample, ...]

    @property
    def has_scores(self) -> bool:
        """Whether they are ordered by score; by area otherwise."""
        return any(example.score is not None for example in self.examples)


def worst_images(folder: Path, task: Task, count: int) -> tuple[WorstImage, ...]:
    """The images of the lowest quality, from per_image.parquet."""
    rows = pq.read_table(folder / PER_IMAGE, filters=[("task", "==", task)])
    ids = rows.filter(pc.equal(rows["category_id"], NO_CATEGORY))["image_id"].to_pylist()
    quality = qualities(rows, ids)
    order = [i for i in np.argsort(quality, kind="stable").tolist() if not np.isnan(quality[i])][:count]
    sums = _counts(rows, [ids[i] for i in order]) if task != "semantic" else {}
    return tuple(WorstImage(ids[i], float(quality[i]), *sums.get(ids[i], (None, None, None))) for i in order)


def _counts(rows: pa.Table, ids: Sequence[str]) -> dict[str, tuple[int, int, int]]:
    """tp, fp and fn of those images."""
    chosen = rows.filter(pc.is_in(rows["image_id"], pa.array(ids, pa.string())))
    sums = chosen.group_by("image_id").aggregate([(name, "sum") for name in ("tp", "fp", "fn")])
    return {row["image_id"]: (row["tp_sum"], row["fp_sum"], row["fn_sum"]) for row in sums.to_pylist()}


def error_groups(folder: Path, task: Task, count: int) -> tuple[ErrorGroup, ...]:
    """Examples of each error type: predictions of the highest score, missed ground truth of the largest area.

    An older match table has no types; there its false positives and false negatives are the groups.
    """
    has_types = "error_type" in pq.read_schema(folder / MATCHES).names
    rows = pq.read_table(folder / MATCHES, filters=[("task", "==", task), ("status", "in", ["tp", "fp", "fn"])])
    column = rows["error_type"] if has_types else rows["status"]
    groups = []
    for name, kinds in _wanted(has_types):
        for kind in kinds:
            chosen = rows.filter(pc.and_(pc.equal(column, name), pc.equal(rows["kind"], kind)))
            if len(chosen):
                groups.append(ErrorGroup(name, kind, len(chosen), _examples(chosen, kind, count)))
                break  # the other side of the same errors would show them again
    return tuple(groups)


def _wanted(has_types: bool) -> Iterator[tuple[str, tuple[str, ...]]]:
    if has_types:
        yield from ((name, ("prediction", "ground_truth")) for name in ERROR_TYPES)
    else:
        yield from ((name, (kind,)) for name, (kind, _) in _BY_STATUS.items())


def _examples(rows: pa.Table, kind: str, count: int) -> tuple[ErrorExample, ...]:
    gravest = [("score", "descending")] if kind == "prediction" else []
    keys = [*gravest, ("area", "descending"), ("image_id", "ascending"), ("segment_id", "ascending")]
    ordered = rows.take(pc.sort_indices(rows, sort_keys=keys)[:_ROWS_LOOKED_AT]).to_pylist()
    return tuple(_example(row) for row in _spread(ordered, count))


def _spread(rows: Iterable[Mapping[str, Any]], count: int) -> list[Mapping[str, Any]]:
    """The first `count`, those of an image that has one already only after all others."""
    first: list[Mapping[str, Any]] = []
    later: list[Mapping[str, Any]] = []
    seen = set()
    for row in rows:
        (later if row["image_id"] in seen else first).append(row)
        seen.add(row["image_id"])
    return [*first, *later][:count]


def _example(row: Mapping[str, Any]) -> ErrorExample:
    other = row.get("error_segment_id")
    return ErrorExample(
        image_id=row["image_id"],
        kind=row["kind"],
        segment_id=row["segment_id"],
        category_id=row["category_id"],
        score=row["score"],
        area=row["area"],
        other_segment_id=row["matched_segment_id"] if other is None else other,
        iou=row["iou"],
    )
