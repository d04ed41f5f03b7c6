"""Objects of a store by their URLs: asked about, listed, read, written; every request tried again as `retrying` says.

An object appears, and is replaced, as a whole: a reader sees the old bytes or the new ones.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from time import monotonic, time
from typing import Any

from workbench.errors import MissingObjectError, StorageError
from workbench.storage.places import local_path, scheme_of, url_of
from workbench.storage.retrying import attempt
from workbench.storage.services import offline

WRITABLE = ("s3", "gs")
"""Stores that runs can be written to: both can make an object only where there is none."""
_VERSION_KEYS = ("ETag", "etag", "generation", "md5Hash", "xet_hash", "blob_id")
_TIME_KEYS = ("LastModified", "mtime", "last_modified", "created")
_SECONDS_REMEMBERED = 30
_seen: dict[str, float] = {}  # what `exists` has found, and when: a definition asks for the same places many times


@dataclass(frozen=True)
class ObjectState:
    """What a store says of an object: `version` changes whenever its content does."""

    version: str
    size: int
    modified: float | None
    """When it was written last, in seconds since 1970 by the store's clock; None where the store does not say."""


def state(url: str) -> ObjectState | None:
    """Of the object at a URL; None where there is none (a folder is none). One request."""
    try:
        found = attempt(url, lambda files: files.info(url))
    except MissingObjectError:
        return None
    return _state(found) if found["type"] == "file" else None


def exists(place: str | os.PathLike[str]) -> bool:
    """Whether there is an object at a remote place or below it, or a file or folder at a plain path.

    What was there half a minute ago is not asked for again; offline the local copies are. Raises StorageError where
    there is no such bucket.
    """
    url = url_of(place)
    if url is None or offline():
        return local_path(place).exists()
    if url not in _seen or monotonic() - _seen[url] > _SECONDS_REMEMBERED:
        try:
            attempt(url, lambda files: files.info(url))
        except MissingObjectError:
            return False
        _seen[url] = monotonic()
    return True


def is_folder(place: str | os.PathLike[str]) -> bool:
    """Whether a plain path is a folder, or there are objects below a remote place: there are no empty folders there."""
    return local_path(place).is_dir() if url_of(place) is None else exists(place)


def listing(url: str, deep: bool = True) -> dict[str, ObjectState]:
    """Every object below a URL by its name relative to it; not `deep`: without those of subfolders.

    One request for each thousand. Raises StorageError.
    """
    try:
        found = attempt(url, lambda files: files.find(url, detail=True) if deep else _entries(files, url))
    except MissingObjectError:
        return {}
    prefix = url.partition("://")[2] + "/"
    return {
        name.removeprefix(prefix): _state(about)
        for name, about in found.items()
        if name.startswith(prefix) and about["type"] == "file" and not name.endswith("/")
    }


def entries(url: str) -> set[str]:
    """The names of the objects and folders directly below a URL. Raises StorageError."""
    try:
        found = attempt(url, lambda files: files.ls(url, detail=False))
    except MissingObjectError:
        return set()
    prefix = url.partition("://")[2] + "/"
    return {name.removeprefix(prefix).rstrip("/") for name in found if name.startswith(prefix)} - {""}


def _entries(files: Any, url: str) -> dict[str, Mapping[str, Any]]:
    return {about["name"]: about for about in files.ls(url, detail=True)}


def read(url: str) -> bytes:
    """The whole object. One request. Raises MissingObjectError, PassingStorageError or StorageError."""
    content: bytes = attempt(url, lambda files: files.cat_file(url))
    return content


def download(url: str, path: Path) -> None:
    """Write the object into a new file. Raises as `read`."""
    attempt(url, lambda files: files.get_file(url, str(path)))


def upload(path: Path, url: str, exclusive: bool = False) -> None:
    """Write a file's bytes to the object; `exclusive`: only where there is none. Raises FileExistsError, StorageError.

    Where an attempt's answer was lost, the object may be ours: one with the same bytes counts as written.
    """
    check_writable(url)
    mode = "create" if exclusive else "overwrite"
    try:
        _write(url, lambda files: files.put_file(str(path), url, mode=mode))
    except FileExistsError:
        if read(url) != path.read_bytes():
            raise


def create(url: str, content: bytes) -> None:
    """Make a small object where there is none. Raises FileExistsError where there is one (with other bytes)."""
    check_writable(url)
    try:
        _write(url, lambda files: files.pipe_file(url, content, mode="create"))
    except FileExistsError:
        if read(url) != content:
            raise


def _write(url: str, action: Callable[[Any], Any]) -> None:
    try:
        attempt(url, action)
    except MissingObjectError as error:  # gcsfs' word for it
        bucket = url.split("/")[2]
        raise StorageError(f"{url}: there is no bucket {bucket!r}: correct its name, or make it first.") from error


def creates_exclusively(url: str) -> bool:
    """Whether the service keeps its word: an object that is there is not made a second time. It stays as it is."""
    content = read(url)
    try:
        attempt(url, lambda files: files.pipe_file(url, content, mode="create"))
    except FileExistsError:
        return True
    return False


def replace(url: str, content: bytes, version: str) -> bool:
    """Replace a small object if it still is of that version, and say whether it was.

    S3 decides that itself; elsewhere it is asked before, which leaves a moment to another writer.
    """
    check_writable(url)
    if scheme_of(url) != "s3":
        found = state(url)
        if found is None or found.version != version:
            return False
        attempt(url, lambda files: files.pipe_file(url, content))
        return True
    try:
        attempt(url, lambda files: files.pipe_file(url, content, IfMatch=version))
    except (FileExistsError, MissingObjectError):  # another version, or none
        return read_or_none(url) == content
    return True


def read_or_none(url: str) -> bytes | None:
    """As `read`; None where there is no such object."""
    try:
        return read(url)
    except MissingObjectError:
        return None


def remove(url: str) -> None:
    """Remove the object; nothing happens where there is none."""
    check_writable(url)
    try:
        attempt(url, lambda files: files.rm_file(url))
    except MissingObjectError:
        return


def age(found: ObjectState) -> float | None:
    """Seconds since the object was written, by this machine's clock; None where the store does not say."""
    return None if found.modified is None else time() - found.modified


def check_writable(url: str) -> None:
    """Raises StorageError where places of that scheme are only read."""
    if scheme_of(url) not in WRITABLE:
        raise StorageError(
            f"{url}: {scheme_of(url)}:// places are only read here. Write to a folder or to "
            f"{' or '.join(f'{scheme}://' for scheme in WRITABLE)}, and copy the result there."
        )


def _state(found: Mapping[str, Any]) -> ObjectState:
    modified = next((found[key] for key in _TIME_KEYS if isinstance(found.get(key), datetime)), None)
    seconds = None if modified is None else modified.timestamp()
    version = next((str(found[key]) for key in _VERSION_KEYS if found.get(key)), f"{modified}")
    return ObjectState(version, int(found.get("size") or 0), seconds)
