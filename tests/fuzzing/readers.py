"""Every reader of files that others made, with whole files to begin from: see `engine.Reader`."""

import shutil
from collections.abc import Callable
from pathlib import Path

import click

from tests.fuzzing import files
from tests.fuzzing.engine import Reader
from tests.fuzzing.kept_readers import kept_readers
from tests.fuzzing.model_readers import model_readers
from tests.fuzzing.rle_reader import read_rle
from tests.fuzzing.run_readers import run_readers
from workbench import catalog
from workbench.catalog.class_tables import read_class_table
from workbench.cli import main
from workbench.cli.train import train
from workbench.curation.check import check
from workbench.curation.unpacking import unpack
from workbench.errors import DatasetError, WorkbenchError
from workbench.files.cache import cache_folder
from workbench.formats import open_dataset
from workbench.formats.annotated import AnnotatedDataset
from workbench.formats.base import Dataset
from workbench.formats.label_maps import read_instance_maps
from workbench.imports.api import import_predictions
from workbench.imports.base import PredictionSource
from workbench.imports.coco_panoptic import CocoPanoptic
from workbench.imports.coco_results import CocoResults
from workbench.imports.index_png import IndexPng
from workbench.runs import MANIFEST

_CLASSES = b"category_id,name,isthing,color,label\n1,cat,1,6a5acd,1\n7,sky,0,,7\n"
_RECIPE = b"""steps = 100
lr = 1e-4
dtype = "auto"
scale = [0.5, 2.0]
task = "panoptic"
image-size = "64x96"
betas = [0.9, 0.99]
gradient-checkpointing = true
"""
_DEFINITION = """format = "coco"
root = "."
images = "images"
panoptic = "panoptic.json"
instances = "instances.json"
annotations = "maps"
classes = "classes.csv"
void = [0, 255]
optional = ["instances"]
unlisted = "void"
follow_links = false
title = "Mine"

[[archives]]
url = "https://example.org/a.zip"
size = 10
sha256 = "00"
members = ["a/"]
nested = ["b.zip"]
extra = "x"

[extra]
note = 1
"""


def all_readers(base: Path) -> tuple[Reader, ...]:
    """The readers, with their files below `base`."""
    return (
        Reader("rle", "bytes", files.rle_inputs(), read_rle, words=(b"0", b"1", b"o", b"P", b"O", b"oooooo0"), share=4),
        *_definition_readers(base / "definitions"),
        *_dataset_readers(base / "datasets"),
        *_import_readers(base / "imports"),
        *_command_readers(base / "commands"),
        *run_readers(base / "runs"),
        *kept_readers(base / "kept"),
        *model_readers(base / "models"),
        _archive_reader(base / "archives"),
    )


def _writing(path: Path, read: Callable[[], object]) -> Callable[[bytes], None]:
    """A reader of the file at `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)

    def read_content(data: bytes) -> None:
        path.write_bytes(data)
        read()

    return read_content


def _definition_readers(base: Path) -> tuple[Reader, ...]:
    toml, table, recipe = base / "mine.toml", base / "classes.csv", base / "recipe.toml"

    def define() -> None:
        definition = catalog.read(toml)
        opened = open_dataset(definition)
        if not opened.definition.root.is_absolute():
            raise AssertionError("the root depends on the current folder")

    def options() -> None:
        # As `workbench train` makes it: a command keeps the help option of the first context that it is asked in.
        group = click.Context(main, **main.context_settings)
        train.make_context("train", ["--recipe", str(recipe), "--dataset", "none"], parent=group)

    return (
        Reader("dataset definition", "toml", _definitions(), _writing(toml, define), (base,), ("mine.toml",)),
        Reader(
            "class table",
            "bytes",
            (_CLASSES, b"category_id,name,isthing\n3,dog,1\n"),
            _writing(table, lambda: read_class_table(table)),
            (base,),
            ("classes.csv",),
            (b",", b"\n", b"-1", b"#", b"99999999999"),
        ),
        Reader("training recipe", "toml", (_RECIPE,), _writing(recipe, options), (base,), words=(b"=", b"nan")),
    )


def _definitions() -> tuple[bytes, ...]:
    whole = _DEFINITION.replace('extra = "x"\n', "")
    built_in = (path.read_bytes() for path in sorted(catalog.built_in_folder().glob("*.toml")))
    return (whole.encode(), _DEFINITION.encode(), *(data.replace(b"\nname", b"\n#name") for data in built_in))


def make_dataset(folder: Path) -> Path:
    """A data set of two images with annotations of every kind; its definition."""
    for name in ("images/a.png", "images/sub/b.png", "maps/a.png", "maps/sub/b.png", "panoptic/a.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        is_map, is_panoptic = name.startswith("maps"), name.startswith("panoptic")
        content = files.label_maps()[0] if is_map else files.panoptic_png() if is_panoptic else files.pictures()[1]
        (folder / name).write_bytes(content)
    (folder / "instances.json").write_bytes(files.instances()[0])
    (folder / "panoptic.json").write_bytes(files.panoptic()[0])
    (folder / "classes.csv").write_bytes(_CLASSES)
    for kind, keys in {
        "instances": 'format = "coco"\nimages = "images"\ninstances = "instances.json"\n',
        "panoptic": 'format = "coco"\nimages = "images"\npanoptic = "panoptic.json"\n',
        "maps": 'format = "ade20k"\nimages = "images"\nannotations = "maps"\nclasses = "classes.csv"\n',
    }.items():
        (folder / f"{kind}.toml").write_text(f'root = "."\n{keys}')
    return folder / "instances.toml"


def _dataset_readers(base: Path) -> tuple[Reader, ...]:
    mapping = base / "mapping.json"
    images = open_dataset(catalog.read(make_dataset(base / "whole"))).images()
    here = (base,)

    def in_own_folder(file: str, kind: str) -> Callable[[bytes], None]:
        folder = base / file.replace("/", "-")
        definition = make_dataset(folder).with_name(f"{kind}.toml")
        return _writing(folder / file, lambda: _read_dataset(open_dataset(catalog.read(definition))))

    coco = (b'"counts"', b'"segmentation"', b'"size"', b'"iscrowd"', b"1e400", b"-1", b"[[]]")
    return (
        Reader("COCO instances", "json", files.instances(), in_own_folder("instances.json", "instances"), here,
               words=coco),
        Reader("COCO panoptic", "json", files.panoptic(), in_own_folder("panoptic.json", "panoptic"), here,
               words=coco),
        Reader("panoptic PNG", "bytes", (files.panoptic_png(),), in_own_folder("panoptic/a.png", "panoptic"),
               here, ("image 1",), share=0.35),
        Reader("index PNG", "bytes", files.label_maps(), in_own_folder("maps/a.png", "maps"), here,
               ("image a",), share=0.35),
        Reader("instance ids", "json", (b'{"1": 7, "2": 1}', b'{"1": {"3": 7}, "2": {}}'),
               _writing(mapping, lambda: read_instance_maps(mapping, images)), here, ("mapping.json",)),
    )  # fmt: skip


def _read_dataset(dataset: Dataset) -> None:
    """Everything that the commands read of it; the first error that is not the user's to mend comes through."""
    assert isinstance(dataset, AnnotatedDataset)
    told: list[WorkbenchError] = []
    steps: list[Callable[[], object]] = [dataset.problems, dataset.images, lambda: dataset.categories]
    steps += [lambda task=task: list(dataset.ground_truth(task)) for task in dataset.tasks]  # type: ignore[misc]
    for step in steps:
        try:
            step()
        except WorkbenchError as error:
            told.append(error)
    if told:
        raise told[0]


