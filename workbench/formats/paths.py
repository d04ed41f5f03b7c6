"""File names that others wrote: joined to their folder, or refused where they would lead out of it."""

import errno
import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path, PurePosixPath

from workbench.errors import DatasetError
from workbench.storage import is_folder, shown, url_of
from workbench.storage.objects import listing
from workbench.storage.places import MIRROR

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm"})


class UnsafeNameError(DatasetError):
    """A file name that leads out of its folder."""


class Folder:
    """A folder of files whose names come from annotation files, so they are not trusted."""

    def __init__(self, path: Path, follow_links: bool = False) -> None:
        self.path = path
        self.follow_links = follow_links
        self._real = path.resolve()
        self._url = url_of(path)
        self._may_have_links = not follow_links and self._url is None
        self._parent_is_inside = lru_cache(maxsize=4096)(self._is_inside)

    def file(self, name: str) -> Path:
        """The file of that name below the folder, whether or not it exists.

        Raises UnsafeNameError for an absolute name, one with `..`, (unless `follow_links`) one that a symbolic link
        leads out of the folder, and one that would be the mirror of a remote file.
        """
        pure = PurePosixPath(name)
        if not name or MIRROR in pure.parts or "\0" in name or pure.is_absolute() or ".." in pure.parts or "\\" in name:
            raise UnsafeNameError(f"file name {name!r} leads out of {self.path}")
        path = self.path / pure
        if self._may_have_links and not self._stays_inside(path):
            raise UnsafeNameError(f"file name {name!r} leads out of {self.path} by a link")
        return path

    def images(self) -> list[str]:
        """Names of the image files in the folder and its subfolders, relative to it, sorted. Hidden ones do not count.

        Raises UnsafeNameError as `file`, and DatasetError where there is no such folder.
        """
        if not is_folder(self.path):
            raise DatasetError(
                f"{shown(self.path)}: no such folder of images. Correct `root` or `images` in the definition."
            )
        found = self._walk() if self._url is None else listing(self._url)
        names = sorted(name for name in found if _is_image(PurePosixPath(name)))
        for name in names:
            self.file(name)
        return names

    def _walk(self) -> Iterator[str]:
        for parent, folders, files in os.walk(self.path, followlinks=self.follow_links):
            folders[:] = [folder for folder in folders if not folder.startswith(".")]
            for file in files:
                yield (Path(parent) / file).relative_to(self.path).as_posix()

    def _stays_inside(self, path: Path) -> bool:
        try:
            return self._parent_is_inside(path.parent) and self._link_stays_inside(path)
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                return True  # no file has such a name, so no link has: whoever opens it finds nothing
            raise

    def _link_stays_inside(self, path: Path) -> bool:
        return not path.is_symlink() or self._is_inside(path)

    def _is_inside(self, path: Path) -> bool:
        return path.resolve().is_relative_to(self._real)


def _is_image(name: PurePosixPath) -> bool:
    return name.suffix.lower() in IMAGE_SUFFIXES and not any(part.startswith(".") for part in name.parts)
