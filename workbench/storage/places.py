"""What a place is: a plain path, or the URL of an object in a store, which has a local path too, that of its mirror.

Everything else works on plain paths. A remote place is one of them: `s3://bucket/key` is
`$WORKBENCH_CACHE/mirror-of/s3/bucket/key`, whether or not anything has been fetched to there. The path tells the URL by
itself, wherever the cache folder lies, so it may be pickled and sent to another machine.
"""

import os
import re
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from workbench.errors import StorageError
from workbench.files.cache import cache_folder

SCHEMES = {"s3": "Amazon S3, or a service with its API", "gs": "Google Cloud Storage", "hf": "the Hugging Face Hub"}
"""The stores that are known, by what their URLs begin with."""

MIRROR = "mirror-of"
"""The folder of the cache that holds `<scheme>/<bucket>/<key>`."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_COLLAPSED = re.compile(r"(s3|gs|hf):/(?=[^/])")  # what `Path` makes of a URL
_OTHERS_COLLAPSED = re.compile(r"(https?|ftp|az|azure|abfss?|adl|hdfs|gcs|s3a|s3n):/(?=[^/])")
_MIRRORED = re.compile(rf"/{MIRROR}/({'|'.join(SCHEMES)})/")

Place = str | os.PathLike[str]


def url_of(place: Place) -> str | None:
    """The URL of a remote place, given as a URL or as its mirror's path; None for a plain path.

    Raises StorageError for a URL of an unknown scheme, and for one that no mirror can have (`..`, empty parts).
    """
    text = os.fspath(place)
    if found := _MIRRORED.search(text):
        return _checked(f"{found[1]}://{text[found.end() :]}")  # a copy is written to the path: `..` would lead out
    return _checked(text) if is_url(place) else None


def is_url(place: Place) -> bool:
    """Whether the place is written as a URL of a store, not as a path. Raises StorageError for an unknown scheme."""
    text = os.fspath(place)
    if _COLLAPSED.match(text):
        return True
    found = _SCHEME.match(text) or _OTHERS_COLLAPSED.match(text)
    if found is None or found[1].lower() == "file":
        return False
    if found[1] not in SCHEMES:
        known = ", ".join(f"{scheme}:// ({what})" for scheme, what in SCHEMES.items())
        raise StorageError(
            f"{text}: places that begin with {found[1]}:// are not known. Known: {known}, file:// and plain paths."
        )
    return True


def is_mirror_written_out(text: str) -> bool:
    """Whether a text of others is no URL and yet a path that would be taken for one: it names the mirrors.

    Copies are written to such a path, wherever it leads; so files of others may name places by their URLs only.
    """
    return not is_url(text) and MIRROR in PurePosixPath(text).parts


def local_path(place: Place) -> Path:
    """The path by which the workbench knows a place: a remote one's mirror, else the path itself (`~` as it is).

    Raises StorageError as `url_of`, and for a file:// URL that names another machine.
    """
    if is_url(place):
        return mirror_path(_checked(os.fspath(place)))
    text = os.fspath(place)
    if not text.lower().startswith("file://"):
        return Path(text)
    path = unquote(text[len("file://") :]).removeprefix("localhost")
    if not path.startswith("/"):
        raise StorageError(f"{text}: names the machine {path.partition('/')[0]!r}. Write file:///PATH, or the path.")
    return Path(path)


def plain_path(place: Place) -> Path:
    """As `local_path`, for what only a disk takes. Raises StorageError for a remote place too."""
    if is_url(place):
        raise StorageError(
            f"{shown(place)}: this takes a plain path: runs, data sets and checkpoints alone may be remote. "
            "Name a folder or a file, and copy it there, or from there, with the store's own tool."
        )
    return local_path(place)


def mirror_path(url: str) -> Path:
    """Where the mirror of a URL lies. Raises StorageError as `url_of`."""
    scheme, _, key = _checked(url).partition("://")
    return mirror_root() / scheme / key


def mirror_root() -> Path:
    """The folder of all mirrors; it may not exist yet."""
    return cache_folder().absolute() / MIRROR


def shown(place: Place) -> str:
    """A place as its user knows it: the URL of a remote one, else the path."""
    return url_of(place) or os.fspath(place)


def with_urls(text: str) -> str:
    """A message in which the paths of mirrors have become URLs."""
    for scheme in SCHEMES:
        text = text.replace(f"{mirror_root()}/{scheme}/", f"{scheme}://")
    return text


def scheme_of(url: str) -> str:
    """What the URL begins with: a key of `SCHEMES`."""
    return url.partition("://")[0]


def _checked(text: str) -> str:
    """The URL without a closing slash, its second slash put back where `Path` took it."""
    url = _COLLAPSED.sub(r"\1://", text, count=1).rstrip("/")
    key = url.partition("://")[2]
    if not key or "\0" in key:
        raise StorageError(f"{text}: names no bucket. Write {scheme_of(url)}://BUCKET/KEY.")
    if "@" in key.partition("/")[0]:  # no bucket has one; the place would go into manifests and messages
        bucket = key.partition("/")[0].rpartition("@")[2]
        raise StorageError(
            f"{scheme_of(url)}://...@{bucket}: credentials do not belong into a place. Set them as the store's own "
            "tools read them: see docs/storage.md."
        )
    if any(part in ("", ".", "..") for part in key.split("/")) or str(PurePosixPath(key)) != key:
        raise StorageError(f"{text}: has an empty part, '.' or '..' in it, which no local copy can have. Remove it.")
    return url
