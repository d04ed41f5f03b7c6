"""Unpacking archives that others made: nothing outside the folder, no links, nothing of the user's replaced."""

import gzip
import lzma
import os
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from workbench.errors import DatasetError

_JUNK = ("__MACOSX", ".DS_Store")
_CHUNK = 1 << 20

_BROKEN = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    ValueError,  # numbers and names that are none, of undecodable text among them
    OverflowError,
    IndexError,  # of an empty name
    struct.error,
    RuntimeError,  # encrypted
    NotImplementedError,  # a compression that zipfile does not know
)

Progress = Callable[[int, int], None]
"""Called with (files done, files in all)."""


class ArchiveError(DatasetError):
    """An archive that is broken, or that would write where it must not."""


@dataclass(frozen=True)
class _Member:
    name: str
    size: int
    open: Callable[[], IO[bytes]]


def unpack(
    archive: Path,
    into: Path,
    members: Sequence[str] = (),
    strip: str = "",
    progress: Progress | None = None,
) -> list[Path]:
    """Unpack a zip or tar file (compressed or not) below `into`; the paths of its files.

    With `members`, only names that start with one of them; `strip` is taken off the front of names. Every name is
    checked before the first file is written. A file that is there already stays, and must have the same content. Each
    file appears whole. Raises ArchiveError for names that leave the folder, for links and devices, a broken archive,
    members that it lacks, a different file in the way, and too little room on the disk.
    """
    into.mkdir(parents=True, exist_ok=True)
    try:
        with _members(archive) as found:
            chosen = [member for member in found if not members or member.name.startswith(tuple(members))]
            for prefix in members:
                if not any(member.name.startswith(prefix) for member in chosen):
                    raise ArchiveError(
                        f"{archive}: holds nothing named {prefix!r}. Correct `members` in the definition."
                    )
            targets = [_target(member.name.removeprefix(strip), into, archive) for member in chosen]
            _check_room(archive, into, chosen)
            for count, (member, target) in enumerate(zip(chosen, targets, strict=True), start=1):
                _write(member, target)
                if progress is not None:
                    progress(count, len(chosen))
    except (*_BROKEN, OSError) as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise  # the folder's fault; without a name it is a place that the archive points to and that is not there
        raise ArchiveError(
            f"{archive}: a broken or encrypted archive ({error}). Delete it and download again."
        ) from error
    return targets


@contextmanager
def _members(archive: Path) -> Iterator[list[_Member]]:
    """The regular files in an archive, without the litter of desktop systems."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            yield [
                _Member(info.filename, info.file_size, partial(opened.open, info))
                for info in opened.infolist()
                if not info.is_dir()
                and not _is_junk(info.filename)
                and _is_file(info.external_attr >> 16, info, archive)
            ]
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as tar:
            yield [
                _Member(info.name, info.size, partial(_open_in_tar, tar, info))
                for info in tar
                if not info.isdir() and not _is_junk(info.name) and _is_file(_tar_mode(info), info, archive)
            ]
    else:
        raise ArchiveError(f"{archive}: neither a zip nor a tar file. Check the archive's url in the definition.")


def _open_in_tar(tar: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    file = tar.extractfile(info)
    if file is None:
        raise tarfile.ReadError(f"{info.name} is no regular file")
    return file


def _is_junk(name: str) -> bool:
    return any(part in _JUNK for part in PurePosixPath(name).parts)


def _tar_mode(info: tarfile.TarInfo) -> int:
    return stat.S_IFREG if info.isreg() else stat.S_IFLNK


def _is_file(mode: int, info: zipfile.ZipInfo | tarfile.TarInfo, archive: Path) -> bool:
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        name = info.filename if isinstance(info, zipfile.ZipInfo) else info.name
        raise ArchiveError(f"{archive}: {name!r} is a link or a device, which are never unpacked. Unpack it by hand.")
    return True


def _target(name: str, into: Path, archive: Path) -> Path:
    pure = PurePosixPath(name)
    if (
        not pure.parts
        or pure.is_absolute()
        or ".." in pure.parts
        or "\\" in name
        or ":" in pure.parts[0]
        or "\0" in name
    ):
        raise ArchiveError(f"{archive}: {name!r} would be written outside {into}. Do not trust this archive.")
    return into / pure


def _check_room(archive: Path, into: Path, members: Sequence[_Member]) -> None:
    needed, free = sum(member.size for member in members), shutil.disk_usage(into).free
    if needed > free:
        raise ArchiveError(f"{archive}: needs {needed / 1e9:.1f} GB in {into}, where {free / 1e9:.1f} GB are free.")


def _write(member: _Member, target: Path) -> None:
    if target.exists():
        if not _same_content(member, target):
            raise ArchiveError(f"{target}: there already, with other content than in the archive. Move it away first.")
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.partial")
    try:
        with member.open() as source, unfinished.open("wb") as file:
            shutil.copyfileobj(source, file, _CHUNK)
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


def _same_content(member: _Member, target: Path) -> bool:
    if not target.is_file() or os.path.getsize(target) != member.size:  # noqa: PTH202 - one call instead of two
        return False
    with member.open() as source, target.open("rb") as file:
        while chunk := source.read(_CHUNK):
            if file.read(len(chunk)) != chunk:
                return False
    return True
