"""What a command left on disk, in a form in which two results can be compared: whatever does not count is left out.

Shards of a folder are one table, whatever their borders; clocks, versions and sessions of manifests do not count.
"""

import csv
import hashlib
import io
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Contents = Mapping[str, str]
"""Name below a folder -> digest of what it means."""

_CLOCKS = {"started", "finished", "evaluated", "time", "images_per_second", "provenance"}
_KEPT_OF_PROVENANCE = {"run_identity", "dataset", "task"}  # of metrics.json
_SESSION_FILES = {"state.pt"}  # of a training: how it came about, with the clock's times
_KEYS = {"images": ("image_id",), "predictions": ("image_id", "segment_id"), "segments": ("image_id", "segment_id")}


def contents(folder: Path, *below: str) -> Contents:
    """What every visible file means, of those at or under the names `below`; the shards of a folder as one."""
    found = {}
    for name, files in _groups(folder, below).items():
        found[name] = _digest(files)
    return found


def raw(folder: Path, without: Collection[str]) -> Contents:
    """The bytes of every file, hidden ones too, but those at or under the names `without`."""
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink() and not _is_below(name := str(path.relative_to(folder)), without)
    }


def differences(found: Contents, expected: Contents) -> list[str]:
    """One line for each name that is missing, too many, or means something else."""
    lines = [f"{name} is missing" for name in sorted(expected.keys() - found.keys())]
    lines += [f"{name} is too many" for name in sorted(found.keys() - expected.keys())]
    both = sorted(found.keys() & expected.keys())
    return lines + [f"{name} differs" for name in both if found[name] != expected[name]]


def duplicates(folder: Path, *below: str) -> list[str]:
    """Images and segments that stand in the shards of a folder twice."""
    found = []
    for name, files in _groups(folder, below).items():
        columns = _KEYS.get(Path(name).parent.name)
        if columns and files[0].name.startswith("part-"):
            keys = list(zip(*(_table(files)[column].to_pylist() for column in columns), strict=True))
            found += [f"{name}: {key}" for key in sorted({key for key in keys if keys.count(key) > 1})]
    return found


def left_overs(folder: Path, *below: str) -> list[str]:
    """Hidden files and folders but locks, which other programs do not see and nobody needs."""
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob(".*")
        if not path.name.endswith(".lock") and (not below or _is_below(str(path.relative_to(folder)), below, near=True))
    )


def rows_of_images(folder: Path) -> dict[str, str]:
    """Of a run folder: each committed image -> a digest of its row and of its segments, in their order.

    A shard of segments whose images are not there yet does not count.
    """
    committed = sorted((folder / "images").glob("part-*.parquet"))
    images, segments = _table(committed), _table([folder / "predictions" / path.name for path in committed])
    rows: dict[str, list[Any]] = {row["image_id"]: [row] for row in images.to_pylist()}
    for row in segments.to_pylist():
        rows.setdefault(row["image_id"], ["no row in images/"]).append(row)
    return {image_id: sha256(repr(of_image)) for image_id, of_image in rows.items()}


def _groups(folder: Path, below: Collection[str]) -> dict[str, list[Path]]:
    groups: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if not path.is_file() or any(part.startswith(".") for part in name.parts) or name.name in _SESSION_FILES:
            continue
        if below and not _is_below(str(name), below):
            continue
        key = name.parent / "part-*.parquet" if name.match("part-*.parquet") else name
        groups.setdefault(str(key), []).append(path)
    return groups


def _is_below(name: str, places: Collection[str], near: bool = False) -> bool:
    """Whether `name` is one of the places or under one; `near`: or beside one, in the same folder."""
    if near:
        return any(name.startswith(str(Path(place).parent / "x")[:-1]) for place in places)
    return any(name == place or name.startswith(f"{place}/") for place in places)


def _digest(files: list[Path]) -> str:
    path = files[0]
    if path.suffix == ".parquet":
        table = _table(files)
        return sha256(repr((table.schema.names, table.to_pylist())))
    if path.suffix == ".json":
        return sha256(repr(_without_clocks(json.loads(path.read_text()))))
    if path.suffix == ".jsonl":
        return sha256(repr([_without_clocks(json.loads(line)) for line in path.read_text().splitlines()]))
    if path.suffix == ".csv":
        rows = csv.DictReader(io.StringIO(path.read_text()))
        return sha256(repr([_without_clocks(row) for row in rows]))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _without_clocks(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_clocks(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {key: _without_clocks(item) for key, item in value.items() if key not in _CLOCKS}
    about = value.get("provenance")
    if isinstance(about, dict):
        kept["provenance"] = {key: _without_clocks(about[key]) for key in _KEPT_OF_PROVENANCE & about.keys()}
    return kept


def _table(files: list[Path]) -> pa.Table:
    """The rows of all; no columns where there are no files."""
    tables = []
    for path in files:
        with pq.ParquetFile(path) as file:
            tables.append(file.read())
    return pa.concat_tables(tables) if tables else pa.table({})


def sha256(text: str) -> str:
    """Of a text, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()
