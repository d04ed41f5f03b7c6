"""What an evaluation leaves in a run's folder: each file appears whole or stays as it was."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from workbench import runs
from workbench.evaluation.matches import MATCH_SCHEMA
from workbench.evaluation.passes import Keep
from workbench.formats.base import Dataset
from workbench.runs import Run
from workbench.segments import write_parquet

MATCHES, PER_CATEGORY, METRICS = "matches.parquet", "per_category.parquet", "metrics.json"
_PACKAGES = ("eomt-workbench", "numpy", "numba", "pyarrow", "pycocotools")


@contextmanager
def match_file(folder: Path) -> Iterator[Keep]:
    """Takes match rows as they come; the file is replaced when the block ends without an exception."""
    partial = folder / f".{MATCHES}.partial"
    try:
        with pq.ParquetWriter(partial, MATCH_SCHEMA, compression="zstd") as writer:
            yield writer.write_table
        partial.replace(folder / MATCHES)
    finally:
        partial.unlink(missing_ok=True)


def write_results(folder: Path, metrics: dict[str, Any], per_category: pa.Table) -> None:
    """The table of categories, and metrics.json last."""
    partial = folder / f".{PER_CATEGORY}.partial"
    write_parquet(per_category, partial)
    partial.replace(folder / PER_CATEGORY)
    runs.write_json(folder / METRICS, metrics)


def provenance(run: Run, dataset: Dataset) -> dict[str, Any]:
    """What was scored against what, by which versions, when."""
    return {
        "task": run.task,
        "run_identity": dict(run.manifest.get("identity", {})),
        "dataset": {
            "name": dataset.definition.name,
            "definition": str(dataset.definition.source),
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
