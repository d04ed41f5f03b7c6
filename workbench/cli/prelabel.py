"""`workbench prelabel`: predictions into FiftyOne as labels to correct."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from workbench.cli.progress import progress

if TYPE_CHECKING:
    from workbench.voxel51.ordering import Order

_ORDERS = ("uncertainty", "rarity", "disagreement")


@click.command()
@click.option("--dataset", required=True, help="Name of a dataset, or path of its definition.")
@click.option("--run", type=click.Path(path_type=Path), help="Run folder with the predictions.  [default: make one]")
@click.option("--task", type=click.Choice(["panoptic", "instance", "semantic"]), help="Without --run: what to predict.")
@click.option("--model", help="Without --run: what to predict with, as `workbench predict` takes it.")
@click.option("--limit", type=click.IntRange(1), help="Without --run: only the first so many images.")
@click.option("--min-score", type=click.FloatRange(0, 1), default=0.0, help="Leave out objects that score less.")
@click.option("--order", type=click.Choice(_ORDERS), default="uncertainty", help="What makes an image worth a look.")
@click.option("--second-run", type=click.Path(path_type=Path), help="The other run, for --order disagreement.")
@click.option(
    "--bands",
    type=(click.FloatRange(0, 1), click.FloatRange(0, 1)),
    default=(0.7, 0.9),
    help="Scores from which objects are tagged confidence:medium and confidence:high; below, confidence:low.",
)
@click.option(
    "--polygons",
    type=click.FloatRange(0),
    is_flag=False,
    flag_value=1.0,
    metavar="[TOLERANCE]",
    help="Write polygons instead of masks, outlines simplified by at most so many pixels; 1 if no number follows.",
)
@click.option("--labelled", is_flag=True, help="Images that have ground truth too.")
@click.option("--yes", is_flag=True, help="Replace pre-labels that are there, corrections and all.")
@click.option("--name", help="Name of the FiftyOne dataset.  [default: the dataset's]")
@click.option("--json", "as_json", is_flag=True, help="Print an object with name, run, images, objects and field.")
def prelabel(
    dataset: str,
    run: Path | None,
    task: str | None,
    model: str | None,
    limit: int | None,
    min_score: float,
    order: "Order",
    second_run: Path | None,
    bands: tuple[float, float],
    polygons: float | None,
    labelled: bool,
    yes: bool,
    name: str | None,
    as_json: bool,
) -> None:
    """Put predictions into FiftyOne as labels to correct, the images that need it most first.

    They go into the field `label_edits`, with --polygons into `polygon_edits`, which is set up for editing in
    FiftyOne's App and for `dataset.annotate`. A saved view has the images in order. `uncertainty` adds up 1 - score
    over an image's objects, `rarity` 1 / (objects of the class in all images), `disagreement` counts objects that a
    second run does not have. Correct them, tag the samples `reviewed`, and take them home with `workbench pull`. Needs
    the extra: pip install 'eomt-workbench[fiftyone]'.

    \b
    workbench prelabel --dataset mine.toml
    workbench prelabel --dataset mine.toml --run runs/mine --min-score 0.5 --order rarity
    workbench prelabel --dataset mine.toml --run runs/mine --polygons 1.5
    """
    from workbench.voxel51.installed import fiftyone
    from workbench.voxel51.prelabel import prelabel as prelabel_dataset

    fiftyone()  # its absence is told before minutes of prediction
    source: Path = run or _predict(dataset, task, model, limit)
    with progress(sys.stderr.isatty()) as show:
        done = prelabel_dataset(
            dataset,
            source,
            min_score,
            order,
            second_run,
            bands,
            labelled,
            yes,
            name,
            show,
            polygons,
        )
    for note in done.notes:
        click.echo(f"Note: {note}.", err=True)
    if as_json:
        about = {"images": done.images, "objects": done.objects, "field": done.field}
        click.echo(json.dumps({"name": done.name, "run": done.run, **about}))
        return
    click.echo(f"{done.objects} pre-labels in {done.images} images. Saved view: {done.view!r}.", err=True)
    click.echo(f"To correct them: fiftyone app launch {done.name}", err=True)
    click.echo(done.name)


def _predict(dataset: str, task: str | None, model: str | None, limit: int | None) -> Path:
    from workbench.prediction.api import predict

    return predict(dataset, task=task, model=model, limit=limit).path
