"""Files and folders that appear whole; what was there before stays, or comes back, until they do.

A folder takes two renames to replace, between which there is a moment without it: the earlier one is `.<name>.old`
then, and whoever next replaces the folder puts it back (`recover`).
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from workbench.store import sync_folder


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A path to write to; `path` gets the content when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(path)
    try:
        yield partial
        _sync_file(partial)
        partial.replace(path)
        sync_folder(path.parent)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill; it becomes `path`, in place of a folder that is there, when the block ends well.

    However else the block ends, and where the renames fail or are interrupted, the earlier folder is at `path`.
    """
    path = path.resolve()  # where it is a link, the folder that it leads to is replaced
    path.parent.mkdir(parents=True, exist_ok=True)
    recover(path)
    partial = _partial(path)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        _sync_tree(partial)
        _swap(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def recover(path: Path) -> None:
    """Put back the folder that a process killed between two renames left as `.<name>.old`; remove one that is replaced.

    Call it before looking whether something is at `path`. `new_folder` does.
    """
    path = path.resolve()
    old = path.with_name(f".{path.name}.old")
    if not old.exists():
        return
    if path.exists():
        gone = path.with_name(f".{path.name}.{os.getpid()}.gone")
        old.rename(gone)  # so that half of it, if this ends here, is never taken for the whole
        shutil.rmtree(gone, ignore_errors=True)
    else:
        old.rename(path)
        sync_folder(path.parent)


def remove_partials(path: Path) -> None:
    """Remove what killed processes left of folders that were to become `path`; the caller holds a lock over it."""
    path = path.resolve()
    for ending in ("partial", "gone"):
        for left_over in path.parent.glob(f".{path.name}.*.{ending}"):
            shutil.rmtree(left_over)


def _swap(partial: Path, path: Path) -> None:
    try:
        if path.exists():
            path.rename(path.with_name(f".{path.name}.old"))
        partial.rename(path)
        sync_folder(path.parent)
    finally:
        recover(path)


def _sync_tree(folder: Path) -> None:
    for parent, _, names in os.walk(folder):
        for name in names:
            file = Path(parent, name)
            if not file.is_symlink():
                _sync_file(file)
        sync_folder(Path(parent))


def _sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _partial(path: Path) -> Path:
    """A name beside `path`, so that a rename suffices; the process's number keeps two processes apart."""
    return path.with_name(f".{path.name}.{os.getpid()}.partial")
