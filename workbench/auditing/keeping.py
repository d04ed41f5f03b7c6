"""What an audit leaves in a run's folder, and whether it is of the run's evaluation as it is now."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from workbench import runs
from workbench.auditing.ranking import AUDIT_SCHEMA
from workbench.errors import RunError
from workbench.evaluation.keeping import METRICS
from workbench.files.replacing import new_file
from workbench.runs import Run
from workbench.segments import DAMAGED_PARQUET, write_parquet

VERSION = 1
TABLE, IMAGES, CSV, SUMMARY = "audit.parquet", "audit_images.parquet", "audit.csv", "audit.json"
_BOX = ("x", "y", "w", "h")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def keep(folder: Path, table: pa.Table, images: pa.Table, summary: Mapping[str, Any]) -> None:
    """Write the files of an audit; audit.json goes first and comes last, so that what it stands beside is its own."""
    with runs.lock(folder):
        (folder / SUMMARY).unlink(missing_ok=True)
        for name, content in ((TABLE, table), (IMAGES, images)):
            with new_file(folder / name) as partial:
                write_parquet(content, partial)
        with new_file(folder / CSV) as partial:
            _write_csv(table, partial)
        runs.write_json(folder / SUMMARY, summary)


def kept(run: Run) -> pa.Table | None:
    """The ranking that an audit of the run left; None where there is none of its latest evaluation.

    Raises RunError for one that cannot be read.
    """
    file = run.path / SUMMARY
    if not file.exists() or not (run.path / METRICS).exists():
        return None
    metrics = run.metrics()
    try:
        evaluated = metrics["provenance"]["evaluated"]
        summary = json.loads(file.read_text(encoding="utf-8"))
        current = summary["evaluated"] == evaluated and summary["version"] == VERSION
        return _ranking(run.path / TABLE) if current else None
    except (*DAMAGED_PARQUET, TypeError, RecursionError) as error:
        raise RunError(
            f"{file}: this audit, or {TABLE} beside it, cannot be read ({error}). Run `workbench audit {run.path}` "
            "again."
        ) from error


def _ranking(path: Path) -> pa.Table:
    """Raises ValueError for a table of other columns."""
    table = pq.ParquetFile(path).read()
    table.validate(full=True)
    if not table.schema.equals(AUDIT_SCHEMA, check_metadata=False):
        raise ValueError(f"its columns are not those of an audit: {table.schema.names}")
    return table


def _write_csv(table: pa.Table, path: Path) -> None:
    """The ranking with a column for each number of the box."""
    columns = [name for name in table.column_names if name != "bbox"]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*columns, *_BOX])
        for row in table.to_pylist():
            writer.writerow([*(_cell(row[name]) for name in columns), *row["bbox"]])


def _cell(value: Any) -> Any:
    """The value; text that a spreadsheet would run as a formula, as names of strangers' data may be, behind a quote."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
