"""A run's match table, read some images at a time: what became of each segment, by image and segment id."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from workbench.formats.base import Task

ERROR_TYPE = "error_type"
_COLUMNS = ("image_id", "kind", "task", "segment_id", "status", "matched_segment_id", "iou")
_GROUPS_KEPT = 2


class Match(NamedTuple):
    """What became of one segment."""

    status: str
    """One of `evaluation.matches.STATUSES`."""
    other: int | None
    """`segment_id` on the other side."""
    iou: float | None
    error: str | None
    """The error type, where the table has them."""


@dataclass(frozen=True)
class ImageMatches:
    """One image's rows, by segment id."""

    prediction: dict[int, Match]
    ground_truth: dict[int, Match]


class MatchTable:
    """Reads `matches.parquet`; memory stays at a few row groups while images come in the table's own order."""

    def __init__(self, path: Path, task: Task) -> None:
        self._file = pq.ParquetFile(path)
        self._task = task
        names = self._file.schema_arrow.names
        self.has_error_types = ERROR_TYPE in names
        self._columns = [*_COLUMNS, ERROR_TYPE] if self.has_error_types else list(_COLUMNS)
        self._groups: dict[str, set[int]] = {}
        for group in range(self._file.num_row_groups):
            rows = self._file.read_row_group(group, columns=["image_id", "task"])
            for image_id in pc.unique(rows["image_id"].filter(pc.equal(rows["task"], task))).to_pylist():
                self._groups.setdefault(image_id, set()).add(group)
        self._read = lru_cache(maxsize=_GROUPS_KEPT)(self._read_uncached)

    def of(self, image_ids: Sequence[str]) -> dict[str, ImageMatches]:
        """The rows of those images; an image without any has empty ones."""
        found = {image_id: ImageMatches({}, {}) for image_id in image_ids}
        for row in self._rows(image_ids):
            image = found[row["image_id"]]
            side = image.prediction if row["kind"] == "prediction" else image.ground_truth
            side[row["segment_id"]] = Match(row["status"], row["matched_segment_id"], row["iou"], row.get(ERROR_TYPE))
        return found

    def _rows(self, image_ids: Sequence[str]) -> Iterator[dict[str, Any]]:
        wanted = pa.array(image_ids, pa.string())
        for group in sorted({group for image_id in image_ids for group in self._groups.get(image_id, ())}):
            table = self._read(group)
            yield from table.filter(pc.is_in(table["image_id"], value_set=wanted)).to_pylist()

    def _read_uncached(self, group: int) -> pa.Table:
        table = self._file.read_row_group(group, columns=self._columns)
        return table.filter(pc.equal(table["task"], self._task))
