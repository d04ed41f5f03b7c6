"""`workbench browse`: runs and ground truth into FiftyOne, and its App."""

import json
import sys
from pathlib import Path

import click

from workbench.cli.progress import progress


@click.command()
@click.argument("runs", metavar="[RUN]...", nargs=-1, type=click.Path(path_type=Path))
@click.option("--dataset", help="Name of a dataset, or path of its definition.  [default: the one of the runs]")
@click.option("--name", help="Name of the FiftyOne dataset.  [default: the dataset's]")
@click.option("--remove", metavar="FIELD", help="Take the run with that field out instead; its folder stays.")
@click.option("--launch/--no-launch", default=True, help="Open the App, or only push.")
@click.option("--port", type=click.IntRange(1, 65535), default=5151, help="Of the App.")
@click.option("--address", default="127.0.0.1", help="What the App listens on.")
@click.option("--remote", is_flag=True, help="Open no browser here: the App is looked at from another machine.")
@click.option("--json", "as_json", is_flag=True, help="Print an object with name, images, written, fields and views.")
def browse(
    runs: tuple[Path, ...],
    dataset: str | None,
    name: str | None,
    remove: str | None,
    launch: bool,
    port: int,
    address: str,
    remote: bool,
    as_json: bool,
) -> None:
    """Look at the run folders RUN (the newest below runs/ by default) and their ground truth in FiftyOne.

    Everything goes into one FiftyOne dataset of the dataset's name: ground truth and each run are a field of it. Runs
    that `workbench evaluate` has scored bring every object's match, saved views of the errors, and their numbers in the
    Model Evaluation panel. Pushing again updates; tags that you gave in the App stay. With --dataset and no RUN, ground
    truth alone. Needs the extra: pip install 'eomt-workbench[fiftyone]'.

    \b
    workbench browse
    workbench browse runs/mine runs/theirs --port 5152
    workbench browse --dataset coco_val --no-launch
    workbench browse --dataset coco_val --remove mine
    """
    from workbench.voxel51 import app
    from workbench.voxel51.browse import dataset_name, push
    from workbench.voxel51.removing import remove_run

    if remove is not None:
        target = remove_run(name or dataset_name(runs, dataset), remove)
        click.echo(f"Removed {remove} from {target.dataset.name}.", err=True)
        return
    with progress(sys.stderr.isatty()) as show:
        browsed = push(runs, dataset, name, show, newest=True)
    for note in browsed.notes:
        click.echo(f"Note: {note}.", err=True)
    if as_json:
        click.echo(json.dumps(browsed.summary(), ensure_ascii=False))
    else:
        click.echo(f"{browsed.images} images, {browsed.written} labels in {', '.join(browsed.fields)}.", err=True)
        click.echo(browsed.name)
    if launch:
        if not app.is_loopback(address):
            click.echo(
                f"Warning: whoever reaches {address}:{port} can see and edit every FiftyOne dataset here.", err=True
            )
        session = app.launch(browsed.dataset, port, address, remote)
        click.echo(f"FiftyOne: http://{address}:{port}/datasets/{browsed.name} (stop with Ctrl-C)", err=True)
        app.wait(session)
