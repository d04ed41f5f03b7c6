"""The one data model: a segment table, one row a segment, and the image table beside it.

Ground truth, predictions of all three tasks, pre-labels and corrected labels are all segment tables: Arrow in memory,
Parquet on disk. Anyone can read the files without us: `pandas.read_parquet(run / "predictions")` and pycocotools
suffice, since `{"size": [height, width], "counts": counts}` is a COCO RLE.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from workbench import rle
from workbench.errors import SegmentTableError

SCHEMA_VERSION = 1
VOID_SEGMENT_ID = 0
VOID_CATEGORY_ID = -1
"""The category of a ground truth's void row (`segment_id` 0): no dataset uses it, while 0 is CamVid's sky."""

_VERSION_KEY = b"workbench.schema_version"
_METADATA = {_VERSION_KEY: str(SCHEMA_VERSION).encode()}

SEGMENT_SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),  # the dataset's own key
        pa.field("segment_id", pa.int32(), nullable=False),  # 1.. within the image, ascending source id; 0 is void
        pa.field("ordinal", pa.int32(), nullable=False),  # position within its image in the source file, from 0
        pa.field("category_id", pa.int32(), nullable=False),  # the dataset's own id, gaps and all; -1 for void
        pa.field("isthing", pa.bool_(), nullable=False),
        pa.field("iscrowd", pa.bool_(), nullable=False),
        pa.field("score", pa.float64()),  # null for ground truth
        pa.field("area", pa.int64(), nullable=False),  # mask pixels, counted
        pa.field("declared_area", pa.float64()),  # what the annotation file said; null where it said nothing
        pa.field("bbox", pa.list_(pa.float64(), 4), nullable=False),  # x, y, w, h in pixels
        pa.field("height", pa.int32(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("counts", pa.binary(), nullable=False),  # COCO compressed RLE, column-major
        pa.field("source_id", pa.int64()),  # the id in the source file; null for a model's predictions
    ],
    metadata=_METADATA,
)

DAMAGED_PARQUET = (pa.ArrowException, OSError, ValueError, KeyError, OverflowError)
"""What pyarrow raises for files that are no Parquet, or a broken one."""

CANDIDATE_SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("query", pa.int32(), nullable=False),  # its number in the model's output
        pa.field("category_id", pa.int32(), nullable=False),
        pa.field("isthing", pa.bool_(), nullable=False),
        pa.field("score", pa.float64(), nullable=False),  # falling within an image, of equals the lower query first
        pa.field("area", pa.int64(), nullable=False),  # mask pixels
        pa.field("height", pa.int32(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("counts", pa.binary(), nullable=False),  # its mask, as a segment's
        pa.field("gains", pa.binary(), nullable=False),  # pixels it wins against all before it, in the same code
    ],
    metadata=_METADATA,
)
"""Candidates of a panoptic run, segments or not: see docs/segment-table.md."""

IMAGE_SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("file_name", pa.string(), nullable=False),
        pa.field("height", pa.int32()),  # null where the image could not be read
        pa.field("width", pa.int32()),
        pa.field("ordinal", pa.int32(), nullable=False),  # position in the dataset's list of images
        pa.field("status", pa.string(), nullable=False),  # "ok" or "failed"
        pa.field("error", pa.string()),  # why it failed
    ],
    metadata=_METADATA,
)


def segment_table(columns: Mapping[str, Any]) -> pa.Table:
    """A segment table from columns (lists or arrays of one length); absent nullable columns become null.

    Raises SegmentTableError for a missing column, an unknown one, or values that the schema's types cannot hold.
    """
    return _table(columns, SEGMENT_SCHEMA)


def image_table(columns: Mapping[str, Any]) -> pa.Table:
    """An image table from columns, as `segment_table`."""
    return _table(columns, IMAGE_SCHEMA)


def candidate_table(columns: Mapping[str, Any]) -> pa.Table:
    """A table of candidates from columns, as `segment_table`."""
    return _table(columns, CANDIDATE_SCHEMA)


def concat(tables: Sequence[pa.Table], schema: pa.Schema = SEGMENT_SCHEMA) -> pa.Table:
    """The tables' rows one after another; an empty table of `schema` when there are none."""
    # Of no batches and not `empty_table()`, which imports pandas: 0.3 seconds.
    return pa.concat_tables(tables) if tables else pa.Table.from_batches([], schema)


def write_parquet(table: pa.Table, path: Path) -> None:
    """Write one Parquet file (zstd), its pages with checksums. The caller makes it appear atomically: see `runs.py`."""
    # A flipped bit in a score is a score like any other: neither zstd nor the check of masks would notice. Headers and
    # footers have no checksums. Measured: 3 to 11 % of the time to write, 11 to 15 % of reading without any check.
    pq.write_table(table, path, compression="zstd", write_statistics=True, write_page_checksum=True)


