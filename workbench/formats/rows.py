"""Rows on their way into a segment table: one image's segments, and many images' as tables."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa

from workbench.formats.base import ImageRecord
from workbench.formats.problems import Problem
from workbench.label_map_rle import compress_runs
from workbench.segments import VOID_CATEGORY_ID, VOID_SEGMENT_ID, image_table, segment_table

Box = tuple[float, float, float, float]


class Segment(NamedTuple):
    """The columns of one row that differ within an image; see `segments.SEGMENT_SCHEMA`."""

    segment_id: int
    ordinal: int
    category_id: int
    isthing: bool
    iscrowd: bool
    area: int
    declared_area: float | None
    bbox: Box
    counts: bytes
    source_id: int | None


@dataclass(frozen=True)
class Entry:
    """One image of an annotation source: what `GroundTruthSource.convert` needs to read it."""

    record: ImageRecord
    ordinal: int
    """Position in the annotation file's own list."""
    annotation: Any = None


@dataclass(frozen=True)
class Converted:
    """The segments of one image, and what was wrong with its annotations."""

    segments: list[Segment]
    size_hw: tuple[int, int] | None
    """None only beside a problem that is refused."""
    problems: list[Problem]


class GroundTruthSource(Protocol):
    """Annotations of one kind, opened."""

    problems: list[Problem]
    """What was found without opening a picture."""
    entries: list[Entry]
    """The images that it annotates, ascending by `ordinal`."""

    def pictures(self) -> Iterator[Path]:
        """The label maps that it reads. Raises DatasetError for a name that leads out of its folder."""
        ...

    def convert(self, entry: Entry) -> Converted:
        """Read one image's annotations. Never raises for what is wrong with them: that is in `problems`."""
        ...


def void_row(ordinal: int, area: int, bbox: Box, counts: bytes) -> Segment:
    """The row that holds an image's unlabelled pixels; it comes after the others."""
    return Segment(VOID_SEGMENT_ID, ordinal, VOID_CATEGORY_ID, False, False, area, None, bbox, counts, None)


def empty_counts(size_hw: tuple[int, int]) -> bytes:
    """The RLE of a mask of that (height, width) without a pixel."""
    return compress_runs(np.array([size_hw[0] * size_hw[1]]), np.array([0, 1]))[0]


def to_tables(converted: Sequence[tuple[Entry, Converted]]) -> tuple[pa.Table, pa.Table]:
    """(segment table, image table) of images that were read without a refused problem."""
    ids, heights, widths, segments = [], [], [], []
    for entry, image in converted:
        assert image.size_hw is not None, "a problem was not refused"
        count = len(image.segments)
        ids += [entry.record.image_id] * count
        heights += [image.size_hw[0]] * count
        widths += [image.size_hw[1]] * count
        segments += image.segments
    columns = dict(zip(Segment._fields, zip(*segments, strict=True), strict=True)) if segments else _NO_COLUMNS
    table = segment_table({**columns, "image_id": ids, "height": heights, "width": widths})
    return table, _image_table(converted)


_NO_COLUMNS: dict[str, Sequence[Any]] = dict.fromkeys(Segment._fields, ())


def _image_table(converted: Sequence[tuple[Entry, Converted]]) -> pa.Table:
    sizes = [image.size_hw or (None, None) for _, image in converted]
    return image_table(
        {
            "image_id": [entry.record.image_id for entry, _ in converted],
            "file_name": [entry.record.file_name for entry, _ in converted],
            "height": [height for height, _ in sizes],
            "width": [width for _, width in sizes],
            "ordinal": [entry.ordinal for entry, _ in converted],
            "status": ["ok"] * len(converted),
        }
    )
