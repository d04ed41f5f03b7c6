"""`workbench evaluate`: a run's metrics as tables or as JSON."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from workbench.cli.tables import table

if TYPE_CHECKING:
    from rich.table import Table

    from workbench.evaluation.evaluation import Progress

_WIDTH = 110  # columns where stdout is no terminal
_TABLES = ("per_category", "per_image", "detections", "matches", "errors", "confusion", "slices")
_COLUMNS = {
    "panoptic": ("pq", "sq", "rq", "tp", "fp", "fn"),
    "instance": ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100", "gt"),
    "semantic": ("iou", "acc", "gt_pixels"),
}


class Confidence(click.ParamType[float]):
    """A number; an option whose value may be left out takes what stands behind it for the value."""

    name = "float"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The value as a float."""
        try:
            return float(value)
        except ValueError:
            self.fail(f"{value!r} is no number. Put RUN before --confidence, or write --confidence=0.95.", param, ctx)


@click.command()
@click.argument("run", required=False, type=click.Path(path_type=Path))
@click.option("--dataset", help="Name of a dataset, or path of its definition.  [default: the one of the run]")
@click.option("--per-category", is_flag=True, help="A table of every category too.")
@click.option("--errors", "with_errors", is_flag=True, help="Tables of the types of error, and what each costs.")
@click.option(
    "--by",
    multiple=True,
    metavar="WHAT",
    help="Numbers of slices: area (of segments); width, height, pixels or segments (of images); or FILE.csv:COLUMN,"
    " a table with image_id or file_name.  [repeatable]",
)
@click.option("--boundary", is_flag=True, help="The same metrics by outlines, too: boundary PQ, AP, IoU.")
@click.option("--corrected", is_flag=True, help="Mend the official tools' oddities, see docs/parity.md.")
@click.option(
    "--confidence",
    type=Confidence(),
    is_flag=False,
    flag_value=0.95,
    help="Add intervals, of 0.95 unless a value follows. Put RUN before it.",
)
@click.option("--resamples", default=1000, help="Of the images, for --confidence.")
@click.option("--seed", default=0, help="Of the resamples.")
@click.option("--fail-below", multiple=True, metavar="METRIC=VALUE", help="Exit with 1 if it is lower.  [repeatable]")
@click.option("--processes", type=click.IntRange(1), help="Processes on this machine that count.  [default: 1]")
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    help="local: this machine. ray: tasks on a Ray cluster, which needs the extra [ray]. Results are the same.",
)
@click.option("--num-workers", type=click.IntRange(1), help="With --engine ray.  [default: one a core of the cluster]")
@click.option(
    "--address",
    help="With --engine ray: the cluster's, auto or host:port. Default: one on this machine that ends with the run.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the content of metrics.json instead: fractions, and null.")
def evaluate(
    run: Path | None,
    dataset: str | None,
    per_category: bool,
    with_errors: bool,
    by: tuple[str, ...],
    boundary: bool,
    corrected: bool,
    confidence: float | None,
    resamples: int,
    seed: int,
    fail_below: tuple[str, ...],
    processes: int | None,
    engine: str,
    num_workers: int | None,
    address: str | None,
    as_json: bool,
) -> None:
    """Score the run folder RUN (the newest below runs/ by default) against its dataset's ground truth.

    Measures what the run's task and the ground truth allow: PQ as panopticapi, AP as pycocotools, mIoU as ADE20K's
    benchmark. Tables show percent. Keeps metrics.json and, as Parquet, the numbers of every category, image, detection
    and match in the run folder.

    \b
    workbench evaluate
    workbench evaluate runs/mine --per-category
    workbench evaluate runs/mine --confidence
    workbench evaluate runs/mine --errors --by area --by weather.csv:weather
    workbench evaluate runs/mine --json --fail-below pq=0.55 --fail-below miou=0.4
    workbench evaluate runs/mine --processes 8
    workbench evaluate runs/mine --engine ray --address auto
    """
    from workbench.evaluation import gates
    from workbench.evaluation.evaluation import evaluate as score
    from workbench.evaluation.headlines import headlines
    from workbench.evaluation.resampling import Bootstrap

    limits = gates.parse(fail_below, "--fail-below")
    bootstrap = None if confidence is None else Bootstrap(confidence, resamples, seed)
    with evaluation_progress() as progress:
        evaluation = score(
            run, dataset, progress, bootstrap, corrected, by, boundary, engine, processes, num_workers, address
        )
    for note in evaluation.notes:
        click.echo(f"Note: {note}.", err=True)
    if as_json:
        click.echo(json.dumps(evaluation.metrics, indent=2, ensure_ascii=False))
    else:
        _print_tables(evaluation.metrics, per_category, with_errors)
        click.echo(
            f"Kept in {evaluation.run.place}: metrics.json, {', '.join(f'{name}.parquet' for name in _TABLES)}",
            err=True,
        )
    stop_at(gates.below(headlines(evaluation.metrics), limits))