def _import_readers(base: Path) -> tuple[Reader, ...]:
    dataset = open_dataset(catalog.read(make_dataset(base / "dataset")))
    dataset.images()
    results, panoptic, painted, maps = base / "results.json", base / "json", base / "png", base / "maps"
    for folder in (panoptic, painted):
        (folder / "panoptic").mkdir(parents=True)
        (folder / "panoptic" / "a.png").write_bytes(files.panoptic_png())
        (folder / "panoptic.json").write_bytes(files.panoptic(predicted=True)[0])

    def reading(make: Callable[[], PredictionSource]) -> Callable[[], None]:
        def read() -> None:
            source = make()
            source.manifest()
            source.segments(dataset.images())

        return read

    def panoptic_of(folder: Path) -> Callable[[], None]:
        return reading(lambda: CocoPanoptic(folder / "panoptic.json", dataset))

    here = (base,)
    return (
        Reader("import coco-results", "json", files.results(),
               _writing(results, reading(lambda: CocoResults(results, dataset))), here, ("results.json",), share=2),
        Reader("import coco-panoptic", "json", files.panoptic(predicted=True),
               _writing(panoptic / "panoptic.json", panoptic_of(panoptic)), here, ("panoptic",)),
        Reader("import panoptic PNG", "bytes", (files.panoptic_png(),),
               _writing(painted / "panoptic" / "a.png", panoptic_of(painted)), here,
               ("a.png", "panoptic.json"), share=0.35),
        Reader("import index-png", "bytes", files.label_maps(),
               _writing(maps / "a.png", reading(lambda: IndexPng(maps, dataset))), here, ("a.png",), share=0.35),
    )  # fmt: skip


def _command_readers(base: Path) -> tuple[Reader, ...]:
    """Whole commands on a damaged file: what they begin is taken back, what they report is no traceback."""
    definition = make_dataset(base / "dataset")
    results, out = base / "results.json", base / "run"
    checked = catalog.read(make_dataset(base / "checked"))

    def check_dataset() -> None:
        if errors := [finding for finding in check(checked).findings if finding.severity == "error"]:
            raise DatasetError(f"{checked.instances}: {errors[0].code}: {errors[0].advice} {errors[0].examples}")

    def import_results() -> None:
        shutil.rmtree(out, ignore_errors=True)
        try:
            import_predictions(results, definition, "coco-results", out)
        except WorkbenchError:
            if (out / MANIFEST).exists():
                raise AssertionError("a refused import left a run") from None
            raise

    return (
        Reader("datasets check", "json", files.instances(),
               _writing(base / "checked" / "instances.json", check_dataset), (base,), ("instances.json",), share=0.35),
        Reader("import command", "json", files.results(), _writing(results, import_results), (base, cache_folder()),
               ("results.json", "run"), share=0.2),
    )  # fmt: skip


def _archive_reader(base: Path) -> Reader:
    archive, into = base / "archive", base / "unpacked"

    def read() -> None:
        shutil.rmtree(into, ignore_errors=True)
        for path in unpack(archive, into):
            assert path.resolve().is_relative_to(into.resolve())

    words = (b"../../x", b"PK\x01\x02", b"ustar", b"\x1f\x8b", b"a/\0", b"1 path=x\n")
    return Reader(
        "archive", "bytes", files.archives(), _writing(archive, read), (base,), ("archive", "unpacked"), words
    )
