"""A lake: the tables of many runs side by side in Hive's partition folders, so that SQL engines read them as one.

    LAKE/lake.json                                                  says that the folder is a lake
         segments/dataset=scenes_val/run=first/part-00000.parquet   likewise images/, categories/
         matches/dataset=scenes_val/run=first/part-00000.parquet    of an evaluated run, likewise per_category/
         runs/dataset=scenes_val/run=first/part-00000.parquet       one row about the run, written last

A run's row in `runs` goes first and comes last when its partitions are replaced: it says that the others are whole.
They are built in a hidden folder beside the tables, not in one, as DuckDB's and Polars' patterns find hidden folders.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow.parquet as pq

from workbench.errors import OptionError, TransferError
from workbench.exports import hive, lake_tables
from workbench.files import claims
from workbench.runs import Run, write_json
from workbench.segments import DAMAGED_PARQUET
from workbench.storage import is_url, plain_path
from workbench.store import sync_folder

LAKE_VERSION = 1
MARKER = "lake.json"
TABLES = ("runs", "segments", "images", "categories", "matches", "per_category")
KEYS = ("dataset", "run")
"""The partition keys. Task and model are columns: `matches` has a `task` of its own, and an import has no model."""
_CLAIM = claims.Claim("lake", MARKER)
_STAGING = ".partial"


def export_lake(
    runs: Sequence[Run | str | os.PathLike[str]],
    out: str | os.PathLike[str],
    overwrite: bool = False,
    note: Callable[[str], None] | None = None,
) -> Path:
    """Put runs into the lake at `out`, made if need be, each into its own partitions; returns the lake's folder.

    A run that the lake has already takes the place of its own earlier export; all other runs stay. Two shards at most
    are in memory. `note` is called with what the user should know and no error says.

    Raises OptionError for a URL and for two runs with the same name and dataset, RunError for a folder that holds
    something else or is in use, and TransferError where the lake has a different run of that name, unless `overwrite`,
    or where a partition holds files that no export wrote.
    """
    if is_url(out):
        raise OptionError(
            f"{out}: a lake is written to a local folder, where renames are whole. Copy it there afterwards."
        )
    opened = [run if isinstance(run, Run) else Run.open(run) for run in runs]
    places = [partition_of(run) for run in opened]
    for index, place in enumerate(places):
        if place in places[:index]:
            raise OptionError(f"two runs would both become {place}. Rename one of the folders, or export one of them.")
    for run in opened:
        run.check_whole()
    lake = plain_path(out)
    with _CLAIM.lock(lake):
        _mark(lake)
        for run, place in zip(opened, places, strict=True):
            _check(lake, place, run, overwrite)
        for run, place in zip(opened, places, strict=True):
            if not run.complete and note is not None:
                note(f"{run.path} is incomplete: only the images that it holds so far are exported")
            _put(lake, place, run)
    return lake


def partition_of(run: Run) -> PurePosixPath:
    """Where a run stands below each table's folder: `dataset=<name>/run=<name of its folder>`."""
    return hive.partition(dict(zip(KEYS, (run.manifest["dataset"]["name"], run.path.resolve().name), strict=True)))


def _mark(lake: Path) -> None:
    """Make sure of lake.json. Raises TransferError for a lake of a newer version, or a broken file."""
    file = lake / MARKER
    if not file.exists():
        write_json(file, {"version": LAKE_VERSION, "tables": TABLES, "partition_keys": KEYS})
        return
    try:
        version = json.loads(file.read_text(encoding="utf-8"))["version"]
        is_known = version <= LAKE_VERSION
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise TransferError(f"{file}: not the file of a lake ({error!r}). Name another folder with --out.") from error
    if not is_known:
        raise TransferError(f"{file}: lake version {version}; this workbench writes {LAKE_VERSION}. Upgrade.")


def _check(lake: Path, place: PurePosixPath, run: Run, overwrite: bool) -> None:
    """Raise TransferError where the run's partitions hold foreign files, or another run's rows unless `overwrite`."""
    for table in TABLES:
        _check_partition(lake / table / place)
    row = lake / "runs" / place / "part-00000.parquet"
    if row.exists() and not overwrite and (found := claims.differences(_identity(row), run.manifest["identity"])):
        raise TransferError(
            f"{lake}: has another run as {place}: {'; '.join(found)}. Rename {run.path}, or replace what is there "
            "with --yes."
        )


def _check_partition(folder: Path) -> None:
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise TransferError(f"{folder}: not a folder that an export made. Take it away, or name another --out.")
    for entry in folder.iterdir() if folder.exists() else ():
        if entry.is_symlink() or not hive.PART_NAME.fullmatch(entry.name):
            raise TransferError(f"{folder}: holds {entry.name!r}, which no export wrote. Take it away first.")


def _identity(row: Path) -> dict[str, Any]:
    """What decides the rows of the run that the lake has, from its row in `runs`."""
    try:
        with pq.ParquetFile(row) as file:
            identity: dict[str, Any] = json.loads(file.read(columns=["identity"])["identity"][0].as_py())
    except (*DAMAGED_PARQUET, IndexError) as error:
        raise TransferError(f"{row}: not a row about a run ({error}). Replace it with --yes.") from error
    return identity


def _put(lake: Path, place: PurePosixPath, run: Run) -> None:
    with _staging(lake) as staged:
        for table, (schema, rows) in lake_tables.tables_of(run).items():
            hive.write_parts(staged / table, rows, schema)
        hive.write_parts(staged / "runs", [lake_tables.about(run)], lake_tables.RUNS)
        _sync(staged)
        for table in TABLES:  # its row in `runs` goes first
            _withdraw(lake / table / place, staged / f"{table}.old")
        for table in reversed(TABLES):  # and comes last
            if (staged / table).exists():
                _publish(staged / table, lake / table / place)


@contextmanager
def _staging(lake: Path) -> Iterator[Path]:
    """A hidden folder in the lake, which the caller holds; gone when the block ends, published or not."""
    staged = lake / _STAGING
    shutil.rmtree(staged, ignore_errors=True)  # what a killed export left
    staged.mkdir()
    try:
        yield staged
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _withdraw(folder: Path, to: Path) -> None:
    if folder.exists():
        folder.rename(to)
        sync_folder(folder.parent)


def _publish(staged: Path, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    staged.rename(folder)
    sync_folder(folder.parent)


def _sync(staged: Path) -> None:
    for path in sorted(staged.rglob("*"), reverse=True):
        if path.is_dir():
            sync_folder(path)
            continue
        with path.open("rb") as file:
            os.fsync(file.fileno())
