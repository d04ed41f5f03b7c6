"""`workbench datasets`: list, show, check, add and download datasets."""

import json
from collections.abc import Sequence
from typing import Any

import click

FORMATS = ("coco", "ade20k", "images")
CATEGORIES_SHOWN = 8


@click.group()
def datasets() -> None:
    """List, show, check, add and download datasets.

    A dataset is a TOML file that says where its images and annotations lie. Names are looked up in ./datasets, in the
    folders of $WORKBENCH_DATASETS, and among the built-in ones; wherever a name is asked for, the path of such a file
    does as well.
    """


@datasets.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a list of objects.")
def list_command(as_json: bool) -> None:
    """List every dataset that can be named.

    \b
    workbench datasets list
    workbench datasets list --json
    """
    from workbench.curation.summary import list_datasets

    lines = list_datasets()
    if as_json:
        click.echo(json.dumps(lines, indent=2, ensure_ascii=False))
        return
    good = [line for line in lines if "error" not in line]
    rows = [
        (
            line["name"],
            line["format"],
            "yes" if line["present"] else "no",
            ", ".join(line["tasks"]) or "-",
            line["root"],
        )
        for line in good
    ]
    _print_columns([("NAME", "FORMAT", "PRESENT", "TASKS", "ROOT"), *rows])
    for line in lines:
        if "error" in line:
            click.echo(f"Unusable: {line['error']}", err=True)


@datasets.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print an object, all categories in it.")
def show(name: str, as_json: bool) -> None:
    """Show the dataset NAME: its files, tasks and categories.

    \b
    workbench datasets show scenes_val
    workbench datasets show mine.toml --json
    """
    from workbench import catalog
    from workbench.curation.summary import describe

    told = describe(catalog.find(name))
    if as_json:
        click.echo(json.dumps(told, indent=2, ensure_ascii=False))
        return
    click.echo(f"{told['name']}: {told['title'] or 'no title'}")
    facts = [("definition", told["source"]), ("format", told["format"]), ("root", told["root"])]
    facts += [(task, origin) for task, origin in told["ground_truth"].items()]
    facts += [("images", "not there yet" if told["images"] is None else f"{told['images']:,}")]
    facts += [("categories", _some_names(told["categories"] or []))]
    facts += [(key, told[key]) for key in ("licence", "homepage") if told[key]]
    _print_columns([("  " + key, str(value)) for key, value in facts])
    for file in told["files"]:
        state = "there" if file["exists"] else "missing, optional" if file["optional"] else "missing"
        click.echo(f"  {file['path']}  ({state})")


@datasets.command(short_help="Find what is wrong with a dataset's files.")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print an object with `ok` and `findings`.")
def check(name: str, as_json: bool) -> None:
    """Find what is wrong with the files of the dataset NAME, in one pass.

    Reads every image and annotation; each kind of problem is told once, with a count and examples. An error is what
    stops `evaluate` or makes `predict` fail; a warning is worth knowing. Exit code 1 where there is an error.

    \b
    workbench datasets check coco_val
    workbench datasets check mine.toml --json
    """
    from workbench import catalog
    from workbench.cli.progress import progress
    from workbench.curation.check import check as check_dataset

    definition = catalog.find(name)
    with progress() as show_progress:
        report = check_dataset(definition, show_progress)
    if as_json:
        click.echo(json.dumps(report.as_json(), indent=2, ensure_ascii=False))
    else:
        counts = [f"{report.images:,} images"] + [f"{n:,} {kind} segments" for kind, n in report.segments.items()]
        click.echo(f"{report.dataset}: {', '.join(counts)}")
        for finding in report.findings:
            click.echo(f"\n{finding.severity}: {finding.code}, {finding.count:,} x\n  {finding.advice}")
            for example in finding.examples:
                click.echo(f"  - {example}")
            if finding.count > len(finding.examples):
                click.echo(f"  ... and {finding.count - len(finding.examples):,} more")
        click.echo("\nNo errors." if report.ok else "\nErrors: mend them, then check again.")
    if not report.ok:
        raise click.exceptions.Exit(1)


