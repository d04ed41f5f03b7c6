"""`workbench train`: options in, one call of `workbench.train`, a folder with checkpoints out."""

import json
import tomllib
from pathlib import Path
from typing import Any

import click

from workbench.errors import OptionError, did_you_mean


class ImageSize(click.ParamType[int | tuple[int, int]]):
    """A whole number, or two with an x between: height x width."""

    name = "N|HxW"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | tuple[int, int]:
        """The number, or the pair."""
        numbers = str(value).split("x")
        if len(numbers) > 2 or not all(number.isdigit() and int(number) > 0 for number in numbers):
            self.fail(f"{value!r} is neither an edge in pixels, such as 640, nor height x width, such as 480x640.")
        return int(numbers[0]) if len(numbers) == 1 else (int(numbers[0]), int(numbers[1]))


def read_recipe(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path | None:
    """Make the values of a recipe file the defaults of the other options, so that the command line overrules them."""
    if value is None:
        return None
    try:
        recipe = tomllib.loads(value.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise OptionError(f"--recipe {value}: not a readable TOML file ({error}).") from error
    names = {(option.opts[0].removeprefix("--")): option.name for option in ctx.command.params}
    defaults = {}
    for key, setting in recipe.items():
        if key not in names or key == "recipe":
            raise OptionError(f"--recipe {value}: unknown key {key!r}. {did_you_mean(key, names)}")
        option = next(option for option in ctx.command.params if option.name == names[key])
        try:
            option.type_cast_value(ctx, setting)
        except (TypeError, ValueError, AttributeError, OverflowError, RecursionError, click.UsageError) as error:
            said = error.message if isinstance(error, click.UsageError) else "of another type than the option's"
            raise OptionError(f"--recipe {value}: {key} = {setting!r}: {said}") from error
        defaults[names[key]] = setting
    ctx.default_map = {**(ctx.default_map or {}), **defaults}
    return value


@click.command()
@click.option(
    "--recipe",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    is_eager=True,
    expose_value=False,
    callback=read_recipe,
    help="TOML file of options by their names without dashes in front; the command line overrules it.",
)
@click.option("--dataset", required=True, help="Name of a dataset (see `workbench datasets list`) or its TOML file.")
@click.option("--val", help="Dataset to validate on. Without it there is no best checkpoint, only the last.")
@click.option("--from", "start_from", metavar="CHECKPOINT", help="Hub id, folder or bundled name, also of a backbone.")
@click.option("--size", help="Instead of --from: random weights in a published architecture: s, b, l or g.")
@click.option("--config", type=click.Path(), help="Instead of --from: random weights, architecture from a config.json.")
@click.option("--image-size", type=ImageSize(), help="Of the input in pixels: a square's edge, or height x width.")
@click.option(
    "--task",
    type=click.Choice(["panoptic", "instance", "semantic"]),
    help="Default: the first that the dataset has annotations for.",
)
@click.option(
    "--out",
    type=click.Path(),
    help="Folder. Default: trainings/<dataset>-<task>-<start>, numbered where another training is there.",
)
@click.option("--steps", type=click.IntRange(1), help="Updates of the weights.")
@click.option("--epochs", type=click.FloatRange(0, min_open=True), help="Instead of --steps. Default: 12.")
@click.option("--batch-size", type=click.IntRange(1), help="Images of one process's pass. Default: 16 a step in all.")
@click.option("--accumulate", type=click.IntRange(1), default=1, help="Passes of a step.")
@click.option("--lr", type=float, help="Learning rate. Default: 1e-4; DINOv3 2e-4; random weights 5e-4.")
@click.option("--weight-decay", type=float, help="Default: 0.05.")
@click.option("--layer-decay", type=float, help="Factor of the learning rate from layer to layer. Default: 0.8.")
@click.option("--lr-end", type=float, metavar="SHARE", help="Of the learning rate, left at the end. Default: 0.")
@click.option("--betas", type=float, nargs=2, metavar="B1 B2", help="Of AdamW. Default: 0.9 0.999.")
@click.option("--clip-norm", type=float, help="Gradients are cut to this norm. Default: 0.01.")
@click.option("--warmup", type=click.IntRange(0), help="Steps of the heads; the backbone's follow in proportion.")
@click.option("--ema", type=float, help="Decay of a moving average of the weights, which is then what is saved.")
@click.option(
    "--annealing",
    type=float,
    nargs=2,
    metavar="START END",
    help="Shares of the training between which masked attention goes, block by block; 0 0: never masked. "
    "Default: 1/6 and 5/6.",
)
@click.option(
    "--dense-weight",
    type=float,
    help="For random weights: of a helper loss that names each patch's class and points to its segment's centre; "
    "falls to 0. Default: 0, without it.",
)
@click.option("--dense-until", type=float, metavar="SHARE", help="Of the training, when it is 0. Default: 0.6.")
@click.option(
    "--points", type=click.IntRange(1), help="Points at which masks are compared; a CPU is quicker with fewer."
)
@click.option(
    "--augmentation",
    type=click.Choice(["original", "none"]),
    default="original",
    help="original: flip, scale jitter, random crop, for semantic segmentation colours too.",
)
@click.option("--scale", type=float, nargs=2, metavar="LOW HIGH", help="Scale jitter. Default: 0.1 2; semantic 0.5 2.")
@click.option("--device", default="auto", help="auto, cpu, cuda or cuda:N. auto: the GPU where there is one.")
@click.option(
    "--dtype",
    type=click.Choice(["auto", "float32", "bfloat16"]),
    default="auto",
    help="Of the computation; weights stay float32. auto: bfloat16 on a GPU.",
)
@click.option("--gradient-checkpointing", is_flag=True, help="Less memory, a third more time.")
@click.option(
    "--workers", type=click.IntRange(0), help="Processes that read images. Default: a CPU none, else one a core."
)
@click.option("--seed", type=click.IntRange(0), default=0, help="Of weights, order, crops and points.")
@click.option("--eval-every", type=click.IntRange(1), help="Steps between validations. Default: a tenth of all.")
@click.option("--eval-limit", type=click.IntRange(1), help="Validate on the first so many images only.")
@click.option("--save-every", type=click.IntRange(1), help="Steps between saves. Default: as --eval-every.")
@click.option(
    "--log-every", type=click.IntRange(1), help="Steps between lines of history. Default: a 200th, at most 50."
)
@click.option("--resume/--no-resume", default=True, help="Go on with an incomplete training of the same command.")
@click.option("--json", "as_json", is_flag=True, help="Print a summary as JSON instead of the checkpoint's folder.")
def train(dataset: str, as_json: bool, **options: Any) -> None:
    """Train or fine-tune an EoMT on a dataset.

    The folder gets last/ and best/ (checkpoints in the published layout with a model card), history.jsonl and
    history.csv (the curve), validation/ (the run of the newest validation), train.json, and state.pt. The last line of
    stdout is the checkpoint to use. The same command again goes on where it stopped, with the same result as if it had
    not. Classes of --from that the dataset has too, by name, keep their weights.

    Several GPUs, each with its own batches: put `torchrun --nproc-per-node N -m` in front. Exit code 0 is good, 1 a
    failure, names that are not found among them, 2 wrong options, 130 a stop by Ctrl-C.

    \b
    workbench train --dataset scenes_val --val scenes_val --from eomt_scenes_panoptic --steps 100
    workbench train --dataset my_train.toml --val my_val.toml --size s --image-size 512 --epochs 50
    torchrun --nproc-per-node 8 -m workbench train --dataset coco_train --val coco_val \\
        --from facebook/dinov2-with-registers-large --batch-size 2
    """
    # Here and not above: torch takes a second, which --help must not wait for.
    from workbench.training.api import train as train_model

    for pair in ("scale", "annealing", "betas"):
        options[pair] = options[pair] or None
    summary = train_model(dataset, **options).summary()
    if summary["metric"]:
        text = f"best {summary['metric']} {100 * summary['value']:.2f} at step {summary['step']}"
        click.echo(f"{summary['steps']} steps, {text}", err=True)
    click.echo(json.dumps(summary) if as_json else summary["checkpoint"])
