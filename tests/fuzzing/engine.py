"""Run a reader over damaged files and say what went wrong: one process, seeded, guided by the lines it reaches.

A finding is anything but a result or an error that a user can act on: another exception, more than `SECONDS`, more than
`MEGABYTES` of new memory, a write outside the reader's folders, a subprocess, a connection, a global that a pickle
names, an error that does not say in which file. Every fourth input runs under a tracer of our packages' lines; an input
that reaches a new one, or is refused with new words, joins those that are damaged further.
"""

import random
import re
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import click

from eomt.errors import EomtError
from tests.fuzzing.mutation import mutate
from workbench.errors import WorkbenchError

SECONDS = 10.0  # for one input, on a machine that does other things too
MEGABYTES = 1500  # for all inputs of a reader: Pillow opens 179 million pixels unasked, and their ids take 4 bytes each
_TRACED = 4  # every so many inputs
_MOST_KEPT = 400
_REPOSITORY = Path(__file__).parents[2]
_OURS = tuple(str(_REPOSITORY / package) for package in ("eomt", "workbench"))
_WRITES = {"os.rename": 1, "os.mkdir": 0, "os.remove": 0, "os.rmdir": 0, "os.link": 1, "os.symlink": 1, "os.chmod": 0}
_FORBIDDEN = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "socket.connect", "pickle.find_class")


@dataclass(frozen=True)
class Reader:
    """Something that reads files of others: `read` gets the content, writes it where it belongs, and reads it."""

    name: str
    kind: str
    """How its files are damaged: "json", "toml" or "bytes"."""
    seeds: tuple[bytes, ...]
    read: Callable[[bytes], None]
    folders: tuple[Path, ...] = ()
    """Where it may write."""
    named: tuple[str, ...] = ()
    """One of these is in every error; none: anything goes."""
    words: tuple[bytes, ...] = ()
    share: float = 1.0
    """Of the inputs, compared with other readers: what is slow gets fewer."""


@dataclass(frozen=True)
class Finding:
    """An input that was not handled, and how."""

    reader: str
    what: str
    data: bytes = field(repr=False)
    details: str = ""


@dataclass
class Tally:
    """What became of the inputs of one reader."""

    inputs: int = 0
    refused: int = 0
    kept: int = 0
    lines: int = 0
    seconds: float = 0.0
    findings: list[Finding] = field(default_factory=list)


class Hang(BaseException):
    """No Exception: no reader can take it for a broken file."""


def fuzz(reader: Reader, count: int, seed: int = 0) -> Tally:
    """Feed `count` damaged files to a reader; findings of one cause are kept once."""
    chance = random.Random(f"{seed} {reader.name}")
    tally, pool, seen = Tally(), list(reader.seeds), set[Any]()
    started = time.monotonic()
    warm_up(reader)
    memory = _peak()
    with _alarm():
        _feed(reader, count, chance, pool, seen, tally)
    if _peak() - memory > MEGABYTES:
        tally.findings.append(Finding(reader.name, f"took more than {MEGABYTES} MB of memory", b""))
    tally.lines = sum(isinstance(entry, tuple) for entry in seen)
    tally.seconds = time.monotonic() - started
    return tally


def warm_up(reader: Reader) -> None:
    """Read the whole files once, unwatched: what is imported or compiled on first use has its own files."""
    for data in reader.seeds:
        _error_of(reader, data)


def _feed(reader: Reader, count: int, chance: random.Random, pool: list[bytes], seen: set[Any], tally: Tally) -> None:
    for number in range(count):
        whole = number < len(reader.seeds)
        data = pool[number] if whole else _damaged(reader, pool, chance)
        with _lines(seen if whole or number % _TRACED == 0 else None) as reached:
            finding, answer = examine(reader, data)
        tally.inputs += 1
        tally.refused += answer is not None
        if finding is not None:
            if finding.what not in {known.what for known in tally.findings}:
                tally.findings.append(finding)
        elif reached or answer not in seen:
            seen |= {answer, *reached}
            if len(pool) < _MOST_KEPT:
                pool.append(data)
                tally.kept += 1


