"""Predicting the bundled sample on this machine by several processes and by Ray, against one process.

Behind `workbench bench engines`. Each run is a process of its own, whose own work of the processor is what giving out
batches and committing rows costs; that of its workers is counted apart.
"""

import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from workbench.bench.measuring import Case, measure
from workbench.bench.reporting import Report, Section, finish, machine
from workbench.errors import WorkbenchError
from workbench.runs import Run
from workbench.segments import SEGMENT_SCHEMA

ENGINES: dict[str, dict[str, Any]] = {"processes": {"processes": 2}, "ray": {"engine": "ray", "num_workers": 2}}
PACKAGES = ("torch", "ray", "pyarrow", "numpy")
_DATASET = "scenes_val"
_TITLES = {"processes": "--processes 2", "ray": "--engine ray --num-workers 2"}
# Beside the rows: what this process, without its workers, took of the processor from the first batch to the last.
_PROGRAM = """
import json, sys, time
import workbench
from workbench.prediction.progress import Progress

class Clock(Progress):
    def start(self, done, total):
        super().start(done, total)
        self.seen = []

    def advance(self, images):
        super().advance(images)
        self.seen.append((self.done, time.process_time()))

clock = Clock()
workbench.predict(**json.loads(sys.argv[1]), progress=clock)
(first, begin), (last, end) = clock.seen[0], clock.seen[-1]
print(1000 * (end - begin) / max(last - first, 1))
"""


@dataclass
class Command:
    """Predicts in a process of its own, each time into another folder."""

    folder: Path
    name: str
    options: dict[str, Any]
    images: int
    driver_ms: list[float] = field(default_factory=list)
    """Of the processor, an image, of each run."""

    def run(self) -> str:
        """A digest of the rows. Raises WorkbenchError where the command fails."""
        out = self.folder / f"{self.name}-{len(self.driver_ms)}"
        given = {"dataset": _DATASET, "limit": self.images, "device": "cpu", "out": str(out), **self.options}
        done = subprocess.run([sys.executable, "-c", _PROGRAM, json.dumps(given)], capture_output=True, text=True)
        if done.returncode:
            raise WorkbenchError(f"predicting with {self.name} failed: {done.stderr.strip()}")
        self.driver_ms.append(float(done.stdout.split()[-1]))
        return digest(Run.open(out))


def digest(run: Run) -> str:
    """Of every column of its segments and images, in order."""
    tables = run.segments().select(SEGMENT_SCHEMA.names), run.images()
    return hashlib.sha256(repr([table.to_pylist() for table in tables]).encode()).hexdigest()


def benchmark(
    engines: tuple[str, ...], images: int, rounds: int, command: str, out: Path | None, tell: Callable[[str], None]
) -> None:
    """Compare rows, then measure and report."""
    with tempfile.TemporaryDirectory() as name:
        sections = [_section(Path(name), engine, images, rounds, tell) for engine in engines]
    about = machine(PACKAGES)
    finish(Report("Engines", _ABOUT.format(images=images), sections), about, command, "engines", out)


_ABOUT = (
    "Seconds by the clock of a whole process, with its start, its workers' and Ray's, that predicts {images} of the "
    "bundled images with the bundled model on a CPU. The peer is the local engine in one process. Each starts anew, so "
    "that with so few images starting is most of it: more images favour workers, where cores are free for them."
)


def _section(folder: Path, engine: str, images: int, rounds: int, tell: Callable[[str], None]) -> Section:
    ours = Command(folder, engine, ENGINES[engine], images)
    case = Case(
        f"predict {_TITLES[engine]}, {images} images",
        ours=ours.run,
        theirs=Command(folder, f"local-beside-{engine}", {}, images).run,
        peer="one process",
        agreement="every column of every row",
        items=images,
        peak=_unmeasured,
    )
    result = measure(case, rounds, tell)
    return Section(_TITLES[engine], [result], [driver_note(ours.driver_ms)])


def driver_note(milliseconds: Sequence[float]) -> str:
    """What an image costs the process that gives out batches."""
    low, middle, high = min(milliseconds), median(milliseconds), max(milliseconds)
    return (
        f"Of the processor an image costs the process that gives out batches and commits rows {middle:.2f} ms "
        f"({low:.2f} to {high:.2f}), from the first batch to the last, its waiting for workers included; the workers' "
        "own work and that of Ray's other processes are not."
    )


def _unmeasured(side: Callable[[], Any]) -> tuple[Any, int | None]:
    return side(), None
