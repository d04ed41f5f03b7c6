"""Hive's partition folders: `key=value` in a path, and the Parquet files in one, written row group by row group."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq

from workbench.errors import TransferError

PART_NAME = re.compile(r"part-\d{5}\.parquet")
PART_BYTES = 256 * 2**20
"""A file is closed once it has grown beyond this: large enough for engines that open thousands of them."""
_NAME_BYTES = 255  # of a file name, on the usual file systems
# What Hive and Spark escape in a partition's value, each as % and two hexadecimal digits.
_ESCAPED = re.compile(r'[\x00-\x1f"#%\'*/:=?\\\x7f{\[\]^]')


def partition(values: Mapping[str, str]) -> PurePosixPath:
    """`key=value/key=value`, the values escaped as Hive does. Raises TransferError for a value that is too long."""
    names = [f"{key}={_escape(value)}" for key, value in values.items()]
    for name in names:
        if len(name.encode()) > _NAME_BYTES:
            raise TransferError(f"{name[:60]}...: longer than a folder's name may be. Give the run a shorter name.")
    return PurePosixPath(*names)


def write_parts(folder: Path, tables: Iterable[pa.Table], schema: pa.Schema, part_bytes: int = PART_BYTES) -> None:
    """Write part-00000.parquet, ... (zstd) into `folder`, made here: a row group or more a table, never two tables.

    Two tables at most are in memory. Without any there is one file without rows, which still tells the columns.
    """
    folder.mkdir(parents=True)
    remaining = iter(tables)
    table = next(remaining, schema.empty_table())
    number = 0
    while table is not None:
        path = folder / f"part-{number:05d}.parquet"
        with path.open("wb") as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
            while table is not None and file.tell() < part_bytes:
                writer.write_table(table.cast(schema))
                table = next(remaining, None)
        number += 1


def _escape(value: str) -> str:
    return _ESCAPED.sub(lambda found: f"%{ord(found[0]):02X}", value)
