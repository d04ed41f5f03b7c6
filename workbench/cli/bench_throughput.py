"""The command of `workbench bench` about images a second on a GPU."""

from pathlib import Path
from typing import Any

import click

from workbench.cli.bench_scale import out_option
from workbench.cli.predict import BatchSize

# Those of workbench.bench.throughput.SHAPES, which is slow to import.
THROUGHPUT_SHAPES = ("s-640", "b-640", "l-640", "l-512-semantic", "g-640", "l-1280")


@click.command()
@click.option(
    "--shape",
    "shapes",
    type=click.Choice(THROUGHPUT_SHAPES),
    multiple=True,
    default=THROUGHPUT_SHAPES,
    show_default="all",
    help="A published size and its input; may be given several times.",
)
@click.option("--device", default="auto", help="auto, cpu, cuda or cuda:N.")
@click.option(
    "--dtype",
    type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
    default="auto",
    help="auto: bfloat16 on a GPU, else float32.",
)
@click.option("--images", type=click.IntRange(1), default=2048, help="Of each run; 64 of them are different.")
@click.option("--batch-size", type=BatchSize(), metavar="N|auto", default="auto", help="Inputs of a forward pass.")
@click.option("--workers", type=click.IntRange(1), default=8, help="Threads that read images.")
@click.option(
    "--compile/--no-compile", "compiled", default=None, help="As for `workbench predict`: by default for long runs."
)
@click.option("--rounds", type=click.IntRange(1), default=3, help="After the first two runs.")
@click.option("--seed", type=click.IntRange(0), default=0, help="Of drawn weights and images.")
@out_option
@click.pass_context
def throughput(context: click.Context, /, out: Path | None, **options: Any) -> None:
    """Tell images a second from JPEG to Parquet, of models of the published sizes on a GPU.

    There is no peer: the goals are images a second of one H100. Two runs must have the same rows, bit for bit. It also
    tells what share of the time the GPU is busy, and the PQ of reduced precision against float32.

    \b
    workbench bench throughput --device cuda
    workbench bench throughput --shape l-640 --images 4096 --batch-size 32
    """
    from workbench.bench.reporting import command_line
    from workbench.bench.throughput import Plan, benchmark

    benchmark(Plan(**options), command_line(context), out, lambda text: click.echo(text, err=True))