def read_parquet(paths: Iterable[Path], schema: pa.Schema = SEGMENT_SCHEMA) -> pa.Table:
    """The rows of Parquet files written with `schema`, in the order of `paths`, every RLE checked.

    Raises SegmentTableError for a file that is no Parquet, or whose pages do not match their checksums, a newer schema
    version, other columns, or a broken RLE.
    """
    return concat([_read_one(path, schema) for path in paths], schema)


def check_rle(table: pa.Table, origin: str) -> rle.Runs:
    """Every row's run lengths, known to sum to height x width and to the row's area; `origin` is named in the error."""
    runs = _checked_runs(table, "counts", origin)
    areas = runs.areas()
    wrong = np.flatnonzero(areas != table["area"].to_numpy())
    if len(wrong):
        row = int(wrong[0])
        raise SegmentTableError(
            f"{origin}: row {row}: area is {table['area'][row].as_py()}, its mask has {areas[row]} pixels. "
            "Write the file again."
        )
    return runs


def _checked_runs(table: pa.Table, column: str, origin: str) -> rle.Runs:
    try:
        runs = rle.parse_runs(table[column])
        rle.check(runs, _pixels(table, origin))
    except rle.RleError as error:
        raise SegmentTableError(f"{origin}: {error}. Write the file again, or leave the row out.") from error
    return runs


def _pixels(table: pa.Table, origin: str) -> NDArray[np.int64]:
    """height x width of each row's image, (rows,): both at least 1, as two negative ones would give pixels too."""
    height, width = (table[name].to_numpy().astype(np.int64) for name in ("height", "width"))
    wrong = np.flatnonzero((height < 1) | (width < 1))
    if len(wrong):
        row = int(wrong[0])
        raise SegmentTableError(
            f"{origin}: row {row}: an image of {height[row]} x {width[row]} pixels (height x width). Write the file "
            "again, or leave the row out."
        )
    return np.asarray(height * width)


def void_mask(table: pa.Table) -> NDArray[np.bool_]:
    """Which rows are void rows, bool of shape (rows,)."""
    return np.asarray(table["segment_id"].to_numpy() == VOID_SEGMENT_ID)


def _table(columns: Mapping[str, Any], schema: pa.Schema) -> pa.Table:
    unknown = set(columns) - set(schema.names)
    missing = {field.name for field in schema if not field.nullable} - set(columns)
    if unknown or missing:
        raise SegmentTableError(f"columns: unknown {sorted(unknown)}, missing {sorted(missing)}")
    rows = len(next(iter(columns.values())))
    arrays = []
    for field in schema:
        values = columns.get(field.name)
        try:
            array = pa.nulls(rows, field.type) if values is None else _array(values, field.type)
            if array.null_count and not field.nullable:
                raise SegmentTableError(
                    f"column {field.name}: it has {array.null_count} empty cells; each row needs one."
                )
            arrays.append(array)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
            raise SegmentTableError(f"column {field.name}: {error}") from error
    return pa.Table.from_arrays(arrays, schema=schema)


def _array(values: Any, kind: pa.DataType) -> pa.Array:
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if isinstance(values, pa.Array):
        return values.cast(kind)
    if pa.types.is_fixed_size_list(kind):
        flat = np.ascontiguousarray(values, dtype=np.float64).reshape(-1)
        return pa.FixedSizeListArray.from_arrays(pa.array(flat), kind.list_size)
    if pa.types.is_integer(kind):
        return pa.array(values).cast(kind)  # a cast refuses fractions, which an array made of them would cut off
    return pa.array(values, type=kind)


def _read_one(path: Path, schema: pa.Schema) -> pa.Table:
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)  # older files have none
        version = int((file.schema_arrow.metadata or {}).get(_VERSION_KEY, b"0"))
        if version > SCHEMA_VERSION:
            raise SegmentTableError(
                f"{path}: written with schema version {version}; this workbench reads up to {SCHEMA_VERSION}. "
                "Upgrade eomt-workbench."
            )
        table = file.read()
        table.validate(full=True)
    except DAMAGED_PARQUET as error:
        raise SegmentTableError(f"{path}: not a readable Parquet file ({error}). Delete it and run again.") from error
    if not table.schema.equals(schema, check_metadata=False):
        raise SegmentTableError(
            f"{path}: its columns are not those of schema version {SCHEMA_VERSION}: {table.schema.names}"
        )
    if "counts" in schema.names and not rle.fit(table["counts"], _pixels(table, str(path)), table["area"].to_numpy()):
        check_rle(table, str(path))
    if "gains" in schema.names:
        _checked_runs(table, "gains", f"{path}, column gains")
    return table
