"""`workbench report`: a page on a run, or on several side by side."""

import json
from pathlib import Path

import click


@click.command()
@click.argument("runs", nargs=-1, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Folder to write.  [default: reports/<run>]")
@click.option("--dataset", help="Name of a dataset, or path of its definition.  [default: the one of the run]")
@click.option("--tiles", type=click.IntRange(min=0), default=6, help="Pictures in each gallery; 0 for none.")
@click.option("--json", "as_json", is_flag=True, help="Print the content of report.json instead of the page's path.")
def report(runs: tuple[Path, ...], out: Path | None, dataset: str | None, tiles: int, as_json: bool) -> None:
    """Write a page about RUNS (the newest below runs/ by default), with pictures of what went wrong.

    index.html holds everything it shows and needs no network; report.md and report.json lie beside it. Of several runs
    each is compared with the first. What is not evaluated yet is evaluated first. An earlier report is replaced.

    \b
    workbench report
    workbench report runs/mine --out reports/mine
    workbench report runs/before runs/after
    """
    from workbench.cli.evaluate import evaluation_progress
    from workbench.report.api import JSON
    from workbench.report.api import report as write

    with evaluation_progress() as progress:
        written = write(runs, out, dataset, tiles, progress)
    if as_json:
        click.echo(json.dumps(json.loads((written.folder / JSON).read_text(encoding="utf-8")), ensure_ascii=False))
        return
    click.echo(written.html)
