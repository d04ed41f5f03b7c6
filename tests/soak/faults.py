"""What befalls a command from inside its own process: killed before its n-th change of a file, no room, a wrong clock.

Each is called in the process when all is in place for the command, and can be pickled.
"""

import datetime
import importlib
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir"}  # os.replace tells itself as os.rename

_ASK_THE_CLOCK = ("workbench.prediction.session", "workbench.evaluation.keeping", "workbench.imports.api")


@dataclass(frozen=True)
class Surroundings:
    """The environment of a command, and then what befalls it."""

    environment: Mapping[str, str]
    fault: Callable[[], None] | None = None

    def __call__(self) -> None:
        os.environ.update(self.environment)
        if self.fault is not None:
            self.fault()


@dataclass(frozen=True)
class Begun:
    """Nothing befalls the command; the file tells that it begins now."""

    file: Path

    def __call__(self) -> None:
        self.file.touch()


@dataclass(frozen=True)
class CountEvents:
    """Count what the command opens, makes, renames and removes below the current folder: a byte each in `file`."""

    file: Path

    def __call__(self) -> None:
        descriptor = os.open(self.file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        _on_event(lambda number: os.write(descriptor, b"."))


@dataclass(frozen=True)
class SignalAtEvent:
    """The signal comes right before the n-th of those, from 1."""

    signal_number: int
    event: int

    def __call__(self) -> None:
        def strike(number: int) -> None:
            if number == self.event:
                os.kill(os.getpid(), self.signal_number)

        _on_event(strike)


def _on_event(then: Callable[[int], object]) -> None:
    here, seen = str(Path.cwd()), 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if event in _EVENTS and _is_here(arguments[0], here):
            seen += 1
            then(seen)

    sys.addaudithook(hook)


def _is_here(path: object, here: str) -> bool:
    if isinstance(path, int):
        return False
    text = os.fsdecode(path)  # type: ignore[arg-type]
    return not text.startswith("/") or text.startswith(f"{here}/")


@dataclass(frozen=True)
class RemoveAtEvent:
    """A file vanishes right before the n-th of those."""

    path: Path
    event: int

    def __call__(self) -> None:
        def remove(number: int) -> None:
            if number == self.event:
                self.path.unlink()

        _on_event(remove)


@dataclass(frozen=True)
class FileLimit:
    """No file grows beyond so many bytes: writing more fails, as on a full disk or over a quota."""

    size: int

    def __call__(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, resource.RLIM_INFINITY))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as Python itself does at its start


@dataclass(frozen=True)
class ClockGoesBack:
    """After so many seconds the clock of the process goes back by a year, in `time.time` and in `datetime.now`."""

    after: float
    by: float = 365 * 86400.0

    def __call__(self) -> None:
        began, real = time.monotonic(), time.time

        def shifted() -> float:
            return real() - (self.by if time.monotonic() - began >= self.after else 0)

        class Datetime(datetime.datetime):
            @classmethod
            def now(cls, tz: datetime.tzinfo | None = None) -> "Datetime":
                return cls.fromtimestamp(shifted(), tz)

        time.time, time.time_ns = shifted, lambda: int(shifted() * 1e9)
        for name in _ASK_THE_CLOCK:
            vars(importlib.import_module(name))["datetime"] = Datetime
