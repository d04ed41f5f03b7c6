"""`workbench predict`: options in, one call of `workbench.predict`, the run folder out."""

import gc
import json
from typing import Any, TextIO

import click

MOST_FAILURES_SHOWN = 5
_OBJECTS_BETWEEN_COLLECTIONS = 50_000


class BatchSize(click.ParamType[int | str]):
    """A whole number from 1, or "auto"."""

    name = "N|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """The number, or "auto"."""
        if value == "auto":
            return "auto"
        if not str(value).isdigit() or int(value) < 1:
            self.fail(f"{value!r} is neither a whole number from 1 nor 'auto'.", param, ctx)
        return int(value)


@click.command()
@click.option(
    "--dataset",
    required=True,
    help="Name of a dataset (see `workbench datasets list`), or its TOML file or URL.",
)
@click.option(
    "--model",
    help="Hub id, folder, URL (s3://, gs://), or bundled checkpoint. Default: the bundled one for bundled data; else "
    "the published model for the dataset's classes and task, such as tue-mps/coco_panoptic_eomt_large_640 for COCO "
    "panoptic.",
)
@click.option(
    "--task",
    type=click.Choice(["panoptic", "instance", "semantic"]),
    help="Default: the task that the checkpoint was trained for.",
)
@click.option(
    "--out",
    type=click.Path(),
    help="Run folder, or an s3:// or gs:// URL. Default: runs/<dataset>-<task>-<model>, numbered where it is taken.",
)
@click.option("--limit", type=click.IntRange(1), help="Only the first so many images.")
@click.option(
    "--images",
    type=click.File(encoding="utf-8"),
    metavar="FILE",
    help="Only the images that FILE lists, an id or a file name a line; - is stdin.",
)
@click.option(
    "--batch-size",
    type=BatchSize(),
    metavar="N|auto",
    default="auto",
    help="Inputs of a forward pass. auto: 2 on a CPU; on a GPU 16 of 640x640, in proportion for other sizes. Halved "
    "where memory runs out.",
)
@click.option(
    "--device",
    default="auto",
    help="auto, cpu, cuda, cuda:N, or several GPUs with a process each: cuda:0,1. auto: the GPU where there is one; "
    "with Ray, those of the cluster.",
)
@click.option(
    "--dtype",
    type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
    default="auto",
    help="auto: bfloat16 on a GPU, else float32.",
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    help="Panoptic: class scores must exceed it (default 0.8). Instance: lower scores are left out (default 0).",
)
@click.option("--mask-threshold", type=click.FloatRange(0, 1), help="Panoptic: where a mask begins (default 0.5).")
@click.option(
    "--overlap-threshold",
    type=click.FloatRange(0, 1),
    help="Panoptic: share of its mask that a segment must keep (default 0.8).",
)
@click.option(
    "--top-k",
    type=click.IntRange(1),
    help="Instance: candidates an image, query x class, by score (default 100). Those with an empty mask are left out.",
)
@click.option(
    "--classes",
    type=click.Choice(["exact", "common"]),
    default="exact",
    help="Match the checkpoint's classes and the dataset's categories by name: all of them, or those in common.",
)
@click.option(
    "--keep-candidates",
    is_flag=True,
    help="Panoptic: keep the queries below the threshold too, for `workbench sweep`: a few kilobytes an image.",
)
@click.option(
    "--candidate-floor",
    type=click.FloatRange(0, 1),
    help="Panoptic: keep the queries whose class score exceeds it (default 0.05 with --keep-candidates).",
)
@click.option(
    "--workers",
    type=click.IntRange(1),
    help="Threads that read images, of each process. Default: one a core that it has, at most 8.",
)
@click.option(
    "--processes",
    type=click.IntRange(1),
    help="Processes on this machine, among which its cores, or the GPUs of --device, are divided. Default: one a GPU "
    "named, or one.",
)
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    help="local: this machine. ray: workers on a Ray cluster, which needs the extra [ray]. Rows are the same, and "
    "either goes on with what the other began.",
)
@click.option(
    "--num-workers",
    type=click.IntRange(1),
    help="With --engine ray: so many workers. Default: one a GPU of the cluster, or one a node where it has none.",
)
@click.option(
    "--address",
    help="With --engine ray: the cluster's, auto or host:port. Default: one on this machine that ends with the run.",
)
@click.option(
    "--compile/--no-compile",
    "compiled",
    default=None,
    help="Put the model through torch's compiler, on a GPU with bfloat16 or float16. Default: from 2000 images on.",
)
@click.option("--profile", is_flag=True, help="Tell each stage's share of the time, and what limits the run.")
@click.option("--resume/--no-resume", default=True, help="Go on with an incomplete run of the same command.")
@click.option("--json", "as_json", is_flag=True, help="Print a summary as JSON instead of the run folder.")
def predict(dataset: str, as_json: bool, images: TextIO | None, **options: Any) -> None:
    """Run a model over a dataset, into a run folder.

    The folder gets the predicted segments (predictions/*.parquet), an image table (images/*.parquet) and run.json,
    which says how they were made. stdout's last line is the folder. The same command again goes on where it stopped.

    An image that is missing or broken, or whose size is not the declared one, is recorded as failed; the others go on.
    What may be over at the next attempt, such as an input/output error, stops the run instead. Exit code 0 is good, 1 a
    failure, names that are not found among them, or some failed images, 2 wrong options, 130 a stop by Ctrl-C.

    \b
    workbench predict --dataset scenes_val
    workbench predict --dataset coco_val --task instance --limit 100
    workbench predict --dataset mine.toml --model my_model/ --classes common --out runs/mine
    workbench predict --dataset coco_val --device cuda:0,1
    workbench predict --dataset coco_val --engine ray --address auto
    """
    # Here and not above: torch takes a second, which --help must not wait for. While modules load, and few of their
    # objects are garbage, looking for it every 700 objects, as Python does, takes a tenth of the start.
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
    from workbench.prediction.api import predict as predict_dataset
    from workbench.prediction.summary import summary

    chosen = None if images is None else [line.strip() for line in images if line.strip()]
    result = summary(predict_dataset(dataset, images=chosen, **options))
    tell(result)
    click.echo(json.dumps(result) if as_json else result["path"])
    if result["failed"]:
        raise click.exceptions.Exit(1)


def tell(result: dict[str, Any]) -> None:
    """Say on stderr what a run came to, failures first of all."""
    click.echo(f"{result['images']} images, {result['segments']} segments, {result['failed']} failed", err=True)
    for failure in result["errors"][:MOST_FAILURES_SHOWN]:
        click.echo(f"  {failure['image_id']}: {failure['error']}", err=True)
    if result["failed"] > MOST_FAILURES_SHOWN:
        click.echo(f"  ... and {result['failed'] - MOST_FAILURES_SHOWN} more: see the image table.", err=True)
