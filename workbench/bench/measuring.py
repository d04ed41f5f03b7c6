"""One way to measure ourselves against a peer: same inputs, same run, outputs compared first, rounds in turn.

    cases = [Case("PQ of 200 images", ours, theirs, peer="panopticapi, one core", agree=same_pq, goals=[times(40)])]
    results = [measure(case, rounds=5, tell=tell) for case in cases]
    report = Report(title="Evaluation", about="What the inputs are, in a sentence or two.", sections=[
        Section("PQ and confusion", results, notes=["what the reader must know"]),
    ])
    finish(report, machine(packages=("numpy", "numba"), threads=1), command, name="evaluate", out=out)

`ours` and `theirs` take nothing and return what `agree(ours, theirs)` compares; it raises `Disagreement` (commands exit
with 1) before anything is timed. Both then run in turn, the first of each round changing, and the medians are compared.
`theirs=None` measures us alone, for goals in seconds. Report, machine and files are in `reporting.py`.
"""

import gc
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np

from workbench.errors import WorkbenchError

Clock = Literal["wall", "cpu"]
"""Time that passed, or the processor's work of this process, which other programs do not disturb: for one thread."""

_CLOCKS: dict[Clock, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"


class Disagreement(WorkbenchError):
    """We and the peer gave different results, so their times cannot be compared."""


@dataclass(frozen=True)
class Timings:
    """One side of a measurement."""

    seconds: tuple[float, ...]
    """Of each round."""
    peak_bytes: int | None
    """At most resident beyond what was resident before, in the first run; None where the system does not tell.
    Memory that earlier work left to the allocator is taken again without being counted."""

    @property
    def median(self) -> float:
        """Seconds."""
        return median(self.seconds)


@dataclass(frozen=True)
class Goal:
    """A number to be reached; see `times`, `within`, `share_of_memory` and `per_second`."""

    text: str
    reached: Callable[["Result"], bool | None]
    """None where it was not measured."""


@dataclass(frozen=True)
class Case:
    """One thing done by us and by a peer on the same inputs."""

    title: str
    ours: Callable[[], Any]
    theirs: Callable[[], Any] | None = None
    peer: str = ""
    """Who `theirs` is, and how it is called."""
    agree: Callable[[Any, Any], None] | None = None
    """Raises Disagreement unless both results are the same. Without it `same` compares them."""
    agreement: str = "equal"
    """What was found to agree, and how far: "equal bit for bit", "scores to 1e-6"."""
    goals: Sequence[Goal] = ()
    items: int = 1
    """How many images (or whatever `per_second` counts) one run handles."""
    clock: Clock = "wall"
    synchronise: Callable[[], None] = lambda: None
    """Called before each reading of the clock: waits for a GPU."""
    peak: Callable[[Callable[[], Any]], tuple[Any, int | None]] | None = None
    """Another way to run a side and tell its peak bytes, for a GPU; without it the process's resident memory."""


@dataclass(frozen=True)
class Result:
    """A case's timings; `theirs` is None where there is no peer."""

    case: Case
    ours: Timings
    theirs: Timings | None

    @property
    def ratio(self) -> float | None:
        """How many times as fast as the peer we are, by the medians; below 1 we lose."""
        return None if self.theirs is None else self.theirs.median / self.ours.median

    @property
    def memory_share(self) -> float | None:
        """Our peak memory as a share of the peer's; None where one of them is not known."""
        if self.theirs is None or self.ours.peak_bytes is None or not self.theirs.peak_bytes:
            return None
        return self.ours.peak_bytes / self.theirs.peak_bytes

    @property
    def missed(self) -> tuple[Goal, ...]:
        """The goals that were measured and not reached."""
        return tuple(goal for goal in self.case.goals if goal.reached(self) is False)


def times(ratio: float) -> Goal:
    """At least that many times as fast as the peer."""
    return Goal(f"at least {ratio:g}x", lambda result: None if result.ratio is None else result.ratio >= ratio)


def within(seconds: float) -> Goal:
    """At most that many seconds, by the median."""
    return Goal(f"at most {seconds:g} s", lambda result: result.ours.median <= seconds)


def share_of_memory(share: float) -> Goal:
    """At most that share of the peer's peak memory."""

    def reached(result: Result) -> bool | None:
        return None if result.memory_share is None else result.memory_share <= share

    return Goal(f"at most {share:g} of its memory", reached)


def per_second(rate: float, what: str = "images") -> Goal:
    """At least that many of the case's items a second."""
    return Goal(f"at least {rate:g} {what}/s", lambda result: result.case.items / result.ours.median >= rate)


def measure(case: Case, rounds: int, tell: Callable[[str], None] = lambda text: None) -> Result:
    """Run both sides once and compare what they give, then `rounds` times in turn. `tell` gets a line of progress.

    Raises Disagreement where they give different results.
    """
    sides = [case.ours] if case.theirs is None else [case.ours, case.theirs]
    outputs, peaks = zip(*((case.peak or with_peak)(side) for side in sides), strict=True)
    if case.theirs is not None:
        (case.agree or same)(*outputs)
    del outputs
    seconds: list[list[float]] = [[] for _ in sides]
    for number in range(rounds):
        order = range(len(sides)) if number % 2 == 0 else reversed(range(len(sides)))
        for which in order:
            seconds[which].append(_timed(case, sides[which]))
    timings = [Timings(tuple(each), peak) for each, peak in zip(seconds, peaks, strict=True)]
    result = Result(case, timings[0], timings[1] if len(timings) > 1 else None)
    ratio = "" if result.ratio is None else f", {result.ratio:.2f} times as fast as {case.peer}"
    tell(f"{case.title}: {result.ours.median:.4g} s{ratio}")
    return result


def same(ours: Any, theirs: Any, where: str = "results") -> None:
    """Raise Disagreement unless two results (numbers, strings, arrays, or containers of them) are equal bit for bit."""
    if isinstance(ours, dict) and isinstance(theirs, dict) and ours.keys() == theirs.keys():
        for key in ours:
            same(ours[key], theirs[key], f"{where}[{key!r}]")
    elif isinstance(ours, list | tuple) and isinstance(theirs, list | tuple) and len(ours) == len(theirs):
        for place, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
            same(mine, other, f"{where}[{place}]")
    elif isinstance(ours, np.ndarray) or isinstance(theirs, np.ndarray):
        if not np.array_equal(ours, theirs, equal_nan=np.asarray(ours).dtype.kind == "f"):
            raise Disagreement(f"{where} differ: {_short(ours)} by us, {_short(theirs)} by the peer.")
    elif ours != theirs:
        raise Disagreement(f"{where} differ: {_short(ours)} by us, {_short(theirs)} by the peer.")


def _short(value: Any) -> str:
    text = re.sub(r"\s+", " ", repr(value))
    return text if len(text) <= 120 else f"{text[:117]}..."


def _timed(case: Case, side: Callable[[], Any]) -> float:
    clock = _CLOCKS[case.clock]
    gc.collect()
    case.synchronise()
    begin = clock()
    side()
    case.synchronise()
    return clock() - begin


def with_peak(side: Callable[[], Any]) -> tuple[Any, int | None]:
    """What it returns, and the most bytes resident meanwhile beyond those before (Linux; elsewhere None)."""
    gc.collect()
    before = _resident("VmRSS")
    try:
        _CLEAR.write_text(_RESET_PEAK)
    except OSError:
        before = None
    result = side()
    peak = _resident("VmHWM")
    return result, None if before is None or peak is None else max(peak - before, 0)


def _resident(name: str) -> int | None:
    if not _STATUS.exists():
        return None
    found = re.search(rf"^{name}:\s+(\d+) kB", _STATUS.read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else None
