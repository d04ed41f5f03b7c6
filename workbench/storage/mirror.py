"""Local copies of remote files, at their mirror's path: fetched once, and anew when the store has another version.

A file appears whole. What is known of it (the store's version, and the local file's own state) is kept in
`$WORKBENCH_CACHE/mirror.sqlite`; a copy without a record, or changed since, counts as none.
"""

import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from workbench.errors import MissingObjectError, StorageError
from workbench.files.cache import cache_folder
from workbench.files.digests import file_state
from workbench.storage import objects
from workbench.storage.objects import ObjectState
from workbench.storage.places import url_of
from workbench.storage.services import OFFLINE, offline

_THREADS = 16
_BUSY_SECONDS = 30.0
_ASKED_ONE_BY_ONE = 8  # files of a folder; beyond, one listing of it is cheaper
_RECORDED_TOGETHER = 256  # each record waits for the disk


def fetch(paths: Iterable[Path], most_bytes: int | None = None) -> None:
    """Make local copies of remote files current; plain paths are left alone.

    What the store does not have is not there afterwards either. Raises StorageError where the store cannot be asked,
    where a file is larger than `most_bytes`, and, offline, where there is no copy.
    """
    remote = list(dict.fromkeys(path for path in paths if url_of(path) is not None))
    if not remote:
        return
    if offline():
        _check_copies(remote)
        return
    update(remote_states(remote), most_bytes)


def update(wanted: Mapping[Path, ObjectState | None], most_bytes: int | None = None) -> None:
    """As `fetch`, where the store's states are known already; None removes the copy."""
    known = recorded(list(wanted))
    stale = {}
    for path, found in wanted.items():
        if found is None:
            path.unlink(missing_ok=True)
        elif most_bytes is not None and found.size > most_bytes:
            raise StorageError(f"{url_of(path)}: has {found.size} bytes; at most {most_bytes} are expected of it.")
        elif known.get(path) != found.version:
            stale[path] = found
    paths = list(stale)
    for start in range(0, len(paths), _RECORDED_TOGETHER):
        part = paths[start : start + _RECORDED_TOGETHER]
        _in_threads(_download, part)
        record({path: stale[path].version for path in part})


def ensure(paths: Iterable[Path]) -> None:
    """Fetch the remote files that have no local copy at all, without asking for newer ones of the others.

    Raises StorageError; what the store does not have stays missing.
    """
    missing = [path for path in dict.fromkeys(paths) if url_of(path) is not None and not path.exists()]
    if missing and offline():
        _check_copies(missing)
    if missing:
        update(remote_states(missing))


def recorded(paths: Sequence[Path]) -> dict[Path, str]:
    """The store's version of each local copy that is as it was fetched."""
    with closing(_open()) as connection:
        found = {}
        for path in paths:
            row = connection.execute("SELECT version, state FROM copies WHERE path = ?", (str(path),)).fetchone()
            if row is not None and row[1] == file_state(path):
                found[path] = row[0]
        return found


def record(versions: Mapping[Path, str]) -> None:
    """Note that local files are the store's objects of those versions."""
    rows = [(str(path), version, file_state(path)) for path, version in versions.items()]
    with closing(_open()) as connection, connection:
        connection.executemany("INSERT OR REPLACE INTO copies VALUES (?, ?, ?)", rows)


def remote_states(paths: Sequence[Path]) -> dict[Path, ObjectState | None]:
    """What the stores say of those files: asked one by one, or by a listing for folders of which many are wanted."""
    of_folder: dict[Path, list[Path]] = {}
    for path in paths:
        of_folder.setdefault(path.parent, []).append(path)
    states: dict[Path, ObjectState | None] = {}
    for folder, files in of_folder.items():
        if len(files) <= _ASKED_ONE_BY_ONE:
            states |= {path: objects.state(_url(path)) for path in files}
        else:
            listed = objects.listing(_url(folder), deep=False)
            states |= {path: listed.get(path.name) for path in files}
    return states


def _check_copies(paths: Sequence[Path]) -> None:
    if lost := [path for path in paths if not path.exists()]:
        raise StorageError(
            f"{url_of(lost[0])}: no copy in {cache_folder()} ({len(lost)} of {len(paths)} files), and {OFFLINE} is "
            "set. Unset it to fetch them."
        )


def _download(path: Path) -> None:
    """The version that arrives is the one to be noted, or a newer one: then the next look fetches it once more."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        objects.download(_url(path), partial)
        partial.replace(path)
    except MissingObjectError:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise _unwritable(error) from error
    finally:
        partial.unlink(missing_ok=True)


def _in_threads(work: Callable[[Path], None], paths: Sequence[Path]) -> None:
    """The first error ends it; what has not begun then does not begin."""
    if not paths:
        return
    with ThreadPoolExecutor(min(_THREADS, len(paths)), "fetch") as pool:
        futures = [pool.submit(work, path) for path in paths]
        try:
            for future in futures:
                future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _open() -> sqlite3.Connection:
    try:
        cache_folder().mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(cache_folder() / "mirror.sqlite", timeout=_BUSY_SECONDS)
        connection.execute("CREATE TABLE IF NOT EXISTS copies (path TEXT PRIMARY KEY, version TEXT, state TEXT)")
    except (OSError, sqlite3.Error) as error:
        raise _unwritable(error) from error
    return connection


def _unwritable(error: Exception) -> StorageError:
    return StorageError(
        f"{cache_folder()}: copies of remote files cannot be kept there ({error}). Set WORKBENCH_CACHE to a folder "
        "that can be written."
    )


def _url(path: Path) -> str:
    url = url_of(path)
    assert url is not None
    return url
