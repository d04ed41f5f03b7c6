"""`workbench bench`: measurements against the official tools that anyone can repeat.

A benchmark is a module of `workbench.bench`, built with `workbench.bench.measuring`; its command here only parses.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import click

# Those of workbench.bench.evaluate.PARTS, which is slow to import.
EVALUATE_PARTS = ("pq", "miou", "boundary", "ap", "intervals")
PREDICT_PARTS = ("end-to-end", "post-processing")
_out = click.option(
    "--out", type=click.Path(path_type=Path), help="Folder for <date>-<name>.md and .json, e.g. reports/benchmarks."
)
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
    memory, ratio, goals and the machine, and says where we lose. `audit` alone has no peer: it counts what it finds of
    errors that were planted.
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
@_out
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
@_out
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


@bench.command()
@click.option("--images", type=click.IntRange(1), default=1000, help="In the run that is pushed.")
@click.option("--masks", type=click.IntRange(1), default=20, help="On each image.")
@click.option("--rounds", type=click.IntRange(1), default=3, help="Pushes each, after the first.")
@_out
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
@_out
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
@_out
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


@bench.command()
@click.option("--size", "sizes", type=click.Choice(["s", "b", "l"]), multiple=True, default=("s",), help="Of models.")
@click.option(
    "--task",
    "tasks",
    type=click.Choice(["panoptic", "instance"]),
    multiple=True,
    default=("panoptic", "instance"),
    show_default="all",
    help="May be given several times.",
)
@click.option(
    "--run", "runs", type=click.Path(path_type=Path), multiple=True, help="Count the bytes of that run folder too."
)
@click.option("--images", type=click.IntRange(1), default=2, help="That are drawn.")
@click.option("--rounds", type=click.IntRange(1), default=3, help="After the first.")
@click.option("--seed", type=click.IntRange(0), default=0, help="Of drawn weights and images.")
@_out
@click.pass_context
def stages(context: click.Context, /, out: Path | None, **options: Any) -> None:
    """Measure what an image costs: read, prepare, model, post-process, encode, write, each alone on one CPU thread.

    These are the figures that `workbench bench capacity` reckons with (docs/scale.md). Takes half a minute with --size
    s, some minutes with --size l.

    \b
    workbench bench stages --size s --task panoptic --run runs/mine
    """
    from workbench.bench.reporting import command_line
    from workbench.bench.stage_costs import Plan, benchmark

    benchmark(Plan(**options), command_line(context), out, lambda text: click.echo(text, err=True))


@bench.command()
@click.option("--images", type=click.IntRange(8), default=500_000, help="For CPU workers; GPUs get ten times as many.")
@click.option("--seeds", type=click.IntRange(1), default=3, help="Simulations of each fleet.")
@_out
@click.pass_context
def fleet(context: click.Context, images: int, seeds: int, out: Path | None) -> None:
    """Play a thousand workers with stragglers and failures, and compare with the formula of `bench capacity`.

    One driver commits in order; workers, nodes and the driver die at random. Takes minutes with the defaults.

    \b
    workbench bench fleet --images 50000 --seeds 1
    """
    from workbench.bench.capacity import MEASURED, cpu_fleet, gpu_fleet
    from workbench.bench.fleet_report import benchmark, scenarios
    from workbench.bench.reporting import command_line

    chosen = scenarios(cpu_fleet(MEASURED), gpu_fleet(MEASURED), images)
    benchmark(chosen, seeds, command_line(context), out, lambda text: click.echo(text, err=True))


@bench.command()
@click.option("--images", type=float, multiple=True, help="1e9 is a billion; may be given several times.")
@click.option("--gpus", type=click.IntRange(1), multiple=True, default=(1, 8, 1000), show_default=True)
@click.option(
    "--images-per-second",
    "gpu_images_per_second",
    type=click.FloatRange(0, min_open=True),
    help="Of one GPU.  [default: 128]",
)
@click.option("--read-ms", type=click.FloatRange(0), help="Of one core: read, decode, prepare.")
@click.option("--post-process-ms", type=click.FloatRange(0), help="Of one core.")
@click.option("--encode-ms", type=click.FloatRange(0), help="Of one core.")
@click.option("--driver-ms", type=click.FloatRange(0), help="Of the driver, beside committing.")
@click.option("--shard-seconds", type=click.FloatRange(0), help="To commit 512 images.")
@click.option("--prediction-bytes", type=click.FloatRange(0), help="An image.")
@click.option("--evaluate-ms", type=click.FloatRange(0), help="Of one core.")
@click.option("--evaluation-bytes", type=click.FloatRange(0), help="An image.")
@click.option("--image-bytes", type=click.FloatRange(0), help="Of a JPEG file.")
def capacity(images: tuple[float, ...], gpus: tuple[int, ...], **given: float | None) -> None:
    """Reckon what a number of images needs: GPU hours, cores, storage, evaluation, and how long so many GPUs take.

    Costs that are not given are those of docs/scale.md: measured by us on a CPU, the GPU's speed as published.

    \b
    workbench bench capacity --images 1e9 --images-per-second 128 --gpus 64
    """
    from dataclasses import replace

    from workbench.bench.capacity import MEASURED, WORKLOADS, Capacity, gpu_fleet

    costs = replace(MEASURED, **{name: each for name, each in given.items() if each is not None})
    workloads = {f"{each:,.0f} images": each for each in images} or dict(WORKLOADS)
    for table in Capacity(costs, gpu_fleet(costs), workloads, gpus).tables().values():
        click.echo(table)


@bench.command("scale-evaluate")
@click.option(
    "--task",
    "tasks",
    type=click.Choice(["panoptic", "instance"]),
    multiple=True,
    default=("panoptic",),
    show_default=True,
    help="Of the run; may be given several times.",
)
@click.option(
    "--images",
    type=click.IntRange(1),
    multiple=True,
    default=(10_000, 100_000),
    show_default=True,
    help="Size of the data set; may be given several times.",
)
@click.option(
    "--processes",
    type=click.IntRange(1),
    multiple=True,
    default=(1, 2),
    show_default=True,
    help="That count; may be given several times.",
)
@click.option("--confidence", is_flag=True, help="Make intervals of 100 resamples, too.")
@click.option("--seed", type=click.IntRange(0), default=0, help="Of the drawn images.")
@_out
@click.pass_context
def scale_evaluate(
    context: click.Context,
    tasks: tuple[Literal["panoptic", "instance"], ...],
    images: tuple[int, ...],
    processes: tuple[int, ...],
    confidence: bool,
    seed: int,
    out: Path | None,
) -> None:
    """Score drawn data sets of up to millions of images: time and memory an image, by the number of images.

    Draws small maps, without pictures. A million images take some ten minutes of a core and 2 GB in the folder for
    temporary files.

    \b
    workbench bench scale-evaluate --images 1000 --images 5000
    workbench bench scale-evaluate --images 10000 --images 1000000 --processes 1
    """
    from workbench.bench.reporting import command_line
    from workbench.bench.scale_evaluate import Plan, benchmark

    plan = Plan(tasks, sorted(images), processes, confidence, seed)
    benchmark(plan, command_line(context), out, lambda text: click.echo(text, err=True))
