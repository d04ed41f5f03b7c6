"""A run as the tables of a lake: its shards with the categories' names beside their ids, and a row about the run."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from workbench.errors import TransferError
from workbench.evaluation.keeping import MATCHES, METRICS, PER_CATEGORY
from workbench.evaluation.matches import MATCH_SCHEMA
from workbench.runs import Run
from workbench.segments import DAMAGED_PARQUET, IMAGE_SCHEMA, SEGMENT_SCHEMA, read_parquet
from workbench.storage import ensure

Rows = tuple[pa.Schema, Iterator[pa.Table]]
"""The columns of a table, and its rows a shard at a time."""


def _with_names(schema: pa.Schema) -> pa.Schema:
    """`schema` with the category's name after its id: null for void, and where the run's categories lack it."""
    return schema.insert(schema.get_field_index("category_id") + 1, pa.field("category", pa.string()))


SEGMENTS = _with_names(SEGMENT_SCHEMA).append(pa.field("task", pa.string(), nullable=False))
IMAGES = IMAGE_SCHEMA
MATCH_ROWS = _with_names(MATCH_SCHEMA)
CATEGORIES = pa.schema(
    [
        pa.field("category_id", pa.int32(), nullable=False),
        pa.field("category", pa.string(), nullable=False),
        pa.field("isthing", pa.bool_(), nullable=False),
    ]
)
RUNS = pa.schema(
    [
        pa.field("task", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),  # "predict" or "import"
        pa.field("status", pa.string(), nullable=False),  # "complete" or "incomplete"
        pa.field("model", pa.string()),  # null for an import
        pa.field("images", pa.int64(), nullable=False),
        pa.field("failed_images", pa.int64(), nullable=False),
        pa.field("segments", pa.int64(), nullable=False),
        pa.field("evaluated", pa.bool_(), nullable=False),
        pa.field("identity", pa.string(), nullable=False),  # JSON: whatever decides the rows
    ]
)


def tables_of(run: Run) -> dict[str, Rows]:
    """The tables of a run by name, read as they are iterated; `matches` and `per_category` once it is evaluated."""
    tables = {
        "segments": (SEGMENTS, _segments(run)),
        "images": (IMAGES, _images(run)),
        "categories": (CATEGORIES, iter([_categories(run)])),
    }
    if is_evaluated(run):
        tables["matches"] = (MATCH_ROWS, _matches(run))
        per_category = _file(run.path / PER_CATEGORY)
        tables["per_category"] = (per_category.schema_arrow, _row_groups(per_category))
    return tables


def about(run: Run) -> pa.Table:
    """The run's row of RUNS."""
    row: Mapping[str, Any] = {
        "task": run.task,
        "source": run.manifest.get("source", "predict"),
        "status": run.manifest.get("status", "incomplete"),
        "model": run.manifest["provenance"].get("model"),
        "images": run.store.count_images(),
        "failed_images": sum(pc.sum(pc.not_equal(table["status"], "ok")).as_py() or 0 for table in _images(run)),
        "segments": run.store.count_segments(),
        "evaluated": is_evaluated(run),
        "identity": json.dumps(run.manifest["identity"], sort_keys=True),
    }
    return pa.Table.from_pylist([dict(row)], schema=RUNS)


def is_evaluated(run: Run) -> bool:
    """Whether all of an evaluation's files are there: metrics.json is the last to come."""
    return (run.path / METRICS).exists()


def _segments(run: Run) -> Iterator[pa.Table]:
    store, names = run.store, _names(run)
    ensure(store.segments_folder / part for part in store.parts)
    for part in store.parts:
        table = _named(read_parquet([store.segments_folder / part]), names)
        yield table.append_column(SEGMENTS.field("task"), pa.repeat(run.task, len(table)))


def _images(run: Run) -> Iterator[pa.Table]:
    store = run.store
    return (read_parquet([store.images_folder / part], IMAGES) for part in store.parts)


def _categories(run: Run) -> pa.Table:
    rows = [
        {"category_id": category.category_id, "category": category.name, "isthing": category.isthing}
        for category in run.categories
    ]
    return pa.Table.from_pylist(rows, schema=CATEGORIES)


def _matches(run: Run) -> Iterator[pa.Table]:
    names = _names(run)
    return (_named(table, names) for table in _row_groups(_file(run.path / MATCHES)))


def _names(run: Run) -> pa.Table:
    return _categories(run).select(["category_id", "category"])


def _named(table: pa.Table, names: pa.Table) -> pa.Table:
    rows = pc.index_in(table["category_id"], value_set=names["category_id"].combine_chunks())
    place = table.schema.get_field_index("category_id") + 1
    return table.add_column(place, pa.field("category", pa.string()), names["category"].combine_chunks().take(rows))


def _file(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except DAMAGED_PARQUET as error:
        raise TransferError(
            f"{path}: not a readable Parquet file ({error}). Run `workbench evaluate` again."
        ) from error


def _row_groups(file: pq.ParquetFile) -> Iterator[pa.Table]:
    return (file.read_row_group(group) for group in range(file.num_row_groups))
