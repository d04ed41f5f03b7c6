"""Rows of a segment table as numpy columns in one canonical order, so that no score depends on how rows were stored."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from workbench.errors import SegmentTableError
from workbench.segments import VOID_SEGMENT_ID

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Columns = TypeVar("Columns", bound="DataclassInstance")


@dataclass(frozen=True)
class Segments:
    """The segments of some images, ascending by `image`, then by `segment_id`; every column has shape (rows,)."""

    image: NDArray[np.int64]
    """Position of the image in the list that all chunks of an evaluation share."""
    segment_id: NDArray[np.int32]
    ordinal: NDArray[np.int32]
    category_id: NDArray[np.int32]
    iscrowd: NDArray[np.bool_]
    score: NDArray[np.float64]
    """NaN where the table has null."""
    area: NDArray[np.int64]
    """Pixels of the mask."""
    declared_area: NDArray[np.float64]
    """What the file said, else `area`: the official tools read it."""
    bbox: NDArray[np.float64]
    """x, y, w, h in pixels: the one column of shape (rows, 4)."""
    height: NDArray[np.int32]
    width: NDArray[np.int32]
    source_id: NDArray[np.int64]
    """-1 where the table has null."""
    counts: pa.LargeBinaryArray
    """COCO compressed RLE, checked by whoever read the table (`segments.read_parquet`)."""
    image_id: pa.StringArray

    def __len__(self) -> int:
        return len(self.image)

    @property
    def is_void(self) -> NDArray[np.bool_]:
        """Which rows hold an image's void pixels, bool of shape (rows,)."""
        return np.asarray(self.segment_id == VOID_SEGMENT_ID)

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> "Segments":
        """Those rows: by number, in the order given, or by a mask of shape (rows,)."""
        if rows.dtype == np.bool_:
            if rows.all():
                return self
            rows = np.flatnonzero(rows)
        columns = {field.name: getattr(self, field.name) for field in fields(self)}
        return Segments(
            **{
                name: column[rows] if isinstance(column, np.ndarray) else column.take(pa.array(rows))
                for name, column in columns.items()
            }
        )

    def characters(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """All rows' compressed counts one after another, and where each row's begin (rows + 1,)."""
        _, offsets, data = self.counts.buffers()
        starts = np.frombuffer(offsets, dtype=np.int64)[self.counts.offset :][: len(self) + 1]
        characters = np.frombuffer(data or b"", dtype=np.uint8)
        return characters[starts[0] : starts[-1]].copy(), starts - starts[0]

    def rles(self) -> list[dict[str, object]]:
        """The masks as pycocotools takes them."""
        rows = zip(self.height.tolist(), self.width.tolist(), self.counts.to_pylist(), strict=True)
        return [{"size": [height, width], "counts": counts} for height, width, counts in rows]


def segments_of(table: pa.Table, image_ids: Sequence[str], first: int = 0) -> Segments:
    """The table's rows as columns; image `image_ids[i]` gets position `first + i`.

    Raises SegmentTableError for an image that is not among `image_ids`, and for a segment id used twice in an image.
    """
    position = pc.index_in(table["image_id"], value_set=pa.array(image_ids, pa.string()))
    if position.null_count:
        stranger = table["image_id"].filter(position.is_null())[0].as_py()
        raise SegmentTableError(f"image {stranger}: has segments but is not among the images to score.")
    image = position.to_numpy().astype(np.int64) + first
    segment_id = table["segment_id"].to_numpy()
    order = np.lexsort((segment_id, image))
    image, segment_id = image[order], segment_id[order]
    twice = np.flatnonzero((image[1:] == image[:-1]) & (segment_id[1:] == segment_id[:-1]))
    if len(twice):
        where = image_ids[int(image[twice[0]]) - first]
        raise SegmentTableError(f"image {where}: segment id {int(segment_id[twice[0]])} is used more than once.")
    area = table["area"].to_numpy()[order]
    declared = table["declared_area"].to_numpy().astype(np.float64)[order]
    return Segments(
        image=image,
        segment_id=segment_id,
        ordinal=table["ordinal"].to_numpy()[order],
        category_id=table["category_id"].to_numpy()[order],
        iscrowd=table["iscrowd"].to_numpy()[order],
        score=table["score"].to_numpy().astype(np.float64)[order],
        area=area,
        declared_area=np.where(np.isnan(declared), area, declared),
        bbox=_one_chunk(table["bbox"]).flatten().to_numpy().reshape(-1, 4)[order],
        height=table["height"].to_numpy()[order],
        width=table["width"].to_numpy()[order],
        source_id=pc.fill_null(table["source_id"], -1).to_numpy()[order],
        counts=_one_chunk(table["counts"].cast(pa.large_binary())).take(pa.array(order)),
        image_id=_one_chunk(table["image_id"]).take(pa.array(order)),
    )


def join(parts: Sequence[Columns]) -> Columns:
    """One record with the rows of several (at least one), of a dataclass whose fields are all arrays, rows first."""
    names = [field.name for field in fields(parts[0])]
    return type(parts[0])(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


class Gathered(Generic[Columns]):
    """The rows of records that come one after another, in arrays made once: parts kept to be joined would, with the
    holes that they leave between what each chunk needs, take more than twice the memory."""

    def __init__(self, most_rows: int) -> None:
        """`most_rows` bounds the rows of every field; memory is taken for those that come."""
        self._most_rows = most_rows
        self._arrays: dict[str, NDArray[np.generic]] = {}
        self._rows: dict[str, int] = {}
        self._kind: type[Columns] | None = None

    def add(self, part: Columns) -> None:
        """Append a record's rows; all records have the same fields and dtypes."""
        self._kind = type(part)
        for name, rows in ((field.name, getattr(part, field.name)) for field in fields(part)):
            if name not in self._arrays:
                self._arrays[name], self._rows[name] = np.empty((self._most_rows, *rows.shape[1:]), rows.dtype), 0
            begin = self._rows[name]
            self._arrays[name][begin : begin + len(rows)] = rows
            self._rows[name] = begin + len(rows)

    def record(self) -> Columns:
        """All rows of what was added, at least one record, as one; not copied."""
        if self._kind is None:
            raise ValueError("no record has been added: add one first.")
        return self._kind(**{name: array[: self._rows[name]] for name, array in self._arrays.items()})


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    combined = column.combine_chunks()
    return pa.concat_arrays(combined.chunks) if isinstance(combined, pa.ChunkedArray) else combined
