"""From the command to the first image's rows on disk: `workbench predict --limit 1` of the bundled sample and model.

Behind `workbench bench start-up`. Each run is a process of its own. The first use on a machine compiles kernels, which
a new folder for them imitates.
"""

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from workbench.bench.measuring import Case, Goal, measure, within
from workbench.bench.reporting import Report, Section, finish, machine
from workbench.errors import WorkbenchError
from workbench.store import SegmentStore

GOAL_SECONDS = 3.0
PACKAGES = ("torch", "numba", "numpy", "pyarrow", "pandas", "click")
_COMMAND = (sys.executable, "-m", "workbench", "predict", "--dataset", "scenes_val", "--limit", "1", "--device", "cpu")


class Start:
    """Runs the command; `processor_seconds` holds what each run but the first cost, of all threads."""

    def __init__(self, folder: Path, cold: bool) -> None:
        self._folder, self._cold, self._runs = folder, cold, 0
        self.processor_seconds: list[float] = []

    def run(self) -> int:
        """How many segments it wrote. Raises WorkbenchError where the command fails."""
        self._runs += 1
        out = self._folder / f"run-{self._runs}-{self._cold}"
        environment = dict(os.environ)
        if self._cold:
            environment["NUMBA_CACHE_DIR"] = str(self._folder / f"kernels-{self._runs}")
        before = _of_children()
        done = subprocess.run([*_COMMAND, "--out", str(out)], env=environment, capture_output=True, text=True)
        if done.returncode:
            raise WorkbenchError(f"the command failed: {done.stderr.strip()}")
        if self._runs > 1:
            self.processor_seconds.append(_of_children() - before)
        return SegmentStore(out).count_segments()


def benchmark(rounds: int, command: str, out: Path | None, tell: Callable[[str], None]) -> None:
    """Measure and report, warm and cold."""
    with tempfile.TemporaryDirectory() as name:
        sections = [
            _section("Kernels on disk", Start(Path(name), cold=False), rounds, [within(GOAL_SECONDS)], tell),
            _section("First use on a machine: kernels are compiled", Start(Path(name), cold=True), rounds, [], tell),
        ]
    finish(Report("Start-up", _ABOUT, sections), machine(PACKAGES), command, "start-up", out)


_ABOUT = (
    "Seconds by the clock of a whole process, from its start to its end: it predicts the first of the bundled images "
    "with the bundled model on a CPU and writes its rows."
)


def _section(title: str, start: Start, rounds: int, goals: Sequence[Goal], tell: Callable[[str], None]) -> Section:
    case = Case("workbench predict, 1 image", ours=start.run, goals=goals, peak=_unmeasured)
    result = measure(case, rounds, tell)
    spent = start.processor_seconds
    note = (
        f"Of the processor: {median(spent):.2f} s ({min(spent):.2f} to {max(spent):.2f}), which other programs "
        "lengthen less than the time by the clock: what is above it was waiting for a core or for the disk."
    )
    return Section(title, [result], [note])


def _unmeasured(side: Callable[[], Any]) -> tuple[Any, int | None]:
    return side(), None


def _of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
