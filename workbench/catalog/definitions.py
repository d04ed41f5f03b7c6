"""What a dataset definition says, and reading it from TOML: every key known, typed, and below the root."""

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args

from workbench.errors import DatasetError, StorageError, did_you_mean
from workbench.storage import fetch, is_mirror_written_out, is_url, local_path, shown

FORMATS = ("coco", "ade20k", "images")
FILE_KEYS = ("images", "panoptic", "panoptic_png", "instances", "annotations", "instance_id_to_semantic_id")
"""Keys whose values are paths below the root."""

Unlisted = Literal["error", "void", "uncovered"]
_DEFAULT_VOID = {"ade20k": (0,)}  # the other formats: 255
_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}|\$(\w+)")


@dataclass(frozen=True)
class Archive:
    """One official archive: where it is fetched from, what it must hash to, and where below the root it unpacks."""

    url: str
    extract_to: str = "."
    sha256: str | None = None
    md5: str | None = None
    size: int | None = None  # bytes
    members: tuple[str, ...] = ()  # unpack only names that start with one of these; empty: all
    nested: tuple[str, ...] = ()  # archives inside it, unpacked in turn into the folder in which they lie
    strip: str = ""  # what the names in it begin with and the unpacked files do not


@dataclass(frozen=True)
class DatasetDefinition:
    """What a `datasets/NAME.toml` says. Paths stay as written; `resolve` joins them to the root."""

    name: str
    source: Path
    """The TOML file itself."""
    format: str
    root: Path
    """Absolute, `~` and environment variables expanded; a relative one starts at the TOML file's folder. Of a URL the
    mirror's path: see `workbench.storage`."""
    title: str = ""
    images: str | None = None
    """Folder of images."""
    panoptic: str | None = None
    """COCO panoptic JSON; its PNGs lie in the folder of the same stem unless `panoptic_png` says otherwise."""
    panoptic_png: str | None = None
    instances: str | None = None
    """COCO instances JSON."""
    annotations: str | None = None
    """Folder of label maps (index PNGs), one a stem; with `instance_id_to_semantic_id` its values are instance ids."""
    annotations_suffix: str = ".png"
    """What follows the image's stem, or what stands in for `images_suffix`, in a label map's name."""
    images_suffix: str = ""
    """What an image's stem ends in and its label map's does not (Cityscapes: `_leftImg8bit`)."""
    instance_id_to_semantic_id: str | None = None
    """JSON: one map of instance id to category id, or one such map for each image stem."""
    classes: str | None = None
    """CSV with category_id, name, isthing[, color, label]: relative to the TOML file. See `class_tables.py`."""
    category_id_offset: int = 0
    """Added to the category ids of the JSON files. ADE20K's count from 0 in JSON and from 1 in label maps: 1."""
    void: tuple[int, ...] = (255,)
    """Label values that mean unlabelled; 0 where the format is ade20k and the file says nothing."""
    ignore_index: int = 255
    """Skipped in label maps too, unless a class has that label."""
    unlisted: Unlisted = "error"
    """Panoptic PNG ids that the JSON lacks: refused, void, or neither void nor segment (as panopticapi has it)."""
    optional: tuple[str, ...] = ()
    """Keys that count only where their file exists: of panoptic, instances, annotations."""
    follow_links: bool = False
    """Whether file names may be links that lead out of the dataset's folders."""
    licence: str = ""
    homepage: str = ""
    archives: tuple[Archive, ...] = ()
    bundled: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def class_table(self) -> Path | None:
        """The class table's file."""
        if self.classes is None:
            return None
        if is_url(self.classes):
            return local_path(self.classes)
        _refuse_mirror(self.classes, self.source)
        return Path(os.path.normpath(self.source.parent / self.classes))  # `..` counts even before the folder exists

    def resolve(self, relative: str) -> Path:
        """`relative` below the root, or the place that it is the URL of.

        Raises DatasetError where it is absolute, climbs out by `..` or would be the mirror of a remote place.

        A link is followed: who wrote the definition also laid out the root. Names from annotation files are not
        trusted that far: see `formats/paths.py`.
        """
        if is_url(relative):
            return local_path(relative)
        _refuse_mirror(relative, self.source)
        path = PurePosixPath(relative)
        if path.is_absolute() or ".." in path.parts:
            raise DatasetError(
                f"{self.source}: {relative!r} leads out of the dataset's root {self.root}. "
                "Write paths relative to the root, without '..'."
            )
        return self.root / path


def read(path: Path) -> DatasetDefinition:
    """The definition in a TOML file; a remote one, and a remote class table, are fetched.

    Raises DatasetError for a missing file, bad TOML, and unknown or missing keys, and StorageError.
    """
    fetch([path])
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DatasetError(f"{shown(path)}: no such dataset definition.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: not a readable TOML file ({error}).") from error
    try:
        definition = parse(raw, path)
        class_table = definition.class_table
    except StorageError as error:  # a URL of no store that is known
        raise DatasetError(f"{shown(path)}: {error}") from None
    fetch([class_table] if class_table else [])
    return definition


def parse(raw: Mapping[str, Any], source: Path) -> DatasetDefinition:
    """A definition from a TOML file's content. Raises DatasetError for unknown, missing or mistyped keys."""
    values = dict(raw)
    for key in ("format", "root"):
        if not isinstance(values.get(key), str):
            raise DatasetError(f"{source}: the key {key!r} is missing or is no text. Add it, e.g. {_EXAMPLES[key]}.")
    if values["format"] not in FORMATS:
        raise DatasetError(f"{source}: unknown format {values['format']!r}. {did_you_mean(values['format'], FORMATS)}")
    if values.setdefault("name", source.stem) != source.stem:
        raise DatasetError(f"{source}: its name is {values['name']!r}; the file must then be {values['name']}.toml.")
    values["root"] = _root(values["root"], source)
    values.setdefault("void", list(_DEFAULT_VOID.get(values["format"], (255,))))
    values["archives"] = _archives(values.get("archives", []), source)
    definition = DatasetDefinition(source=source, **_checked(values, DatasetDefinition, str(source)))
    _check_contents(definition)
    return definition


