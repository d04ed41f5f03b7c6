"""Content hashes of many files, remembered: a file is read again only when its size, times or place on disk change.

The times are those of the content and of the file's own record: `cp -p` and `rsync -t` set the first back.
"""

import hashlib
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path

from workbench.errors import DatasetError
from workbench.files.cache import cache_folder

_BUSY_SECONDS = 10.0


def content_digests(paths: Sequence[Path]) -> list[str]:
    """The sha256 of each file's content, in hexadecimal; "missing" for a file that is not there.

    What is remembered lies in the cache folder; where that cannot be written, every file is read. Raises DatasetError
    for a file that is there and cannot be read.
    """
    states = [file_state(path) for path in paths]
    remembered = _recall(paths)
    digests = []
    fresh = []
    for path, state in zip(paths, states, strict=True):
        key = str(path)
        if state is None:
            digests.append("missing")
        elif key in remembered and remembered[key][1] == state:
            digests.append(remembered[key][0])
        else:
            digests.append(_sha256(path))
            fresh.append((key, digests[-1], state))
    _remember(fresh)
    return digests


def text_digest(parts: Iterable[str]) -> str:
    """The sha256 of texts, each on a line of its own."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode("utf-8", "surrogateescape"))
        digest.update(b"\n")
    return digest.hexdigest()


def file_state(path: Path) -> str | None:
    """Changes whenever the file may have; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error}).") from error


def _open() -> sqlite3.Connection:
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(folder / "digests.sqlite", timeout=_BUSY_SECONDS)
    connection.execute("CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, sha256 TEXT, state TEXT)")
    return connection


def _recall(paths: Sequence[Path]) -> dict[str, tuple[str, str]]:
    try:
        with closing(_open()) as connection:
            found = {}
            for path in paths:
                row = connection.execute("SELECT sha256, state FROM files WHERE path = ?", (str(path),)).fetchone()
                if row is not None:
                    found[str(path)] = row
            return found
    except (OSError, sqlite3.Error):
        return {}  # slower, never wrong


def _remember(rows: Sequence[tuple[str, str, str]]) -> None:
    if not rows:
        return
    try:
        with closing(_open()) as connection, connection:
            connection.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", rows)
    except (OSError, sqlite3.Error):
        return
