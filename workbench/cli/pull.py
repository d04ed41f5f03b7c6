"""`workbench pull`: corrected labels out of FiftyOne, as ground truth."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from workbench.cli.progress import progress

if TYPE_CHECKING:
    from workbench.voxel51.pull import Overlap


@click.command()
@click.option("--dataset", required=True, help="Name of a dataset, or path of its definition.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The new definition: a .toml file.")
@click.option("--field", help="Where the labels are: pre-labels, or pushed ground truth.  [default: the pre-labels]")
@click.option("--reviewed", is_flag=True, help="Only samples with the tag `reviewed`.")
@click.option(
    "--overlap",
    type=click.Choice(["refuse", "edited"]),
    default="refuse",
    help="Where segments of a panoptic or semantic map overlap: refuse, or edited ones take the pixels.",
)
@click.option("--yes", is_flag=True, help="Replace what an earlier pull wrote to --out.")
@click.option("--name", help="Name of the FiftyOne dataset.  [default: the dataset's]")
@click.option("--json", "as_json", is_flag=True, help="Print an object with definition, images and the counts.")
def pull(
    dataset: str,
    out: Path,
    field: str | None,
    reviewed: bool,
    overlap: "Overlap",
    yes: bool,
    name: str | None,
    as_json: bool,
) -> None:
    """Take corrected labels home from FiftyOne, as ground truth with a definition of its own.

    Writes COCO instances, COCO panoptic or ADE20K label maps, by what the labels were made from, into the folder beside
    the definition --out, with edits.parquet: one row an object, which says what was done to it. Objects that nobody
    touched are what they were, to the last bit. Masks edited in the App have the precision of its canvas; polygons that
    were edited are filled where a pixel's centre lies inside. Needs the extra: pip install 'eomt-workbench[fiftyone]'.

    \b
    workbench pull --dataset mine.toml --out datasets/mine_labelled.toml
    workbench pull --dataset coco_val --field ground_truth --out corrected.toml --reviewed
    """
    from workbench.voxel51.pull import pull as pull_labels

    with progress(sys.stderr.isatty()) as show:
        pulled = pull_labels(dataset, out, field, reviewed, overlap, yes, name, show)
    if as_json:
        click.echo(json.dumps(pulled.summary()))
        return
    listed = ", ".join(f"{count} {edit}" for edit, count in pulled.counts.items())
    click.echo(f"{pulled.images} images: {listed}.", err=True)
    click.echo(pulled.definition)
