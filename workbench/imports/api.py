"""`import_predictions`: other people's prediction files -> a complete run folder, or none at all."""

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

import workbench
from workbench import catalog, runs
from workbench.errors import OptionError, TransferError, WorkbenchError, did_you_mean
from workbench.formats import open_dataset
from workbench.formats.base import Dataset, ImageRecord
from workbench.imports.base import PredictionSource
from workbench.imports.coco_panoptic import CocoPanoptic
from workbench.imports.coco_results import CocoResults
from workbench.imports.index_png import IndexPng
from workbench.prediction.run_folder import choose_folder, run_name
from workbench.runs import Run
from workbench.segments import image_table
from workbench.storage import local_path, plain_path
from workbench.transfer_formats import TRANSFER_FORMATS, TransferFormat

_IMAGES_PER_SHARD = 128


def import_predictions(
    source: str | os.PathLike[str],
    dataset: str | os.PathLike[str] | Dataset,
    format: TransferFormat,
    out: str | os.PathLike[str] | None = None,
    png: str | os.PathLike[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Run:
    """A run of the predictions in `source`: a COCO results JSON, a COCO panoptic JSON, or a folder of label maps.

    Args:
        source: the file or folder; a folder with a single JSON file stands for it. A panoptic JSON's PNGs lie in the
            folder of its stem unless `png` names another.
        dataset: a dataset's name, the path of a definition, or an open dataset. All its images are in the run, those
            without predictions with no segments.
        out: the run folder, by default one below `runs/` named after dataset, task and source.
        progress: called with (images done, images in all).

    A folder that already holds this very import is returned as it is; one that a killed import left is filled up.
    Raises TransferError for files that break their format or do not fit the dataset (no run is left behind then),
    RunError where `out` holds anything else, and OptionError for a format that does not exist.
    """
    opened = dataset if isinstance(dataset, Dataset) else open_dataset(catalog.find(os.fspath(dataset)))
    path = plain_path(source)
    predictions = _open_source(path, opened, format, None if png is None else Path(png))
    manifest = _manifest(predictions, path, opened, format)
    name = run_name(opened.definition.name, predictions.task, path.stem)
    folder = choose_folder(name, manifest["identity"], resume=True) if out is None else local_path(out)
    with runs.lock(folder):
        run = runs.create_or_resume(folder, manifest)
        if run.complete and not run.lost_images:
            return run
        try:
            return _write(run, predictions, opened.images(), progress or (lambda done, total: None))
        except (WorkbenchError, OSError):
            runs.erase(run.path)  # predictions that break their format leave no run behind
            raise


def _open_source(path: Path, dataset: Dataset, format: str, png: Path | None) -> PredictionSource:
    if format not in TRANSFER_FORMATS:
        raise OptionError(f"unknown format {format!r}. {did_you_mean(format, TRANSFER_FORMATS)}")
    if png is not None and format != "coco-panoptic":
        raise OptionError(f"--png names the PNG folder of a panoptic JSON; {format} has none. Leave it out.")
    if not path.exists():
        raise TransferError(f"{path}: no such file or folder.")
    if format == "index-png":
        return IndexPng(path, dataset)
    file = _json_in(path) if path.is_dir() else path
    return CocoPanoptic(file, dataset, png) if format == "coco-panoptic" else CocoResults(file, dataset)


def _json_in(folder: Path) -> Path:
    """The JSON file of a folder that holds one, as an export may have written it."""
    found = sorted(folder.glob("*.json"))
    if len(found) != 1:
        raise TransferError(f"{folder}: holds {len(found)} JSON files, not one. Name the file instead of the folder.")
    return found[0]


def _manifest(predictions: PredictionSource, path: Path, dataset: Dataset, format: str) -> dict[str, Any]:
    identity = {
        "dataset": dataset.fingerprint(),
        "format": format,
        "source_sha256": predictions.sha256(),
    }
    provenance = {
        "source": str(path.resolve()),
        "notes": list(predictions.notes),
        "versions": {"workbench": workbench.__version__},
        "started": _now(),
    }
    manifest = runs.new_manifest(
        "import", dataset.definition, predictions.task, dataset.categories, identity, provenance
    )
    return {**manifest, **predictions.manifest()}


def _write(
    run: Run, predictions: PredictionSource, records: Sequence[ImageRecord], progress: Callable[[int, int], None]
) -> Run:
    """Fill the run with the images that it lacks: all of them, unless an import was killed on the way."""
    writer = runs.writer(run)
    done = writer.done_image_ids()
    remaining = [record for record in records if record.image_id not in done]
    for begin in range(0, len(remaining), _IMAGES_PER_SHARD):
        shard = remaining[begin : begin + _IMAGES_PER_SHARD]
        segments, sizes = predictions.segments(shard)
        writer.commit(segments, _image_rows(shard, sizes))
        progress(len(done) + begin + len(shard), len(records))
    provenance = {**run.manifest["provenance"], "finished": _now()}
    return run.completed(provenance=provenance)


def _image_rows(records: Sequence[ImageRecord], sizes: Mapping[str, tuple[int, int]]) -> pa.Table:
    heights_widths = [sizes.get(record.image_id, (None, None)) for record in records]
    return image_table(
        {
            "image_id": [record.image_id for record in records],
            "file_name": [record.file_name for record in records],
            "height": [height for height, _ in heights_widths],
            "width": [width for _, width in heights_widths],
            "ordinal": [record.ordinal for record in records],
            "status": ["ok"] * len(records),
        }
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