def examine(reader: Reader, data: bytes) -> tuple[Finding | None, str | None]:
    """What is wrong with how a reader takes an input, if anything; and its error without numbers and names, if any."""
    global _input_since
    try:
        with _alarm(), _watched(reader.folders) as forbidden:
            _input_since = time.monotonic()
            error = _error_of(reader, data)
            _input_since = None
    except Hang:
        _input_since = None
        return Finding(reader.name, f"no answer in {SECONDS:g} s", data, traceback.format_exc()), None
    if forbidden:
        return Finding(reader.name, forbidden[0], data), None
    if error is None:
        return None, None
    if not _is_told(error):
        place = traceback.extract_tb(error.__traceback__)[-1]
        what = f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}"
        return Finding(reader.name, what, data, "".join(traceback.format_exception(error))), None
    text = str(error)
    if reader.named and not any(name in text for name in reader.named):
        return Finding(reader.name, f"no place in: {re.sub('[0-9]+', '0', text)[:60]}", data, text), None
    return None, re.sub(r"""'[^']*'|"[^"]*"|[0-9]+|/\S+""", "", text)[:60]


def _error_of(reader: Reader, data: bytes) -> Exception | None:
    try:
        reader.read(data)
    except Exception as error:
        return error
    return None


def _is_told(error: Exception) -> bool:
    """Whether the command would say it in one message that names the place."""
    return isinstance(error, WorkbenchError | EomtError | click.UsageError) or (
        isinstance(error, OSError) and error.filename is not None
    )


def _damaged(reader: Reader, pool: list[bytes], chance: random.Random) -> bytes:
    # The newest are damaged most: they came furthest.
    base = chance.choice(pool[-16:] if chance.random() < 0.5 else pool)
    return mutate(base, chance, reader.kind, reader.words, chance.choice(pool))


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


_input_since: float | None = None  # when the input began that is being read; None between inputs
_TICK = 0.5  # seconds; system calls for each input would cost more than reading it


@contextmanager
def _alarm() -> Iterator[None]:
    """Raise Hang in an input that takes more than `SECONDS`; arming it again within changes nothing."""

    def tick(number: int, frame: FrameType | None) -> None:
        if _input_since is not None and time.monotonic() - _input_since > SECONDS:
            raise Hang

    before = signal.getsignal(signal.SIGALRM)
    if getattr(before, "__name__", "") == tick.__name__:
        yield
        return
    signal.signal(signal.SIGALRM, tick)
    signal.setitimer(signal.ITIMER_REAL, min(_TICK, SECONDS), min(_TICK, SECONDS))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


_allowed: tuple[str, ...] | None = None  # folders that may be written while an input is read; None: no input is read
_violations: list[str] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _allowed is None:
        return
    if event in _FORBIDDEN:
        _violations.append(f"{event} {arguments[0]}")
    path = None
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & 0o1103:  # write, create, truncate
        path = arguments[0]
    elif event in _WRITES:
        path = arguments[_WRITES[event]]
    if isinstance(path, str | bytes | Path) and not _is_below_a_descriptor(event, arguments):
        name = path.decode(errors="replace") if isinstance(path, bytes) else str(path)
        if not f"{name}/".startswith(_allowed) and name != "/dev/null":
            _violations.append(f"{event} of {name[:60]}")


def _is_below_a_descriptor(event: str, arguments: tuple[Any, ...]) -> bool:
    """Such names are those that `shutil.rmtree` finds in a folder that it opened."""
    return event in ("os.remove", "os.rmdir") and arguments[-1] != -1


@contextmanager
def _watched(folders: tuple[Path, ...]) -> Iterator[list[str]]:
    """What is done meanwhile that no reader may do: Python's audit events, which cannot be switched off again."""
    global _allowed
    if not _hooked:
        sys.addaudithook(_hook)
        _hooked.append(True)
    _violations.clear()
    _allowed = tuple(f"{folder}/" for folder in folders) or ("\n",)
    try:
        yield _violations
    finally:
        _allowed = None


_hooked: list[bool] = []


@contextmanager
def _lines(known: set[Any] | None) -> Iterator[set[tuple[str, int]]]:
    """Lines of our packages reached meanwhile that are not among the `known`; with None nothing is traced."""
    new: set[tuple[str, int]] = set()
    if known is None:
        yield new
        return

    def line(frame: FrameType, event: str, argument: Any) -> Any:
        place = (frame.f_code.co_filename, frame.f_lineno)
        if place not in known:
            new.add(place)
        return line

    def call(frame: FrameType, event: str, argument: Any) -> Any:
        return line(frame, event, argument) if frame.f_code.co_filename.startswith(_OURS) else None

    before = sys.gettrace()
    threading.settrace(call)
    sys.settrace(call)
    try:
        yield new
    finally:
        sys.settrace(before)
        threading.settrace(before)  # type: ignore[arg-type]
