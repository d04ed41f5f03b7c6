"""Where an export may write: what is there is replaced only when told to, and only what an export wrote."""

from collections.abc import Collection
from pathlib import Path

from workbench.errors import TransferError
from workbench.files.replacing import recover


def check_file(path: Path, overwrite: bool) -> None:
    """Raise TransferError where a file cannot be written at `path`, or would overwrite one."""
    if path.is_dir():
        raise TransferError(f"{path}: is a folder. Name the file to write, such as {path / 'export.json'}.")
    _refuse_existing(path, overwrite)


def check_folder(path: Path, overwrite: bool, files: Collection[str] = ()) -> None:
    """Raise TransferError where a folder of PNGs, or of `files`, cannot be written at `path`, or would overwrite one.

    Even then only a folder of nothing but those is replaced: a mistyped path must not delete anything else.
    """
    recover(path)
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    _refuse_existing(path, overwrite)
    if not path.is_dir():
        raise TransferError(f"{path}: is a file, and a folder goes there. Name another path.")
    for entry in path.rglob("*"):
        is_ours = entry.name in files if files else entry.is_dir() or entry.suffix == ".png"
        if entry.is_symlink() or not is_ours:
            raise TransferError(f"{path}: holds {entry.name!r}, which no export wrote. Empty it, or name another path.")


def _refuse_existing(path: Path, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        raise TransferError(f"{path}: exists already. Name another path, or overwrite it with --yes.")
