"""Images where they are needed: a plain path as it is, a remote one's bytes, which never touch the disk."""

from io import BytesIO
from pathlib import Path

from workbench.storage.objects import read
from workbench.storage.places import url_of


def readable(path: Path) -> Path | BytesIO:
    """What Pillow opens: the path itself, or the content of the object whose mirror it is. One request.

    Raises MissingObjectError, PassingStorageError after its bounded attempts, or StorageError.
    """
    url = url_of(path)
    return path if url is None else BytesIO(read(url))