@datasets.command(short_help="Write a definition, datasets/NAME.toml.")
@click.argument("name")
@click.option("--format", type=click.Choice(FORMATS), required=True, help="How images and annotations are laid out.")
@click.option("--root", required=True, help="Folder that the other paths start from; ~ and $NAME are kept.")
@click.option("--images", help="Folder of images below the root.")
@click.option("--panoptic", help="COCO panoptic JSON below the root; its PNGs lie in the folder of the same stem.")
@click.option("--panoptic-png", help="Folder of the panoptic PNGs, where it is another one.")
@click.option("--instances", help="COCO instances JSON below the root.")
@click.option("--annotations", help="Folder of label maps below the root, one PNG an image.")
@click.option("--annotations-suffix", help="What follows the image's stem in a label map's name.  [default: .png]")
@click.option("--images-suffix", help="What an image's stem ends in and its label map's does not.")
@click.option("--instance-map", help="JSON below the root: instance id to category id, for label maps of instance ids.")
@click.option("--classes", type=click.Path(exists=True, dir_okay=False), help="CSV: category_id, name, isthing.")
@click.option("--void", type=int, multiple=True, help="Label that means unlabelled; may be given several times.")
@click.option("--ignore-index", type=int, help="Label that training and scoring skip.  [default: 255]")
@click.option("--title", help="A line that says what it is.")
@click.option("--yes", is_flag=True, help="Replace a definition of that name without asking.")
@click.option("--json", "as_json", is_flag=True, help="Print an object.")
def add(name: str, yes: bool, as_json: bool, instance_map: str | None, **keys: Any) -> None:
    """Write datasets/NAME.toml here, after opening the dataset that it describes.

    From then on NAME works as --dataset in this folder. For a look at the files' content, run `check` next.

    \b
    workbench datasets add mine --format coco --root ~/data/mine --images images --instances labels.json
    workbench datasets add mine --format ade20k --root ~/data/mine --images images --annotations labels \\
        --classes classes.csv --void 0
    workbench datasets add new_photos --format images --root ~/photos --images .
    """
    from workbench.curation.adding import add as add_dataset
    from workbench.curation.adding import taken

    if not yes and (there := taken(name)):
        _confirm(f"A dataset {name!r} is there already: {there}. Put the new one in its place?")
    keys["instance_id_to_semantic_id"] = instance_map
    keys["void"] = list(keys["void"])
    added = add_dataset(name, keys, replace=True)
    told = {
        "name": name,
        "source": str(added.definition.source),
        "images": added.images,
        "categories": added.categories,
        "tasks": list(added.tasks),
    }
    if not added.images:
        click.echo(
            f"Warning: {name} has no images. `workbench datasets check {name}` says where they should be.", err=True
        )
    if as_json:
        click.echo(json.dumps(told))
    else:
        tasks = ", ".join(added.tasks) or "no ground truth"
        click.echo(f"{told['source']}: {added.images:,} images, {added.categories} categories, {tasks}")


@datasets.command(short_help="Fetch the official archives, check and unpack them.")
@click.argument("name")
@click.option("--keep-archives", is_flag=True, help="Leave the archives in .downloads once they are unpacked.")
@click.option("--json", "as_json", is_flag=True, help="Print an object.")
def download(name: str, keep_archives: bool, as_json: bool) -> None:
    """Fetch the official archives of the dataset NAME, check and unpack them below its root.

    An interrupted download goes on where it ended when the command runs again. The root is the definition's: for
    coco_val, $COCO_ROOT or ~/datasets/coco.

    \b
    workbench datasets download coco_val
    COCO_ROOT=/big/disk/coco workbench datasets download coco_train --keep-archives
    """
    from workbench import catalog
    from workbench.cli.progress import progress
    from workbench.curation.downloading import download as download_dataset

    definition = catalog.find(name)
    with progress() as show_progress:
        fetched = download_dataset(definition, show_progress, keep_archives)
    for archive in fetched:
        if not archive.checked:
            click.echo(
                f"Note: {archive.url}: the definition has no checksum. The one of this file is kept, and a later "
                f'download must have it too; to fix it for good, write sha256 = "{archive.sha256}" into '
                f"{definition.source}.",
                err=True,
            )
    if as_json:
        archives = [vars(archive) for archive in fetched]
        click.echo(json.dumps({"name": name, "root": str(definition.root), "archives": archives}, indent=2))
        return
    for archive in fetched:
        click.echo(
            f"{'there before' if archive.already_there else 'unpacked'}: {archive.files:,} files of {archive.url}"
        )
    click.echo(str(definition.root))


def _confirm(question: str) -> None:
    """Ends the command unless the user says yes; without a terminal nobody can."""
    try:
        click.confirm(question, abort=True, err=True)
    except click.Abort as no:
        raise click.ClickException("nothing was written. To replace it without being asked, add --yes.") from no


def _some_names(categories: Sequence[dict[str, Any]]) -> str:
    names = [category["name"] for category in categories[:CATEGORIES_SHOWN]]
    more = len(categories) - len(names)
    return f"{len(categories)}: {', '.join(names)}" + (f", and {more} more" if more else "") if names else "none"


def _print_columns(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
