"""The commands of `workbench bench` about very many images: evaluation, costs by stage, capacity, fleets."""

from pathlib import Path
from typing import Any, Literal

import click

out_option = click.option(
    "--out", type=click.Path(path_type=Path), help="Folder for <date>-<name>.md and .json, e.g. reports/benchmarks."
)


@click.command()
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
@out_option
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


@click.command()
@click.option(
    "--engine",
    "engines",
    type=click.Choice(["processes", "ray"]),
    multiple=True,
    default=("processes", "ray"),
    show_default="all",
    help="May be given twice.",
)
@click.option("--images", type=click.IntRange(4), default=40, help="Of the bundled sample.")
@click.option("--rounds", type=click.IntRange(1), default=3, help="Commands each, after the first.")
@out_option
@click.pass_context
def engines(context: click.Context, engines: tuple[str, ...], images: int, rounds: int, out: Path | None) -> None:
    """Predict by two processes and by two Ray workers, against one process: the same rows, then the time.

    Also tells what an image costs the command that gives out batches and commits rows. On a CPU; takes minutes.

    \b
    workbench bench engines --engine processes --rounds 1
    """
    from workbench.bench.engines import benchmark
    from workbench.bench.reporting import command_line

    benchmark(engines, images, rounds, command_line(context), out, lambda text: click.echo(text, err=True))


@click.command()
@click.option("--images", type=click.IntRange(8), default=500_000, help="For CPU workers; GPUs get ten times as many.")
@click.option("--seeds", type=click.IntRange(1), default=3, help="Simulations of each fleet.")
@out_option
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


@click.command()
@click.option("--images", type=float, multiple=True, help="1e9 is a billion; may be given several times.")
@click.option(
    "--gpus",
    type=click.IntRange(1),
    multiple=True,
    default=(1, 8, 1000),
    show_default=True,
    help="That share the work; may be given several times.",
)
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
@click.option("--prediction-bytes", type=click.FloatRange(0), help="An image, on disk.")
@click.option("--evaluate-ms", type=click.FloatRange(0), help="Of one core.")
@click.option("--evaluation-bytes", type=click.FloatRange(0), help="An image, on disk.")
@click.option("--evaluation-memory", type=click.FloatRange(0), help="Bytes an image.")
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


@click.command("scale-evaluate")
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
@out_option
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
