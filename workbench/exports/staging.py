"""Files and folders that appear whole or not at all, and replace what is there only when told to."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from workbench.errors import TransferError
from workbench.store import sync_folder


def check_file(path: Path, overwrite: bool) -> None:
    """Raise TransferError where a file cannot be written at `path`, or would overwrite one."""
    if path.is_dir():
        raise TransferError(f"{path}: is a folder. Name the file to write, such as {path / 'export.json'}.")
    _refuse_existing(path, overwrite)


def check_folder(path: Path, overwrite: bool) -> None:
    """Raise TransferError where a folder of PNGs cannot be written at `path`, or would overwrite one.

    Even then only a folder of nothing but PNGs is replaced: a mistyped path must not delete anything else.
    """
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    _refuse_existing(path, overwrite)
    if not path.is_dir():
        raise TransferError(f"{path}: is a file, and a folder of PNGs goes there. Name another path.")
    for entry in path.rglob("*"):
        if entry.is_symlink() or not (entry.is_dir() or entry.suffix == ".png"):
            raise TransferError(f"{path}: holds {entry.name!r}, which no export wrote. Empty it, or name another path.")


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A path to write to; `path` gets the content when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(path)
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
        sync_folder(path.parent)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill; it becomes `path`, in place of a folder that is there, when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(path)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        _replace_folder(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _replace_folder(partial: Path, path: Path) -> None:
    if path.exists():
        old = path.with_name(f".{path.name}.{os.getpid()}.old")
        path.rename(old)
        partial.rename(path)
        shutil.rmtree(old)
    else:
        partial.rename(path)
    sync_folder(path.parent)


def _refuse_existing(path: Path, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        raise TransferError(f"{path}: exists already. Name another path, or overwrite it with --yes.")


def _partial(path: Path) -> Path:
    """A name beside `path`, so that a rename suffices; the process's number keeps two exports apart."""
    return path.with_name(f".{path.name}.{os.getpid()}.partial")
