"""A progress that looks on: memory, file handles and threads of the process, and whether what is shown is true."""

import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from workbench.prediction.progress import LineProgress
from workbench.store import SegmentStore

_LINE = re.compile(r"(?P<done>\d+)/(?P<total>\d+) images, [\d.]+ images/s, (?P<left>[\d:]+) left")


@dataclass(frozen=True)
class Sample:
    """The process at one moment, and what the user was told then."""

    done: int
    """Images, as shown."""
    total: int
    committed: int
    """Images on disk."""
    memory: float
    """Resident MB."""
    handles: int
    """Open file descriptors."""
    threads: int
    seconds: float
    """Since the session's start."""
    told_left: float
    """Seconds to the end, as shown."""


class Watch(LineProgress):
    """The lines of log files, one each `every` images instead of each ten seconds; kept with what was true then."""

    def __init__(self, folder: Path, every: int) -> None:
        self.folder, self.every = folder, every
        self.samples: list[Sample] = []
        self.notes: list[str] = []
        self.shown: list[int] = []
        """The count after each batch, from the first: what a bar would show."""

    def start(self, done: int, total: int) -> None:
        """The count begins at what an earlier session left."""
        super().start(done, total)
        self.shown.append(done)

    def advance(self, images: int) -> None:
        """Note what is shown."""
        super().advance(images)
        self.shown.append(self.done)

    def line_is_due(self, at_end: bool) -> bool:
        """After each `every` images, and at the end."""
        before = self.shown[-1]
        return at_end or before // self.every < self.done // self.every

    def note(self, text: str) -> None:
        """Keep the line, and look at the process where it tells a count."""
        self.notes.append(text)
        if line := _LINE.fullmatch(text):
            self.samples.append(self._sample(int(line["done"]), int(line["total"]), _seconds(line["left"])))

    def _sample(self, done: int, total: int, told_left: float) -> Sample:
        return Sample(
            done,
            total,
            SegmentStore(self.folder).count_images(),
            resident_mb(),
            open_handles(),
            threading.active_count(),
            time.monotonic() - self.started,
            told_left,
        )


def resident_mb() -> float:
    """Of this process, now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1024**2


def open_handles() -> int:
    """Of this process, now."""
    return len(list(Path("/proc/self/fd").iterdir()))


def growth_mb(samples: Sequence[Sample]) -> float:
    """How far memory rose above that of the first sample of a fifth of the images or more: before, caches fill."""
    settled = [sample.memory for sample in samples if sample.done >= sample.total / 5]
    return max(settled) - settled[0]


def wrong_counts(watch: Watch, images_per_shard: int, batch_size: int) -> list[str]:
    """What was told wrongly of images, in words; none where progress is truthful.

    The count rises by whole batches to exactly the total, and is at no moment more than what is committed and the shard
    that waits.
    """
    found = []
    if watch.shown != sorted(watch.shown) or watch.shown[-1] != watch.total:
        found.append(f"the count goes {watch.shown[:3]} ... {watch.shown[-3:]} of {watch.total}")
    return found + [
        f"{sample.done} are shown, {sample.committed} are on disk"
        for sample in watch.samples
        if not 0 <= sample.done - sample.committed < images_per_shard + batch_size
    ]


def wrong_times(samples: Sequence[Sample]) -> list[str]:
    """Where the time left was no estimate: not within 0.4 and 2.5 times what it took, and off by more than 5 s.

    The first fifth of the images may be: numba compiles then. Other programs' load comes and goes, hence the width.
    """
    found = []
    for sample in samples:
        left = samples[-1].seconds - sample.seconds
        near = 0.4 * left <= sample.told_left <= 2.5 * left or abs(sample.told_left - left) <= 5
        if sample.done >= sample.total / 5 and not near:
            found.append(f"at {sample.done} images {sample.told_left:.0f} s were said to be left, it took {left:.0f} s")
    return found


def _seconds(clock: str) -> float:
    seconds = 0.0
    for part in clock.split(":"):
        seconds = seconds * 60 + int(part)
    return seconds
