"""Folders that belong to one piece of work: free, or its own by the manifest in it; held by one process at a time.

Runs and trainings live in such folders. A second command finds its earlier folder again, or leaves it alone.
"""

import fcntl
import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

from workbench.errors import RunError

_LOCK = ".lock"


@dataclass(frozen=True)
class Claim:
    """What marks a folder as one of a kind."""

    noun: str
    """What messages call it: "run" or "training"."""
    manifest: str
    """The name of the file that says which one it is."""

    def is_free(self, folder: Path) -> bool:
        """Whether work can begin there: nothing is there, or only what a process killed at its very start leaves."""
        return not folder.exists() or (folder.is_dir() and not self._entries(folder))

    def refuse_foreign(self, folder: Path, option: str = "--out") -> None:
        """Raise RunError for a file, and for a folder that holds something else; `option` names another place."""
        if self.is_free(folder) or (folder / self.manifest).exists():
            return
        if not folder.is_dir():
            raise RunError(f"{folder}: a file, not a {self.noun} folder. Name another folder with {option}.")
        raise RunError(
            f"{folder}: not empty and no {self.noun} folder (it holds {self._entries(folder)[0]!r}). "
            f"Name another folder with {option}."
        )

    @contextmanager
    def lock(self, folder: Path, option: str = "--out") -> Iterator[None]:
        """Hold the folder, made if need be, for writing; the system lets go of it however the process ends.

        Raises RunError as `refuse_foreign` and `hold` do.
        """
        self.refuse_foreign(folder, option)
        with self.hold(folder, option):
            yield

    @contextmanager
    def hold(self, folder: Path, option: str = "--out") -> Iterator[None]:
        """As `lock`, whatever the folder holds. Raises RunError for one that cannot be written, and for one held."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = (folder / _LOCK).open("a+", encoding="utf-8")
        except OSError as error:
            reason = f"cannot be written ({error.strerror})"
            raise RunError(f"{folder}: {reason}. Name another folder with {option}.") from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                holder = file.read().strip() or "another process"
                raise RunError(f"{folder}: in use by {holder}. Wait for it, or stop it.") from None
            _note_holder(file.fileno())
            yield

    def discard(self, folder: Path) -> None:
        """Take away a folder of which nothing but the lock is left; the caller holds it."""
        if self.is_free(folder):
            (folder / _LOCK).unlink(missing_ok=True)
            folder.rmdir()

    def check_identity(self, folder: Path, there: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
        """Raise RunError, naming each difference, where the folder's identity is not the one that is wanted."""
        if found := differences(there, wanted):
            raise RunError(
                f"{folder}: holds a {self.noun} made differently, so it cannot be resumed: {'; '.join(found)}. "
                "Name another folder with --out."
            )

    def _entries(self, folder: Path) -> list[str]:
        own = {_LOCK, partial(folder / self.manifest).name}
        return sorted(entry.name for entry in folder.iterdir() if entry.name not in own)


def _note_holder(lock: int) -> None:
    """Say in the lock who holds it, for whoever wants the folder meanwhile; a full disk takes no note, and no harm."""
    holder = f"process {os.getpid()} on {socket.gethostname()}, since {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
    with suppress(OSError):
        os.ftruncate(lock, 0)
        os.write(lock, holder.encode())


def partial(path: Path) -> Path:
    """Where the content of a manifest is written before it takes the place of the old one."""
    return path.with_name(f".{path.name}.partial")


def first_fitting(first: Path, fits: Callable[[Path], bool]) -> Path:
    """The first of `first`, `first-2`, `first-3`, ... that fits."""
    if fits(first):
        return first
    numbered = (first.with_name(f"{first.name}-{number}") for number in count(2))
    return next(folder for folder in numbered if fits(folder))


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Each key, nested ones with dots, whose values differ, and both values; `new` as a JSON file would hold it."""
    old, new = _flat(old), _flat(json.loads(json.dumps(new)))  # tuples are lists there
    return [
        f"{key} is {_short(old.get(key))} there, {_short(new.get(key))} now"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]


def _short(value: Any) -> str:
    return f"{len(value)} of them" if isinstance(value, list) and len(value) > 4 else repr(value)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
