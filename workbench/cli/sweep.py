"""`workbench sweep`: what a run would score at other thresholds, as a table or as JSON."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from workbench.cli.evaluate import evaluation_progress
from workbench.cli.tables import HEADINGS, new_table, shown

if TYPE_CHECKING:
    from rich.table import Table

_WIDTH = 110  # columns where stdout is no terminal
_BESIDE = {"pq": ("pq", "sq", "rq", "pq_things", "pq_stuff"), "f1": ("f1", "precision", "recall", "tp", "fp", "fn")}
_HEADINGS = {**HEADINGS, "f1": "F1", "pq_things": "PQ things", "pq_stuff": "PQ stuff"}
_MOST_CATEGORIES = 20


@click.command()
@click.argument("run", required=False, type=click.Path(path_type=Path))
@click.option("--thresholds", metavar="GRID", help="Such as 0.5,0.8 or first:last:step.  [default: 0.1:0.95:0.05]")
@click.option("--overlaps", metavar="GRID", help="Overlap thresholds of a panoptic run.  [default: 0.5:0.9:0.1]")
@click.option("--dataset", help="Name of a dataset, or path of its definition.  [default: the one of the run]")
@click.option("--apply", "apply_to", type=click.Path(path_type=Path), help="Write a run at the best setting there.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of sweep.json and sweep.parquet.  [default: RUN]")
@click.option("--resamples", default=1000, help="Of the images, for the interval of the gain.")
@click.option("--seed", default=0, help="Of the resamples and of the folds.")
@click.option("--json", "as_json", is_flag=True, help="Print the content of sweep.json instead: fractions, and null.")
def sweep(
    run: Path | None,
    thresholds: str | None,
    overlaps: str | None,
    dataset: str | None,
    apply_to: Path | None,
    out: Path | None,
    resamples: int,
    seed: int,
    as_json: bool,
) -> None:
    """Score the run folder RUN (the newest below runs/ by default) at other thresholds, without the model.

    A panoptic run needs the candidates that `workbench predict --keep-candidates` keeps, and gives PQ by threshold and
    overlap threshold; an instance run gives F1 at IoU 0.5 by threshold. The numbers are those of runs made with each
    setting. The best one looks better than it is, as it is chosen on the images that it is scored on: an interval and a
    cross-validated number say by how much.

    \b
    workbench sweep
    workbench sweep runs/mine --thresholds 0.3:0.9:0.05 --overlaps 0.5,0.8
    workbench sweep runs/mine --apply runs/mine-best
    """
    from workbench.evaluation.resampling import Bootstrap
    from workbench.sweeping.api import JSON, TABLE
    from workbench.sweeping.api import sweep as measure

    bootstrap = Bootstrap(resamples=resamples, seed=seed)
    with evaluation_progress() as progress:
        found = measure(run, thresholds, overlaps, dataset=dataset, out=out, bootstrap=bootstrap, progress=progress)
    for note in found.report["notes"]:
        click.echo(f"Note: {note}.", err=True)
    if as_json:
        click.echo(json.dumps(found.report, indent=2, ensure_ascii=False))
    else:
        _print(found.report)
        click.echo(f"Kept in {out or found.run.place}: {JSON}, {TABLE}", err=True)
    if apply_to is not None:
        made = found.apply(apply_to)
        click.echo(f"Written at {found.best}: {made.path}", err=True)


def _print(report: Mapping[str, Any]) -> None:
    from workbench.consoles import PrintableConsole

    console = PrintableConsole(width=None if sys.stdout.isatty() else _WIDTH, highlight=False)
    console.print(_grid_table(report))
    console.print(_choice_table(report))
    for line in _judgement(report):
        console.print(line)
    if by_category := report.get("best_by_category"):
        console.print(_category_table(by_category))


def _grid_table(report: Mapping[str, Any]) -> "Table":
    """The main number by threshold (rows) and overlap threshold (columns), or all numbers by threshold."""
    main, points = report["main"], report["points"]
    marks = {_key(report["best"]): "best", **({_key(report["current"]): "now"} if report["current"] else {})}
    if report["current"] and _key(report["current"]) == _key(report["best"]):
        marks = {_key(report["best"]): "now, best"}
    if "overlap_threshold" not in points[0]:
        made = new_table("F1 at IoU 0.5 by threshold", [_HEADINGS.get(name, name) for name in _BESIDE[main]] + [""])
        for point in points:
            numbers = [shown(point[name]) for name in _BESIDE[main]]
            made.add_row(f"{point['threshold']:g}", *numbers, marks.get(_key(point), ""))
        return made
    overlaps = sorted({point["overlap_threshold"] for point in points})
    made = new_table("PQ by threshold (rows) and overlap threshold", [f"{overlap:g}" for overlap in overlaps])
    for threshold in sorted({point["threshold"] for point in points}):
        row = [point for point in points if point["threshold"] == threshold]
        cells = [f"{marks.get(_key(point), '')} {shown(point[main])}".strip() for point in row]
        made.add_row(f"{threshold:g}", *cells)
    return made


def _choice_table(report: Mapping[str, Any]) -> "Table":
    names = _BESIDE[report["main"]]
    made = new_table("Settings", [_HEADINGS.get(name, name) for name in names])
    for name, point in (("now", report["current"]), ("best", report["best"])):
        if point:
            made.add_row(f"{name}: {_setting(point)}", *(shown(point[each]) for each in names))
    return made


def _judgement(report: Mapping[str, Any]) -> Sequence[str]:
    lines, name = [], _HEADINGS[report["main"]]
    gain, held_out = report["gain"], report["held_out"]
    if gain and gain["difference"] is not None:
        ends, confidence = gain["interval"], 100 * gain["confidence"]
        within = f", {100 * ends['low']:+.2f} to {100 * ends['high']:+.2f} at {confidence:g} %" if ends else ""
        lines.append(f"Best less now: {100 * gain['difference']:+.2f} points of {name}{within}.")
    if held_out and held_out[report["main"]] is not None:
        lines.append(
            f"Chosen on four fifths of the images and scored on the fifth, in turn: {name} "
            f"{shown(held_out[report['main']])}."
        )
    return lines


def _category_table(rows: Sequence[Mapping[str, Any]]) -> "Table":
    few = sorted(rows, key=lambda row: -row["f1"])[:_MOST_CATEGORIES]
    title = "Best threshold by category"
    if len(few) < len(rows):
        title += f" (the best {len(few)} of {len(rows)}: --json lists all)"
    made = new_table(title, ["threshold", "F1"])
    for row in few:
        made.add_row(f"{row['category_id']} {row['name']}", f"{row['threshold']:g}", shown(row["f1"]))
    return made


def _setting(point: Mapping[str, Any]) -> str:
    names = [name for name in ("threshold", "overlap_threshold") if name in point]
    return ", ".join(f"{name.replace('_', ' ')} {point[name]:g}" for name in names)


def _key(point: Mapping[str, Any]) -> tuple[float, float | None]:
    return point["threshold"], point.get("overlap_threshold")
