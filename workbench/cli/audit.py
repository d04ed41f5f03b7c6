"""`workbench audit`: labels that are probably wrong."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from workbench.auditing.kinds import KINDS, TITLES, Kind

if TYPE_CHECKING:
    from workbench.auditing.api import Audit

_SHOWN = 10
_WIDTH = 110  # columns where stdout is no terminal


@click.command()
@click.argument("run", required=False, type=click.Path(path_type=Path))
@click.option("--dataset", help="Name of a dataset, or path of its definition.  [default: the one of the run]")
@click.option("--top", type=click.IntRange(min=1), default=50, help="Suspects in the page, the view and --json.")
@click.option("--kind", "kinds", type=click.Choice(KINDS), multiple=True, help="Only of that kind.  [repeatable]")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the page.  [default: reports/<run>-audit]")
@click.option("--view", is_flag=True, help="Put the suspects into FiftyOne too, as a saved view by rank.")
@click.option("--name", help="With --view: name of the FiftyOne dataset.  [default: the dataset's]")
@click.option("--json", "as_json", is_flag=True, help="Print audit.json with the suspects and images instead.")
def audit(
    run: Path | None,
    dataset: str | None,
    top: int,
    kinds: tuple[Kind, ...],
    out: Path | None,
    view: bool,
    name: str | None,
    as_json: bool,
) -> None:
    """Rank the labels that RUN (the newest below runs/) was scored against by how likely each is wrong.

    A label is suspicious where the run contradicts it and is usually right: an object without a label, a label without
    an object, another class, a bad outline. Keeps audit.parquet, audit_images.parquet, audit.csv and audit.json in the
    run's folder, and writes a page with pictures. A run that is not evaluated against these labels is evaluated first,
    which replaces what an earlier evaluation left in its folder.

    \b
    workbench audit
    workbench audit runs/mine --kind wrong_class --top 100
    workbench audit runs/mine --view
    """
    from workbench import catalog
    from workbench.auditing.api import audit as audit_run
    from workbench.auditing.page import next_commands, write_page
    from workbench.cli.evaluate import evaluation_progress

    with evaluation_progress() as progress:
        found = audit_run(run, dataset, progress)
    page = write_page(found, out, top, kinds)
    pushed = _push(found, top, kinds, name) if view else None
    for note in found.summary["notes"]:
        click.echo(f"Note: {note}.", err=True)
    if as_json:
        click.echo(json.dumps(_json(found, top, kinds, page, pushed), ensure_ascii=False))
        return
    _print(found, kinds)
    click.echo(f"Kept in {found.run.place}: audit.parquet, audit_images.parquet, audit.csv, audit.json", err=True)
    if pushed:
        click.echo(f"In FiftyOne: the view {pushed!r}.", err=True)
    definition = found.dataset.definition
    here = catalog.name_or_path(definition.name, definition.source)
    commands = next_commands(found, found.run.place, here, name)
    click.echo("Next: " + "; then ".join(commands[1:] if view else commands), err=True)
    click.echo(page)


def _push(found: "Audit", top: int, kinds: tuple[Kind, ...], name: str | None) -> str:
    from workbench.cli.progress import progress
    from workbench.voxel51.auditing import push_audit

    with progress(sys.stderr.isatty()) as show:
        return push_audit(found, top, kinds, name, show)


def _json(found: "Audit", top: int, kinds: tuple[Kind, ...], page: Path, view: str | None) -> dict[str, Any]:
    return {
        **found.summary,
        "run": found.run.place,
        "page": str(page),
        "view": view,
        "suspects": found.top(top, kinds),
        "worst_images": found.images.slice(0, top).to_pylist(),
    }


def _print(found: "Audit", kinds: tuple[Kind, ...]) -> None:
    from rich.markup import escape

    from workbench.cli.tables import new_table
    from workbench.consoles import PrintableConsole

    console = PrintableConsole(width=None if sys.stdout.isatty() else _WIDTH)
    counts = new_table(f"Labels in doubt ({found.summary['labels']} labels)", ["suspects", "ranked"])
    for kind, (title, _) in TITLES.items():
        numbers = found.summary["kinds"][kind]
        counts.add_row(title, str(numbers["suspects"]), str(numbers["ranked"]))
    first = new_table("The first of the ranking", ["suspicion", "image", "label", "suggested", "IoU"])
    for row in found.top(_SHOWN, kinds):
        iou = "-" if row["iou"] is None else f"{row['iou']:.2f}"
        names = (escape(row[key] or "-") for key in ("image_id", "name", "suggested_name"))
        first.add_row(f"{row['rank']} {TITLES[row['kind']][0]}", f"{row['suspicion']:.2f}", *names, iou)
    console.print(counts)
    console.print(first)
