"""Dataset definitions: finding a TOML file by name or path, and reading it into a checked record."""

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench.errors import DatasetError, did_you_mean

FORMATS = ("coco", "ade20k", "images")
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


@dataclass(frozen=True)
class DatasetDefinition:
    """What a `datasets/NAME.toml` says. Paths stay as written; `resolve` joins them to the root."""

    name: str
    source: Path
    """The TOML file itself."""
    format: str
    root: Path
    """Absolute, `~` and environment variables expanded; a relative one starts at the TOML file's folder."""
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
    """CSV with category_id, name, isthing[, color, label]: relative to the TOML file."""
    void: tuple[int, ...] = ()
    """Label values that mean unlabelled."""
    ignore_index: int = 255
    licence: str = ""
    homepage: str = ""
    archives: tuple[Archive, ...] = ()
    bundled: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)

    def resolve(self, relative: str) -> Path:
        """`relative` below the root. Raises DatasetError where it would climb out of it."""
        path = (self.root / relative).resolve()
        if not path.is_relative_to(self.root.resolve()):
            raise DatasetError(f"{self.source}: {relative!r} leads out of the dataset's root {self.root}.")
        return path


def built_in_folder() -> Path:
    """Where the definitions that ship with the package lie: inside the wheel, or `datasets/` of a source checkout."""
    packaged = Path(__file__).parent / "datasets"
    return packaged if packaged.is_dir() else Path(__file__).parent.parent / "datasets"


def search_path() -> tuple[Path, ...]:
    """Folders in which a dataset's name is looked up, first hit first."""
    own = os.environ.get("WORKBENCH_DATASETS", "")
    folders = [Path("datasets"), *(Path(part) for part in own.split(os.pathsep) if part), built_in_folder()]
    return tuple(dict.fromkeys(folder.resolve() for folder in folders))


def find(name_or_path: str) -> DatasetDefinition:
    """The definition of that name, or in that TOML file. Raises DatasetError naming near misses and where it looked."""
    if name_or_path.endswith(".toml") or os.sep in name_or_path:
        return read(Path(name_or_path))
    known = names()
    if name_or_path not in known:
        raise DatasetError(f"no dataset {name_or_path!r}. {did_you_mean(name_or_path, known)}")
    return read(known[name_or_path])


def names() -> dict[str, Path]:
    """Every dataset that can be named, with its file; an earlier folder of the search path hides a later one."""
    found: dict[str, Path] = {}
    for folder in search_path():
        for path in sorted(folder.glob("*.toml")):
            found.setdefault(path.stem, path)
    return found


def read(path: Path) -> DatasetDefinition:
    """The definition in a TOML file. Raises DatasetError for a missing file, bad TOML, and unknown or missing keys."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such dataset definition.") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DatasetError(f"{path}: not a readable TOML file ({error}).") from error
    return parse(raw, path)


def parse(raw: Mapping[str, Any], source: Path) -> DatasetDefinition:
    """A definition from a TOML file's content. Raises DatasetError for unknown, missing or mistyped keys."""
    raise NotImplementedError


def expand(text: str) -> str:
    """`text` with `~`, `$NAME`, `${NAME}` and `${NAME:-default}` expanded. Raises DatasetError for an unset variable."""

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

    return os.path.expanduser(_VARIABLE.sub(value, text))
