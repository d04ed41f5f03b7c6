"""`workbench bench`: measurements against the official tools that anyone can repeat.

A benchmark is a module of `workbench.bench`, built with `workbench.bench.measuring`; its command here only parses.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from workbench.cli.bench_scale import capacity, engines, fleet, out_option, scale_evaluate, stages
from workbench.cli.bench_throughput import throughput

# Those of workbench.bench.evaluate.PARTS, which is slow to import.
EVALUATE_PARTS = ("pq", "miou", "boundary", "ap", "intervals")
PREDICT_PARTS = ("end-to-end", "post-processing")
_Decorator = Callable[[Callable[..., None]], Callable[..., None]]


def _parts(names: tuple[str, ...]) -> _Decorator:
    """`--part`, as `parts`: some of those names, or all."""
    return click.option(
        "--part",
        "parts",
        type=click.Choice(names),
        multiple=True,
        default=names,
        show_default="all",
        help="What to measure; may be given several times.",
    )


@click.group()
def bench() -> None:
    """Measure us against the official tools, on the same inputs in the same run.

    What both give is compared before a time is taken; a difference exits with 1. A report gives medians, spread,
    memory, ratio, goals and the machine, and says where we lose. `audit`, which counts what it finds of errors that
    were planted, and `scale-evaluate`, `stages`, `capacity` and `fleet` have no peer.
    """


@bench.command()
@_parts(EVALUATE_PARTS)
@click.option(
    "--images", type=click.IntRange(1), default=5000, help="Of the validation set that is timed by the clock."
)
@click.option(
    "--distinct", type=click.IntRange(1), default=120, help="Images that are drawn, and that tools are given."
)
@click.option("--rounds", type=click.IntRange(1), default=5, help="Of each side, after the first.")
@click.option("--seed", type=click.IntRange(0), default=0, help="Of the drawn images.")
@out_option
@click.pass_context
def evaluate(
    context: click.Context, parts: tuple[str, ...], images: int, distinct: int, rounds: int, seed: int, out: Path | None
) -> None:
    """Score drawn data, and again with panopticapi, pycocotools and the usual ways of mIoU and boundary PQ.

    Needs panopticapi and OpenCV, which the workbench itself does not. Takes some minutes.

    \b
    workbench bench evaluate --images 500 --distinct 20 --rounds 3
    workbench bench evaluate --part miou
    """
    from workbench.bench.evaluate import Plan, benchmark
    from workbench.bench.reporting import command_line

    plan = Plan(parts, images, distinct, rounds, seed)
    benchmark(plan, command_line(context), out, lambda text: click.echo(text, err=True))


@bench.command()
@_parts(PREDICT_PARTS)
@click.option(
    "--size",
    "sizes",
    type=click.Choice(["s", "b", "l"]),
    multiple=True,
    default=("s",),
    help="Of the models, end to end.",
)
@click.option(
    "--task",
    "tasks",
    type=click.Choice(["panoptic", "instance", "semantic"]),
    multiple=True,
    default=("panoptic", "instance", "semantic"),
    show_default="all",
    help="End to end; may be given several times.",
)
@click.option("--device", default="auto", help="End to end: auto, cpu or cuda.")
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    default="float32",
    help="Of both sides, end to end; below float32 ours is compared with ours in float32 too.",
)
@click.option("--images", type=click.IntRange(1), default=4, help="End to end.")
@click.option("--batch-size", type=click.IntRange(1), default=2, help="Of both sides, end to end.")
@click.option("--threads", type=click.IntRange(1), default=1, help="Of a CPU, end to end.")
@click.option("--rounds", type=click.IntRange(1), default=5, help="Of each side, after the first.")
@click.option("--seed", type=click.IntRange(0), default=0, help="Of drawn weights, images and outputs.")
@out_option
@click.pass_context
def predict(
    context: click.Context, /, parts: tuple[str, ...], rounds: int, seed: int, out: Path | None, **options: Any
) -> None:
    """Predict from JPEG to Parquet, and again with transformers' documented pipeline; post-processing alone too.

    Needs transformers, which the workbench itself does not. Takes some minutes on a CPU core with --size s, half an
    hour with --size l. On a GPU it also tells images a second by batch size.

    \b
    workbench bench predict --part end-to-end --size s --task panoptic --rounds 3
    workbench bench predict --part post-processing --rounds 3
    """
    from workbench.bench import post_processing
    from workbench.bench import predict as end_to_end
    from workbench.bench.reporting import command_line

    command = command_line(context)
    if "end-to-end" in parts:
        plan = end_to_end.Plan(**options, rounds=rounds, seed=seed)
        end_to_end.benchmark(plan, command, out, lambda text: click.echo(text, err=True))
    if "post-processing" in parts:
        post_processing.benchmark(rounds, seed, command, out, lambda text: click.echo(text, err=True))


@bench.command("start-up")
@click.option("--rounds", type=click.IntRange(1), default=3, help="Processes of each kind, after the first.")
@out_option
@click.pass_context
def start_up(context: click.Context, rounds: int, out: Path | None) -> None:
    """Predict one bundled image in a new process: kernels on disk, and compiled as on first use.

    \b
    workbench bench start-up
    """
    from workbench.bench.reporting import command_line
    from workbench.bench.start_up import benchmark

    benchmark(rounds, command_line(context), out, lambda text: click.echo(text, err=True))


@bench.command()
@click.option("--images", type=click.IntRange(1), default=1000, help="In the run that is pushed.")
@click.option("--masks", type=click.IntRange(1), default=20, help="On each image.")
@click.option("--rounds", type=click.IntRange(1), default=3, help="Pushes each, after the first.")
@out_option
@click.pass_context
def push(context: click.Context, images: int, masks: int, rounds: int, out: Path | None) -> None:
    """Push a run into FiftyOne, and again in the way of FiftyOne's documentation.

    Needs FiftyOne; uses the database that it is configured with, and deletes the datasets that it makes.

    \b
    workbench bench push --images 100
    """
    from workbench.bench.push import benchmark
    from workbench.bench.reporting import command_line

    benchmark(images, masks, rounds, command_line(context), out, lambda text: click.echo(text, err=True))


@bench.command()
@click.option("--case", "cases", type=click.Choice(["bundled", "small-640"]), multiple=True, help="Default: all.")
@click.option("--device", default="auto", help="auto, cpu or cuda.")
@click.option(
    "--dtype",
    "dtypes",
    type=click.Choice(["float32", "bfloat16"]),
    multiple=True,
    default=("float32",),
    help="Of the forward pass; may be given twice.",
)
@click.option("--rounds", type=click.IntRange(1), default=5, help="Steps each, after the first.")
@click.option("--threads", type=click.IntRange(1), default=1, help="Of a CPU.")
@out_option
@click.pass_context
def train(
    context: click.Context,
    cases: tuple[str, ...],
    device: str,
    dtypes: tuple[str, ...],
    rounds: int,
    threads: int,
    out: Path | None,
) -> None:
    """Train ours and transformers' EoMT step by step: same weights, batches, random numbers and loop.

    Needs transformers, which the workbench itself does not.

    \b
    workbench bench train --case bundled
    """
    from workbench.bench.reporting import command_line
    from workbench.bench.train import benchmark

    benchmark(
        cases, device, dtypes, rounds, threads, command_line(context), out, lambda text: click.echo(text, err=True)
    )


@bench.command()
@click.option("--seed", "seeds", type=int, multiple=True, default=tuple(range(1001, 1011)), help="Of the errors.")
@click.option("--series", type=int, multiple=True, default=(301, 302, 303), help="Further scenes: seeds of theirs.")
@click.option("--rate", type=click.FloatRange(0.01, 0.2), default=0.05, help="Share of the labels that are made wrong.")
@out_option
@click.pass_context
def audit(
    context: click.Context, seeds: tuple[int, ...], series: tuple[int, ...], rate: float, out: Path | None
) -> None:
    """Plant label errors into generated scenes, and count those that `workbench audit` ranks among the first.

    Takes about a minute for each series of scenes.

    \b
    workbench bench audit --seed 1 --seed 2
    """
    from workbench.bench.audit import benchmark
    from workbench.bench.reporting import command_line

    benchmark(rate, seeds, series, command_line(context), out, lambda text: click.echo(text, err=True))


for _command in (throughput, scale_evaluate, stages, engines, capacity, fleet):
    bench.add_command(_command)
