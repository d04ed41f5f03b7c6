"""Adding a dataset of one's own: a definition that is known to open, written as a TOML file."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench import catalog
from workbench.catalog.definitions import DatasetDefinition, parse
from workbench.errors import DatasetError
from workbench.formats import open_dataset
from workbench.formats.annotated import AnnotatedDataset
from workbench.formats.problems import refuse
from workbench.storage import is_url

FOLDER = Path("datasets")
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*", re.ASCII)


@dataclass(frozen=True)
class Added:
    """The definition that was written, and what it opens."""

    definition: DatasetDefinition
    images: int
    tasks: tuple[str, ...]
    categories: int


def taken(name: str) -> Path | None:
    """The definition that goes by this name already, if there is one: adding it again replaces or hides that one."""
    return catalog.names().get(name)


def add(name: str, keys: Mapping[str, Any], replace: bool = False, folder: Path = FOLDER) -> Added:
    """Write `folder`/NAME.toml with these keys of a definition, after opening the dataset that it describes.

    `root` and `classes` are as seen from the current folder (`~`, variables and URLs in `root` stay as they are).
    Raises DatasetError, and writes nothing, for a name that is taken unless `replace`, unusable keys, missing files,
    and annotations that ground truth cannot be read from.
    """
    if not _NAME.fullmatch(name):
        raise DatasetError(f"{name!r} is no name for a dataset: use letters, digits, '_', '-' and '.'.")
    if not replace and (there := taken(name)):
        raise DatasetError(f"a dataset {name!r} is there already: {there}. Take another name, or confirm with --yes.")
    raw = {key: value for key, value in keys.items() if value not in (None, (), [], "")}
    target = folder / f"{name}.toml"
    if not (str(raw.get("root", "~")).startswith(("~", "$")) or is_url(raw["root"])):
        raw["root"] = str(Path(raw["root"]).absolute())
    if "classes" in raw:
        raw["classes"] = os.path.relpath(raw["classes"], folder)
    definition = parse(raw, target)
    dataset = open_dataset(definition)
    images = len(dataset.images())
    if isinstance(dataset, AnnotatedDataset):
        refuse(dataset.problems())
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.partial")
    unfinished.write_text(to_toml(raw), encoding="utf-8")
    unfinished.replace(target)
    return Added(definition, images, dataset.tasks, len(dataset.categories))


def to_toml(keys: Mapping[str, Any]) -> str:
    """Texts, whole numbers, booleans and lists of them as TOML."""
    return "".join(f"{key} = {_value(value)}\n" for key, value in keys.items())


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(_value(item) for item in value)}]"
    escaped = "".join(_ESCAPES.get(c, c if c.isprintable() else f"\\U{ord(c):08x}") for c in str(value))
    return f'"{escaped}"'


_ESCAPES = {"\\": "\\\\", '"': '\\"'}
