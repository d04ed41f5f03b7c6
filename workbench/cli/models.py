"""`workbench models`: list, show and convert checkpoints."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import click

_CLASSES_SHOWN = 8


@click.group()
def models() -> None:
    """List, show and convert checkpoints.

    Wherever a checkpoint is asked for, the name of a bundled one, a folder, or a hub id such as
    tue-mps/coco_panoptic_eomt_large_640 does.
    """


@models.command("list", short_help="List checkpoints, and which are here.")
@click.option("--json", "as_json", is_flag=True, help="Print a list of objects.")
def list_command(as_json: bool) -> None:
    """List the bundled and the published checkpoints, and which are on this machine.

    LOCAL says what the hub's local cache holds: the weights, only the config, or nothing (-). Nothing is fetched.

    \b
    workbench models list
    workbench models list --json
    """
    from workbench.models.listing import list_models

    listed = list_models()
    if as_json:
        click.echo(json.dumps(listed, indent=2))
        return
    columns = ("id", "task", "size", "image_size", "queries", "blocks", "labels", "backbone", "local")
    rows = [tuple(_cell(model[column]) for column in columns) for model in listed]
    _print_columns([tuple(column.removesuffix("_size").upper() for column in columns), *rows])


@models.command(short_help="Show what a checkpoint holds.")
@click.argument("model")
@click.option("--download", is_flag=True, help="Fetch what the hub's local cache lacks: it can be gigabytes.")
@click.option("--json", "as_json", is_flag=True, help="Print an object, configuration and all classes in it.")
def show(model: str, download: bool, as_json: bool) -> None:
    """Show what the checkpoint MODEL holds: form, sizes, classes, processor, hash and files.

    The form is published (what transformers reads too), original (the original repository's pytorch_model.bin), delta
    (the same for DINOv3, to be added to its backbone) or backbone (a ViT alone, to train from).

    \b
    workbench models show eomt_scenes_panoptic
    workbench models show tue-mps/coco_panoptic_eomt_large_640 --download
    """
    from workbench.models.showing import describe

    told = describe(model, download)
    if as_json:
        click.echo(json.dumps(told, indent=2, ensure_ascii=False))
        return
    click.echo(told["id"])
    _print_columns([("  " + name, value) for name, value in _facts(told).items() if value is not None])
    for file in told["files"]:
        click.echo(f"  {file['path']}  ({file['bytes']:,} bytes)")
    if told["weights_sha256"] is None and told["source"] == "hub":
        click.echo("Its weights are not in the hub's local cache; --download fetches them.", err=True)


@models.command(short_help="Write a checkpoint of any form in the published layout.")
@click.argument("source")
@click.argument("out", type=click.Path(file_okay=False))
@click.option("--backbone", help="For an original DINOv3 delta: the model that it was trained from, hub id or folder.")
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False),
    help="A config.json, where SOURCE has none or a wrong one.",
)
@click.option(
    "--classes",
    help="Names of the classes, by index: a CSV, or a built-in table (coco_panoptic, ade20k_150, cityscapes_19). An "
    "original file has no names.",
)
@click.option("--image-size", type=click.IntRange(1), help="For a delta: edge of the input in pixels.")
@click.option(
    "--task",
    type=click.Choice(["panoptic", "instance", "semantic"]),
    help="Decides the image processor where SOURCE has none. Default: the task in the name of SOURCE or OUT.",
)
@click.option(
    "--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), help="Of the weights. Default: the source's."
)
@click.option("--max-shard-size", default="5GB", help="Larger weights are cut into several files.")
@click.option("--yes", is_flag=True, help="Replace the checkpoint in OUT, if there is one.")
@click.option("--json", "as_json", is_flag=True, help="Print an object.")
def convert(source: str, out: str, yes: bool, as_json: bool, **options: Any) -> None:
    """Write the checkpoint SOURCE, of any form, in the published layout into the folder OUT.

    OUT gets config.json, model.safetensors (or shards), preprocessor_config.json and a model card. Both are run on a
    random input before OUT appears: it has the very weights of SOURCE, up to the rounding of --dtype, which is told.

    \b
    workbench models convert original/coco_panoptic_eomt_large_640 my_eomt --classes coco_panoptic
    workbench models convert delta/ my_eomt --backbone facebook/dinov3-vitl16-pretrain-lvd1689m --image-size 640 \\
        --task panoptic --classes coco_panoptic
    workbench models convert tue-mps/coco_panoptic_eomt_large_640 my_eomt --dtype bfloat16 --max-shard-size 500MB
    """
    from dataclasses import asdict

    from workbench.models.converting import convert as convert_checkpoint

    made = convert_checkpoint(source, out, replace=yes, **options)
    if as_json:
        click.echo(json.dumps({**asdict(made), "folder": str(made.folder)}, indent=2))
        return
    click.echo(
        f"{made.form} checkpoint of {made.parameters:,} parameters, written as {made.dtype}: logits differ from the "
        f"source's by {made.largest_difference:.2g} at most",
        err=True,
    )
    click.echo(str(made.folder))


def _facts(told: Mapping[str, Any]) -> dict[str, str | None]:
    """What `show` prints, name by name; None where it is not known."""
    config = told["config"] or told["published"] or {}
    labels = told["labels"]
    return {
        "source": told["source"],
        "form": told["form"],
        "model type": told["model_type"],
        "task": told["task"],
        "backbone": told["published"] and told["published"]["backbone"],
        "layers": _joined(config, "num_hidden_layers", "x", "hidden_size"),
        "input": config.get("image_size") and _size(config["image_size"]),
        "queries": _joined(config, "num_queries", "in the last", "num_blocks", "layers"),
        "classes": _some_names(labels) if labels else _cell(config.get("num_labels")),
        "processor": told["processor"] and _processor(told["processor"]),
        "parameters": told["parameters"] and f"{told['parameters']:,}",
        "dtype": told["dtype"],
        "weights sha256": told["weights_sha256"],
    }


def _joined(config: Mapping[str, Any], first: str, between: str, second: str, after: str = "") -> str | None:
    if first not in config or second not in config:
        return None
    return f"{config[first]} {between} {config[second]} {after}".rstrip()


def _processor(settings: Mapping[str, Any]) -> str:
    fitting = "cuts images into crops" if settings.get("do_split_image") else "pads" if settings.get("do_pad") else "-"
    return f"{fitting}, size {json.dumps(settings.get('size'))}"


def _some_names(names: Sequence[str]) -> str:
    more = len(names) - _CLASSES_SHOWN
    return f"{len(names)}: {', '.join(names[:_CLASSES_SHOWN])}" + (f", and {more} more" if more > 0 else "")


def _size(value: int | Sequence[int]) -> str:
    height, width = (value, value) if isinstance(value, int) else value
    return f"{height}x{width}"


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return _size(value)
    return "-" if value is None else str(value)


def _print_columns(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
