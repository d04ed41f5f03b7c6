"""`workbench sample`: make more of the bundled sample's scenes."""

import json
from pathlib import Path

import click


@click.group()
def sample() -> None:
    """Generate small photo-like panoptic scenes with exact ground truth."""


@sample.command(short_help="Write scenes and definitions of them.")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder to write: new, or empty."
)
@click.option("--count", type=click.IntRange(min=1), default=60, show_default=True, help="Number of images.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="The series of scenes.")
@click.option("--split", default="val", show_default=True, help="Part of the annotations' file names.")
@click.option("--json", "as_json", is_flag=True, help="Print an object with path, images and definitions.")
def make(out: Path, count: int, seed: int, split: str, as_json: bool) -> None:
    """Write scenes with COCO panoptic, COCO instances and ADE20K ground truth, and definitions to name as --dataset.

    The bundled data set is seed 0, the bundled checkpoint was trained on seed 1: take another for data of your own.

    \b
    workbench sample make --out scenes --count 200 --seed 7
    workbench predict --dataset scenes/scenes_val.toml
    """
    from workbench.sample.writing import make_dataset

    definitions = [str(path) for path in make_dataset(out, count, seed, split)]
    if as_json:
        click.echo(json.dumps({"path": str(out), "images": count, "definitions": definitions}))
    else:
        click.echo("\n".join(definitions))
