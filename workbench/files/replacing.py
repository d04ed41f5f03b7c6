"""Files and folders that appear whole; what was there before stays, or comes back, until they do.

A folder takes two renames to replace, between which there is a moment without it: the earlier one is `.<name>.old`
then, and whoever next replaces the folder puts it back (`recover`). What a killed process had begun is
`.<name>.<host>.<process>.partial`, and whoever next writes to the same place on the same host removes it.
"""

import glob
import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from workbench.store import sync_folder


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A path to write to; `path` gets the content when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_of_dead(path)
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
    partial = _empty_partial(path)
    try:
        yield partial
        _sync_tree(partial)
        _swap(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def new_file_and_folder(file: Path, folder: Path) -> Iterator[tuple[Path, Path]]:
    """A path to write to and a folder to fill; `file`, which speaks of what is in `folder`, and this appear together.

    While the folders change places nothing is at `file`: whenever the process is killed, a file that is there belongs
    to the folder beside it. However else the block ends, the earlier two are there (`recover_pair`).
    """
    folder = folder.resolve()
    file.parent.mkdir(parents=True, exist_ok=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    recover_pair(file, folder)
    _remove_of_dead(file)
    new_file, new_folder = _partial(file), _empty_partial(folder)
    try:
        yield new_file, new_folder
        _sync_file(new_file)
        _sync_tree(new_folder)
        _swap_pair((new_file, new_folder), (file, folder))
    finally:
        new_file.unlink(missing_ok=True)
        shutil.rmtree(new_folder, ignore_errors=True)


def recover(path: Path) -> None:
    """Put back the folder that a process killed between two renames left as `.<name>.old`; remove one that is replaced.

    Call it before looking whether something is at `path`. `new_folder` does.
    """
    path = path.resolve()
    old = _old(path)
    if not old.exists():
        return
    if path.exists():
        _remove(old, path)
    else:
        old.rename(path)
        sync_folder(path.parent)


def recover_pair(file: Path, folder: Path) -> None:
    """Put back what a process killed in `new_file_and_folder` left as `.<name>.old`; remove what is replaced.

    Call it, and not `recover` alone, before looking whether something is there. `new_file_and_folder` does.
    """
    folder, old_file = folder.resolve(), _old(file)
    comes_back = old_file.exists() and not file.exists()
    if comes_back and _old(folder).exists() and folder.exists():
        _remove(folder, folder)  # the new one, whose file never came
    recover(folder)
    if comes_back:
        old_file.rename(file)
        sync_folder(file.parent)
    else:
        old_file.unlink(missing_ok=True)


def remove_partials(path: Path) -> None:
    """Remove what killed processes left of folders that were to become `path`; the caller holds a lock over it."""
    path = path.resolve()
    for ending in ("partial", "gone"):
        for left_over in path.parent.glob(f"{glob.escape(f'.{path.name}.')}*.{ending}"):
            shutil.rmtree(left_over)


def _swap(partial: Path, path: Path) -> None:
    try:
        if path.exists():
            path.rename(_old(path))
        partial.rename(path)
        sync_folder(path.parent)
    finally:
        recover(path)


def _swap_pair(new: tuple[Path, Path], pair: tuple[Path, Path]) -> None:
    file, folder = pair
    try:
        for path in pair:  # the file goes first, and comes last
            if path.exists():
                path.rename(_old(path))
        new[1].rename(folder)
        new[0].rename(file)
        sync_folder(folder.parent)
        sync_folder(file.parent)
    finally:
        recover_pair(file, folder)


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


def _empty_partial(path: Path) -> Path:
    _remove_of_dead(path)
    partial = _partial(path)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    return partial


def _remove(folder: Path, path: Path) -> None:
    """Remove a folder that was, or was to become, `path`; half of it, if this ends here, is never taken for it."""
    gone = path.with_name(f"{_own(path)}{os.getpid()}.gone")
    folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def _remove_of_dead(path: Path) -> None:
    """Remove what processes of this machine that are no more had begun to write, or to remove, for `path`."""
    own = _own(path)
    for left_over in path.parent.glob(f"{glob.escape(own)}*"):
        match = re.fullmatch(r"(\d{1,9})\.(partial|gone)", left_over.name.removeprefix(own))
        if match is None or _is_alive(int(match[1])):
            continue
        if left_over.is_dir():
            shutil.rmtree(left_over, ignore_errors=True)
        else:
            left_over.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is another user's
        return True
    return True


def _old(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")


def _partial(path: Path) -> Path:
    """A name beside `path`, so that a rename suffices; host and process number keep two processes apart."""
    return path.with_name(f"{_own(path)}{os.getpid()}.partial")


def _own(path: Path) -> str:
    return f".{path.name}.{socket.gethostname()}."