def stop_at(failed: Sequence[str]) -> None:
    """Exit with 1 and one message where a gate failed."""
    if failed:
        raise click.ClickException("; ".join(failed) + ".")


def _print_tables(metrics: Mapping[str, Any], per_category: bool, with_errors: bool) -> None:
    from workbench.cli.why_tables import error_tables, slice_tables
    from workbench.consoles import PrintableConsole

    console = PrintableConsole(width=None if sys.stdout.isatty() else _WIDTH)
    for each in _headline(metrics):
        console.print(each)
    if metrics["intervals"]:
        console.print(_interval_table(metrics))
    for each in (*(error_tables(metrics) if with_errors else ()), *slice_tables(metrics)):
        console.print(each)
    if per_category:
        for title, task, numbers in _category_parts(metrics):
            console.print(_category_table(title, _COLUMNS[task], numbers))


def _headline(metrics: Mapping[str, Any]) -> Iterator["Table"]:
    if metrics["panoptic"]:
        for title, part in (
            ("Panoptic", metrics["panoptic"]),
            ("Boundary panoptic", metrics["panoptic"].get("boundary")),
        ):
            rows = [(name, part[name]) for name in ("all", "things", "stuff")] if part else []
            if rows:
                yield table(f"{title} quality", ("pq", "sq", "rq", "n"), rows)
    if metrics["instance"]:
        rows = [(name, part) for name, part in metrics["instance"].items() if part]
        for title, prefix in (("Average precision", "AP"), ("Average recall", "AR")):
            yield table(title, [name for name in rows[0][1] if name.startswith(prefix)], rows)
    if metrics["semantic"]:
        part = metrics["semantic"]
        yield table("Semantic segmentation", ("miou", "aacc", "macc", "n"), [("in ground truth or predicted", part)])
        if part.get("boundary"):
            yield table("Semantic segmentation by outlines", ("miou",), [("with an outline", part["boundary"])])


def _interval_table(metrics: Mapping[str, Any]) -> "Table":
    from workbench.evaluation.headlines import headlines

    intervals = metrics["intervals"]
    rows = [
        (name, {"value": value, **(intervals["headlines"].get(name) or {"low": None, "high": None})})
        for name, value in headlines(metrics).items()
        if value is not None
    ]
    title = f"Intervals of {100 * intervals['confidence']:g} % ({intervals['resamples']} resamples of the images)"
    return table(title, ("value", "low", "high"), rows)


def _category_parts(metrics: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(title, task, numbers by category) of each table."""
    if metrics["panoptic"]:
        yield "Panoptic quality by category", "panoptic", metrics["panoptic"]["per_category"]
    for geometry, part in (metrics["instance"] or {}).items():
        if part:
            yield f"Average precision by category ({geometry})", "instance", part["per_category"]
    if metrics["semantic"]:
        yield "IoU by category", "semantic", metrics["semantic"]["per_category"]


def _category_table(title: str, columns: tuple[str, ...], numbers: dict[str, Any]) -> "Table":
    rows = [
        (f"{category_id} {row['name']}", row) for category_id, row in numbers.items() if row[columns[0]] is not None
    ]
    return table(f"{title} ({len(rows)} of {len(numbers)} occur)", columns, rows)


@contextmanager
def evaluation_progress() -> Iterator["Progress"]:
    """A bar on stderr where that is a terminal, else nothing."""
    from rich.progress import Progress as Bar

    from workbench.consoles import PrintableConsole

    with Bar(console=PrintableConsole(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        tasks: dict[str, Any] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done, total=total)

        yield show
