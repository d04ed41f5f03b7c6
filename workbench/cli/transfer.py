"""`workbench import` and `workbench export`: other tools' files into a run, and a run into theirs."""

import json
import sys
from pathlib import Path
from typing import Any

import click

from workbench.transfer_formats import (
    ANNOTATION_FORMATS,
    EXPORT_FORMATS,
    TRANSFER_FORMATS,
    ExportFormat,
    TransferFormat,
)


@click.command("import")
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--dataset", required=True, help="Name of a dataset, or path of its definition.")
@click.option("--format", "format_", type=click.Choice(TRANSFER_FORMATS), required=True, help="What SOURCE is.")
@click.option("--out", type=click.Path(path_type=Path), help="Run folder.  [default: one below runs/]")
@click.option("--png", type=click.Path(path_type=Path), help="PNG folder of a panoptic JSON.  [default: SOURCE's stem]")
@click.option("--json", "as_json", is_flag=True, help="Print an object with path, task, images and segments.")
def import_command(
    source: Path, dataset: str, format_: TransferFormat, out: Path | None, png: Path | None, as_json: bool
) -> None:
    """Make a run of anyone's predictions, to be scored and seen like our own.

    SOURCE is a COCO results JSON (coco-results), a COCO panoptic JSON (coco-panoptic), or a folder of label maps named
    after the images (index-png). The last line of the output is the run folder.

    \b
    workbench import detections.json --dataset coco_val --format coco-results
    workbench import panoptic.json --dataset coco_val --format coco-panoptic --out runs/theirs
    workbench import labels/ --dataset ade20k_val --format index-png
    """
    from workbench.imports.api import import_predictions

    run = import_predictions(source, dataset, format_, out, png, _show if sys.stderr.isatty() else None)
    for note in run.manifest["provenance"]["notes"]:
        click.echo(f"Note: {note}.", err=True)
    images, segments = len(run.images()), run.store.count_segments()
    if as_json:
        click.echo(json.dumps({"path": run.place, "task": run.task, "images": images, "segments": segments}))
        return
    click.echo(f"{segments} segments in {images} images of {run.manifest['dataset']['name']} ({run.task}).", err=True)
    click.echo(run.place)


@click.command("export")
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--format", "format_", type=click.Choice(EXPORT_FORMATS), required=True, help="What to write.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="File or folder to write.")
@click.option(
    "--polygons",
    type=click.FloatRange(0),
    is_flag=False,
    flag_value=1.0,
    metavar="[TOLERANCE]",
    help="For cvat and label-studio: polygons, simplified by at most so many pixels (1 if no number follows).",
)
@click.option("--min-score", type=click.FloatRange(0, 1), help="For cvat and label-studio: leave out what scores less.")
@click.option(
    "--image-prefix",
    help="For label-studio: what it finds before an image's file name.  [default: /data/local-files/?d=]",
)
@click.option("--yes", is_flag=True, help="Replace what is at --out.")
@click.option("--json", "as_json", is_flag=True, help="Print an object with path and format.")
def export_command(
    runs: tuple[Path, ...],
    format_: ExportFormat,
    out: Path,
    polygons: float | None,
    min_score: float | None,
    image_prefix: str | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Write the run folder RUN in a format that other tools read.

    coco-results is a JSON array of detections, coco-panoptic a JSON with a folder of PNGs of the same stem beside it
    (both go into the folder --out where that does not end in .json), index-png a folder of label maps. The last line of
    the output is what `workbench import` takes. cvat and label-studio are pre-annotations: a folder with annotations,
    and the labels or the configuration of the task that takes them. parquet is a lake: the folder --out gets the runs'
    tables in Hive's partition folders, dataset=.../run=..., beside those of other runs; it alone takes several runs.

    \b
    workbench export runs/mine --format coco-results --out detections.json
    workbench export runs/mine --format coco-panoptic --out panoptic.json
    workbench export runs/mine --format index-png --out labels/
    workbench export runs/mine --format cvat --min-score 0.5 --out for_cvat/
    workbench export runs/mine --format label-studio --polygons 1.5 --out for_label_studio/
    workbench export runs/mine runs/theirs --format parquet --out lake/
    """
    from workbench.errors import OptionError
    from workbench.exports.annotation import AnnotationOptions
    from workbench.exports.api import export
    from workbench.exports.lake import export_lake

    given: dict[str, Any] = {"polygons": polygons, "min_score": min_score, "image_prefix": image_prefix}
    given = {name: value for name, value in given.items() if value is not None}
    options = AnnotationOptions(**given) if given or format_ in ANNOTATION_FORMATS else None
    if format_ == "parquet" and options is None:
        path = export_lake(runs, out, overwrite=yes, note=_note)
    elif len(runs) == 1:
        path = export(runs[0], format_, out, overwrite=yes, note=_note, options=options)
    else:
        raise OptionError(f"{format_} holds one run, and {len(runs)} are given. --format parquet takes several.")
    click.echo(json.dumps({"path": str(path), "format": format_}) if as_json else path)


def _note(text: str) -> None:
    click.echo(f"Note: {text}.", err=True)


def _show(done: int, total: int) -> None:
    click.echo(f"\r{done}/{total} images", err=True, nl=done == total)
