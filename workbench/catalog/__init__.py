"""The catalogue: finding a dataset definition by its name or path."""

import os
from pathlib import Path

from workbench.catalog.definitions import FORMATS, Archive, DatasetDefinition, parse, read
from workbench.errors import DatasetError, did_you_mean
from workbench.storage import local_path, shown

__all__ = [
    "FORMATS",
    "Archive",
    "DatasetDefinition",
    "built_in_folder",
    "find",
    "name_or_path",
    "names",
    "parse",
    "read",
    "search_path",
]


def built_in_folder() -> Path:
    """Where the definitions that ship with the package lie: inside the wheel, or `datasets/` of a source checkout."""
    packaged = Path(__file__).parents[1] / "datasets"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "datasets"


def search_path() -> tuple[Path, ...]:
    """Folders in which a dataset's name is looked up, first hit first."""
    own = os.environ.get("WORKBENCH_DATASETS", "")
    folders = [Path("datasets"), *(Path(part) for part in own.split(os.pathsep) if part), built_in_folder()]
    return tuple(dict.fromkeys(folder.resolve() for folder in folders))


def find(name_or_path: str) -> DatasetDefinition:
    """The definition of that name, or in that TOML file, which may be remote.

    Raises DatasetError naming near misses and where it looked, and StorageError.
    """
    if name_or_path.endswith(".toml") or os.sep in name_or_path:
        return read(local_path(name_or_path).expanduser())
    known = names()
    if name_or_path not in known:
        looked = ", ".join(str(folder) for folder in search_path())
        raise DatasetError(
            f"no dataset {name_or_path!r}. {did_you_mean(name_or_path, known)} Looked in {looked}. "
            "Define your own with `workbench datasets add`, or give the path of a .toml file."
        )
    return read(known[name_or_path])


def names() -> dict[str, Path]:
    """Every dataset that can be named, with its file; an earlier folder of the search path hides a later one."""
    found: dict[str, Path] = {}
    for folder in search_path():
        for path in sorted(folder.glob("*.toml")):
            found.setdefault(path.stem, path)
    return found


def name_or_path(name: str, source: Path) -> str:
    """What to write for a dataset on the command line: its name where that leads to `source`, else that path."""
    known = names().get(name)
    return name if known is not None and known.resolve() == source.resolve() else shown(source)
