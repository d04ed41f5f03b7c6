"""`workbench compare`: what changed from one run to another, and how sure that is."""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from workbench.cli.evaluate import evaluation_progress, stop_at
from workbench.cli.tables import new_table

if TYPE_CHECKING:
    from rich.table import Table

_WIDTH = 110  # columns where stdout is no terminal


@click.command()
@click.argument("run_a", type=click.Path(path_type=Path))
@click.argument("run_b", type=click.Path(path_type=Path))
@click.option("--dataset", help="Name of a dataset, or path of its definition.  [default: the one of the runs]")
@click.option("--confidence", default=0.95, help="Of the intervals.")
@click.option("--resamples", default=1000, help="Of the images.")
@click.option("--seed", default=0, help="Of the resamples.")
@click.option("--categories", default=10, help="How many categories to show, those that moved most first.")
@click.option("--images", default=10, help="How many images to show, those that changed most first.")
@click.option("--fail-below", multiple=True, metavar="METRIC=VALUE", help="Exit with 1 if B is lower.  [repeatable]")
@click.option(
    "--fail-if-worse",
    multiple=True,
    metavar="[METRIC=]VALUE",
    help="Exit with 1 if B is lower than A by more; PQ, AP or mIoU unless named.  [repeatable]",
)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON instead: fractions, and null.")
def compare(
    run_a: Path,
    run_b: Path,
    dataset: str | None,
    confidence: float,
    resamples: int,
    seed: int,
    categories: int,
    images: int,
    fail_below: tuple[str, ...],
    fail_if_worse: tuple[str, ...],
    as_json: bool,
) -> None:
    """Compare RUN_B with RUN_A: two runs of one task on one dataset.

    Evaluates what is not evaluated yet, then resamples the images, the same ones for both runs. Tables show percent;
    "B better" is the share of resamples in which B's number is higher.

    \b
    workbench compare runs/before runs/after
    workbench compare runs/before runs/after --fail-if-worse 0.01 --fail-below pq=0.55
    workbench compare runs/before runs/after --json
    """
    from workbench.evaluation import gates
    from workbench.evaluation.compare import compare as compare_runs
    from workbench.evaluation.resampling import Bootstrap

    least, most = gates.parse(fail_below, "--fail-below"), gates.parse(fail_if_worse, "--fail-if-worse")
    with evaluation_progress() as progress:
        found = compare_runs(run_a, run_b, dataset, Bootstrap(confidence, resamples, seed), progress)
    for note in found.report["notes"]:
        click.echo(f"Note: {note}.", err=True)
    if as_json:
        click.echo(json.dumps(found.report, indent=2, ensure_ascii=False))
    else:
        _print_tables(found.report, categories, images)
    a, b = found.numbers("a"), found.numbers("b")
    stop_at([*gates.below(b, least), *gates.worse(a, b, most, found.main)])


def _print_tables(report: Mapping[str, Any], categories: int, images: int) -> None:
    from workbench.consoles import PrintableConsole

    console = PrintableConsole(width=None if sys.stdout.isatty() else _WIDTH)
    console.print(f"A: {report['a']}\nB: {report['b']}\n{report['images_compared']} images", highlight=False)
    for table in _tables(report, categories, images):
        console.print(table)


def _tables(report: Mapping[str, Any], categories: int, images: int) -> Iterator["Table"]:
    known = {name: row for name, row in report["headlines"].items() if row["difference"] is not None}
    yield _movements(f"Headline numbers ({100 * report['confidence']:g} % intervals)", known)
    for metric, rows in report["per_category"].items() if categories else ():
        moved = sorted(rows.items(), key=lambda item: -abs(item[1]["difference"] or 0))[:categories]
        names = {f"{category_id} {report['categories'][category_id]}": row for category_id, row in moved}
        yield _movements(f"{metric} by category ({len(moved)} of {len(rows)}, those that moved most)", names)
    if images:
        table = new_table(f"Images that changed most (of {len(report['images'])})", ("A", "B", "B - A"))
        for row in report["images"][:images]:
            table.add_row(row["image_id"], *(_percent(row[key]) for key in ("a", "b")), _signed(row["difference"]))
        yield table


def _movements(title: str, rows: Mapping[str, Mapping[str, Any]]) -> "Table":
    table = new_table(title, ("A", "B", "B - A", "interval", "B better"))
    for name, row in rows.items():
        ends = row["interval"]
        interval = "-" if ends is None else f"[{_signed(ends['low'])}, {_signed(ends['high'])}]"
        share = "-" if row["b_better"] is None else f"{100 * row['b_better']:.1f} %"
        table.add_row(name, _percent(row["a"]), _percent(row["b"]), _signed(row["difference"]), interval, share)
    return table


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:+.2f}"
