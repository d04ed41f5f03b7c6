"""What an evaluation leaves in a run's folder: the files of one evaluation, all of them, or those of the one before.

They are written into a hidden folder first. When all are whole, the old metrics.json goes, the new files are renamed
into place, and the new metrics.json comes last: a crash in between leaves a run that counts as not evaluated.
"""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from workbench import runs
from workbench.errors import RunError
from workbench.evaluation.matches import MATCH_SCHEMA
from workbench.evaluation.passes import Keep, Keeping
from workbench.evaluation.per_image import DETECTION_SCHEMA, PER_IMAGE_SCHEMA
from workbench.formats.base import Dataset
from workbench.runs import Run
from workbench.segments import DAMAGED_PARQUET, write_parquet
from workbench.storage import shown
from workbench.store import sync_folder

MATCHES, PER_CATEGORY, METRICS = "matches.parquet", "per_category.parquet", "metrics.json"
PER_IMAGE, DETECTIONS = "per_image.parquet", "detections.parquet"
ERRORS, CONFUSION, SLICES = "errors.parquet", "confusion.parquet", "slices.parquet"
_ROWS_A_GROUP = 2**16
_STAGING = ".evaluation.partial"
_SINCE_TYPES = ("error_type", "error_segment_id")  # a match table of an older version lacks them
_PACKAGES = ("eomt-workbench", "numpy", "numba", "pyarrow", "pycocotools")


@contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """A hidden folder inside `folder` for an evaluation under way; gone when the block ends, published or not."""
    place = folder / _STAGING
    shutil.rmtree(place, ignore_errors=True)  # what a killed evaluation left
    try:
        place.mkdir()
    except OSError as error:
        raise RunError(
            f"{shown(folder)}: an evaluation is kept in the run's folder, which cannot be written ({error.strerror}). "
            "Make it writable, or copy the run to where you may write."
        ) from error
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


@contextmanager
def row_files(place: Path) -> Iterator[Keeping]:
    """Takes rows as they come, into files of `place`; they can be read when the block has ended."""
    with (
        _row_file(place / MATCHES, MATCH_SCHEMA) as matches,
        _row_file(place / PER_IMAGE, PER_IMAGE_SCHEMA) as per_image,
        _row_file(place / DETECTIONS, DETECTION_SCHEMA) as detections,
    ):
        yield Keeping(matches, per_image, detections)


@contextmanager
def _row_file(path: Path, schema: pa.Schema) -> Iterator[Keep]:
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        rows = _Rows(writer, schema)
        yield rows.keep
        rows.write_rest()


class _Rows:
    """Rows on their way to a file, in row groups of one size: it is the same file however many come at a time."""

    def __init__(self, writer: pq.ParquetWriter, schema: pa.Schema) -> None:
        self._writer, self._waiting = writer, schema.empty_table()

    def keep(self, table: pa.Table) -> None:
        """Take more rows, and write what fills row groups."""
        self._waiting = pa.concat_tables([self._waiting, table])
        whole = len(self._waiting) - len(self._waiting) % _ROWS_A_GROUP
        if whole:
            self._write(self._waiting.slice(0, whole))
            self._waiting = self._waiting.slice(whole)

    def write_rest(self) -> None:
        """Write what fills no row group."""
        if len(self._waiting):
            self._write(self._waiting)

    def _write(self, table: pa.Table) -> None:
        # In one piece: pages would end where pieces do.
        self._writer.write_table(table.combine_chunks(), row_group_size=_ROWS_A_GROUP)


def publish(place: Path, folder: Path, metrics: dict[str, Any], tables: Mapping[str, pa.Table]) -> None:
    """Move the row files of `place` and `tables` (by file name) into `folder`, and metrics.json last.

    All are written by then: where the disk is full, the earlier evaluation stays.
    """
    for name, table in tables.items():
        write_parquet(table, place / name)
    runs.write_json(place / METRICS, metrics)
    (folder / METRICS).unlink(missing_ok=True)
    for file in place.iterdir():
        if file.name != METRICS:
            file.replace(folder / file.name)
    (place / METRICS).replace(folder / METRICS)
    sync_folder(folder)


def check_rows(run: Run) -> None:
    """Raises RunError, naming file and remedy, where the tables of a run's evaluation have other columns, or none."""
    remedy = f"Run `workbench evaluate {run.place}` again."
    for name, schema in ((PER_IMAGE, PER_IMAGE_SCHEMA), (DETECTIONS, DETECTION_SCHEMA), (MATCHES, MATCH_SCHEMA)):
        file = run.path / name
        try:
            found = pq.read_schema(file)
        except DAMAGED_PARQUET as error:
            raise RunError(f"{file}: not a readable Parquet file ({error}). {remedy}") from error
        for column in schema:
            there = found.field(column.name).type if column.name in found.names else None
            if there != column.type and not (there is None and column.name in _SINCE_TYPES):
                raise RunError(f"{file}: its column {column.name} is {there or 'missing'}, not {column.type}. {remedy}")


def provenance(run: Run, dataset: Dataset) -> dict[str, Any]:
    """What was scored against what, by which versions, when."""
    return {
        "task": run.task,
        "run_identity": dict(run.manifest.get("identity", {})),
        "dataset": {
            "name": dataset.definition.name,
            "definition": shown(dataset.definition.source),
            "fingerprint": dataset.fingerprint(),
        },
        "versions": {package: found for package in _PACKAGES if (found := _version(package)) is not None},
        "evaluated": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
