"""What an evaluation leaves in a run's folder: each file appears whole or stays as it was."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from workbench import runs
from workbench.evaluation.matches import MATCH_SCHEMA
from workbench.evaluation.passes import Keep, Keeping
from workbench.evaluation.per_image import DETECTION_SCHEMA, PER_IMAGE_SCHEMA
from workbench.formats.base import Dataset
from workbench.runs import Run
from workbench.segments import write_parquet

MATCHES, PER_CATEGORY, METRICS = "matches.parquet", "per_category.parquet", "metrics.json"
PER_IMAGE, DETECTIONS = "per_image.parquet", "detections.parquet"
ERRORS, CONFUSION, SLICES = "errors.parquet", "confusion.parquet", "slices.parquet"
_PACKAGES = ("eomt-workbench", "numpy", "numba", "pyarrow", "pycocotools")


@contextmanager
def row_files(folder: Path) -> Iterator[Keeping]:
    """Takes rows as they come; the files are replaced when the block ends without an exception."""
    with (
        _row_file(folder / MATCHES, MATCH_SCHEMA) as matches,
        _row_file(folder / PER_IMAGE, PER_IMAGE_SCHEMA) as per_image,
        _row_file(folder / DETECTIONS, DETECTION_SCHEMA) as detections,
    ):
        yield Keeping(matches, per_image, detections)


@contextmanager
def _row_file(path: Path, schema: pa.Schema) -> Iterator[Keep]:
    partial = path.with_name(f".{path.name}.partial")
    try:
        with pq.ParquetWriter(partial, schema, compression="zstd") as writer:
            yield writer.write_table
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_results(folder: Path, metrics: dict[str, Any], tables: Mapping[str, pa.Table]) -> None:
    """The tables by their files' names, and metrics.json last."""
    for name, table in tables.items():
        partial = folder / f".{name}.partial"
        write_parquet(table, partial)
        partial.replace(folder / name)
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