_EXAMPLES = {"format": 'format = "coco"', "root": 'root = "~/datasets/mine"'}
_TYPES: dict[Any, tuple[type, str]] = {
    str: (str, "text"),
    str | None: (str, "text"),
    int: (int, "a whole number"),
    int | None: (int, "a whole number"),
    bool: (bool, "true or false"),
    Unlisted: (str, f"one of {', '.join(get_args(Unlisted))}"),
    Path: (Path, "a path"),
    tuple[str, ...]: (str, "a list of texts"),
    tuple[int, ...]: (int, "a list of whole numbers"),
    tuple[Archive, ...]: (Archive, "a list of tables"),
    Mapping[str, Any]: (dict, "a table"),
}
_SET_BY_US = {"source"}
_OPTIONAL_KEYS = ("panoptic", "instances", "annotations")


def _checked(values: Mapping[str, Any], record: type, where: str) -> dict[str, Any]:
    """`values` as keyword arguments of a dataclass: known keys, each of its field's type, lists made tuples."""
    kinds = {entry.name: entry.type for entry in fields(record) if entry.name not in _SET_BY_US}
    checked = {}
    for key, value in values.items():
        if key not in kinds:
            raise DatasetError(f"{where}: unknown key {key!r}. {did_you_mean(key, kinds)}")
        expected, wording = _TYPES[kinds[key]]
        several = str(kinds[key]).startswith("tuple[")
        items = list(value) if several and isinstance(value, list | tuple) else [value]
        if (several and not isinstance(value, list | tuple)) or not all(
            type(item) in _subtypes(expected) for item in items
        ):
            raise DatasetError(f"{where}: {key} = {value!r} is not {wording}.")
        checked[key] = tuple(items) if several else value
    return checked


def _subtypes(expected: type) -> tuple[type, ...]:
    return (type(Path()),) if expected is Path else (expected,)  # `type() in`: True is not a whole number here


def _root(text: str, source: Path) -> Path:
    try:
        expanded = expand(text)
    except DatasetError as error:
        raise DatasetError(f"{source}: {error}") from None
    if is_url(expanded):
        return local_path(expanded)
    _refuse_mirror(expanded, source)
    return Path(os.path.abspath(source.parent / local_path(expanded)))  # noqa: PTH100 - unlike Path.resolve it keeps links


def _refuse_mirror(text: str, source: Path) -> None:
    if is_mirror_written_out(text):
        raise DatasetError(f"{shown(source)}: {text!r} is a path in the cache of remote files. Write the URL instead.")


def _archives(raw: Any, source: Path) -> list[Archive]:
    if not isinstance(raw, list) or not all(isinstance(entry, dict) for entry in raw):
        raise DatasetError(f"{source}: archives is no list of tables; write each as [[archives]].")
    archives = []
    for number, entry in enumerate(raw, start=1):
        where = f"{source}: archive {number}"
        if "url" not in entry:
            raise DatasetError(f"{where}: the key 'url' is missing.")
        archives.append(Archive(**_checked(entry, Archive, where)))
    return archives


def _check_contents(definition: DatasetDefinition) -> None:
    """What single keys cannot show: that they go together and stay below the root."""
    source = definition.source
    if definition.unlisted not in get_args(Unlisted):
        raise DatasetError(f"{source}: unlisted = {definition.unlisted!r}. Known: {', '.join(get_args(Unlisted))}.")
    for key in definition.optional:
        if key not in _OPTIONAL_KEYS:
            raise DatasetError(f"{source}: optional names {key!r}. {did_you_mean(key, _OPTIONAL_KEYS)}")
    for key in FILE_KEYS:
        if (path := getattr(definition, key)) is not None:
            definition.resolve(path)
    for archive in definition.archives:
        for path in (archive.extract_to, *archive.nested):
            definition.resolve(path)
    if definition.format == "coco" and not (definition.panoptic or definition.instances):
        raise DatasetError(
            f"{source}: format coco needs 'panoptic' or 'instances' (a COCO JSON); format images needs neither."
        )
    if definition.format != "coco" and definition.images is None:
        raise DatasetError(f"{source}: format {definition.format} needs 'images', the folder of images below the root.")
    if definition.format == "ade20k" and (definition.annotations is None or definition.classes is None):
        raise DatasetError(f"{source}: format ade20k needs 'annotations' (folder of label maps) and 'classes' (CSV).")
    if definition.instance_id_to_semantic_id and not definition.annotations:
        raise DatasetError(f"{source}: instance_id_to_semantic_id needs 'annotations', the folder of instance-id PNGs.")


def expand(text: str) -> str:
    """`text` with `~`, `$NAME`, `${NAME}` and `${NAME:-default}` expanded. Raises DatasetError for an unset one."""

    def value(match: re.Match[str]) -> str:
        name = match.group(1) or match.group(3)
        default = match.group(2)
        if name in os.environ:
            return os.environ[name]
        if default is None:
            raise DatasetError(
                f"environment variable {name} is not set; root is {text!r}. Set it, or edit the definition."
            )
        return default

    expanded = _VARIABLE.sub(value, text)
    if "://" in expanded:
        return expanded
    try:
        return str(Path(expanded).expanduser())
    except RuntimeError as error:  # `~name` of a user who does not exist
        raise DatasetError(f"{text!r} names no folder ({error}). Write the path out.") from None
