"""A file system without room, without room for more files, or read-only: a small one, mounted over the world."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.soak.workplace import Workplace

_PLENTY = "size=1g,nr_inodes=100k"


@dataclass(frozen=True)
class Disk:
    """A file system that is mounted at `folder`."""

    folder: Path

    def leave_room(self, size: int) -> None:
        """Only so many bytes more."""
        state = os.statvfs(self.folder)
        used = (state.f_blocks - state.f_bfree) * state.f_frsize
        self._remount(f"size={used + size}")

    def leave_files(self, count: int) -> None:
        """Only so many files and folders more."""
        state = os.statvfs(self.folder)
        self._remount(f"nr_inodes={state.f_files - state.f_ffree + count}")

    def forbid_writing(self) -> None:
        """Nothing can be written."""
        self._remount("ro")

    def make_room(self) -> None:
        """Everything can be written again."""
        self._remount(f"rw,{_PLENTY}")

    def _remount(self, options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", str(self.folder)], check=True)


@contextmanager
def mounted(place: Workplace) -> Iterator[Disk]:
    """The world on a disk of its own, laid out anew; on the usual one when the block ends."""
    shutil.rmtree(place.world)
    place.world.mkdir()
    _mount(place.world)
    try:
        shutil.copytree(place.template, place.world, dirs_exist_ok=True)
        yield Disk(place.world)
    finally:
        subprocess.run(["umount", str(place.world)], check=True)


def why_not(folder: Path) -> str | None:
    """Why no file system can be mounted here; None where one can."""
    probe = folder / "probe"
    probe.mkdir()
    try:
        _mount(probe)
    except (OSError, subprocess.CalledProcessError) as error:
        return f"mount: {getattr(error, 'stderr', None) or error}".strip()
    else:
        subprocess.run(["umount", str(probe)], check=True)
    finally:
        probe.rmdir()
    return None


def _mount(folder: Path) -> None:
    command = ["mount", "-t", "tmpfs", "-o", _PLENTY, "tmpfs", str(folder)]
    subprocess.run(command, check=True, capture_output=True, text=True)
