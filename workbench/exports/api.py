"""`export`: a run's segments -> files that other tools read, whole or not at all."""

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pyarrow as pa

from workbench.errors import OptionError, did_you_mean
from workbench.exports import cvat, label_studio, staging
from workbench.exports.annotation import AnnotationOptions
from workbench.exports.coco_panoptic import write_coco_panoptic
from workbench.exports.coco_results import write_coco_results
from workbench.exports.index_png import write_index_png
from workbench.exports.lake import export_lake
from workbench.files import replacing
from workbench.formats.label_values import LabelValues
from workbench.runs import Run
from workbench.storage import plain_path
from workbench.transfer_formats import ANNOTATION_FORMATS, EXPORT_FORMATS, AnnotationFormat, ExportFormat

_IMAGES_PER_CHUNK = 64
_FILES: Mapping[AnnotationFormat, tuple[str, ...]] = {
    "cvat": (cvat.ANNOTATIONS, cvat.LABELS),
    "label-studio": (label_studio.TASKS, label_studio.CONFIG),
}


def export(
    run: Run | str | os.PathLike[str],
    format: ExportFormat,
    out: str | os.PathLike[str],
    overwrite: bool = False,
    note: Callable[[str], None] | None = None,
    options: AnnotationOptions | None = None,
) -> Path:
    """Write a run's segments in another format; returns the JSON file or the folder, as `import_predictions` takes it.

    coco-results: `out` is the JSON file. coco-panoptic: `out` is the JSON file, and the PNGs go into the folder of the
    same stem beside it. Where the name does not end in .json, `out` is a folder that gets results.json or panoptic.json
    with panoptic/. index-png: `out` is the folder of label maps. cvat, label-studio: `out` is a folder that gets the
    annotations and the labels, or the configuration, of the task that takes them; `options` are for those two.
    parquet: `out` is a lake, which this run joins or in which it takes its own earlier place (see `lake.export_lake`).

    `note` is called with what the user should know and no error says. Raises OptionError for an unknown format, and
    TransferError where the format cannot hold the segments (overlaps, missing scores) or something is at `out` already,
    unless `overwrite`.
    """
    if format not in EXPORT_FORMATS:
        raise OptionError(f"unknown format {format!r}. {did_you_mean(format, EXPORT_FORMATS)}")
    if options is not None and format not in ANNOTATION_FORMATS:
        raise OptionError(f"{format} holds segments as they are: options are for {' and '.join(ANNOTATION_FORMATS)}.")
    if format == "parquet":
        return export_lake([run], out, overwrite, note)
    opened = run if isinstance(run, Run) else Run.open(run)
    opened.check_whole()
    tell = note or (lambda text: None)
    if not opened.complete:
        tell(f"{opened.path} is incomplete: only the images that it holds so far are exported")
    if format == "index-png":
        path = plain_path(out)
        _tell_left_out(_export_index_png(opened, path, overwrite), tell)
    elif format == "cvat" or format == "label-studio":
        path = plain_path(out)
        _tell_left_out(_export_annotations(opened, format, path, overwrite, options or AnnotationOptions()), tell)
    elif format == "coco-panoptic":
        path = _json_path(plain_path(out), "panoptic")
        _tell_left_out(_export_panoptic(opened, path, overwrite), tell)
    else:
        path = _json_path(plain_path(out), "results")
        _export_results(opened, path, overwrite)
    return path


def chunks_of(run: Run, images_per_chunk: int = _IMAGES_PER_CHUNK) -> Iterator[tuple[pa.Table, pa.Table]]:
    """A run's (segment table, image table) pairs, images by `ordinal`: a few of them in memory at a time."""
    store = run.store
    images = store.images().sort_by("ordinal")
    parts = [images.slice(begin, images_per_chunk) for begin in range(0, len(images), images_per_chunk)]
    tables = store.chunks([part["image_id"].to_pylist() for part in parts])
    yield from zip(tables, parts, strict=True)


def _json_path(path: Path, stem: str) -> Path:
    return path if path.suffix == ".json" else path / f"{stem}.json"


def _export_results(run: Run, path: Path, overwrite: bool) -> None:
    staging.check_file(path, overwrite)
    masks = "segm" in run.manifest.get("iou_types", ["segm"])
    with replacing.new_file(path) as partial:
        write_coco_results(chunks_of(run), partial, masks, run.dataset.category_id_offset)


def _export_panoptic(run: Run, path: Path, overwrite: bool) -> tuple[str, ...]:
    folder = path.with_suffix("")
    replacing.recover_pair(path, folder)
    staging.check_file(path, overwrite)
    staging.check_folder(folder, overwrite)
    with replacing.new_file_and_folder(path, folder) as (json_file, png_folder):
        return write_coco_panoptic(
            chunks_of(run), run.categories, json_file, png_folder, run.dataset.category_id_offset
        )


def _export_index_png(run: Run, path: Path, overwrite: bool) -> tuple[str, ...]:
    staging.check_folder(path, overwrite)
    with replacing.new_folder(path) as folder:
        return write_index_png(chunks_of(run), LabelValues.of(run.dataset, run.categories), folder)


def _export_annotations(
    run: Run, format: AnnotationFormat, path: Path, overwrite: bool, options: AnnotationOptions
) -> tuple[str, ...]:
    staging.check_folder(path, overwrite, _FILES[format])
    name = run.path.resolve().name
    with replacing.new_folder(path) as folder:
        if format == "label-studio":
            return label_studio.write_label_studio(chunks_of(run), run.categories, folder, name, options)
        images = sum(height is not None for height in run.images()["height"].to_pylist())
        return cvat.write_cvat(chunks_of(run), run.categories, folder, name, images, options)


def _tell_left_out(images: tuple[str, ...], tell: Callable[[str], None]) -> None:
    if images:
        listed = ", ".join(images[:5]) + (", ..." if len(images) > 5 else "")
        tell(f"{len(images)} images that could not be read have no size and are left out: {listed}")
