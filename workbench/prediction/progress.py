"""How far a prediction is: a bar on a terminal, a plain line every few seconds elsewhere, always on stderr."""

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

_SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Tells nothing. Its subclasses tell; all are used in a `with` statement."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return

    def start(self, done: int, total: int) -> None:
        """`done` of `total` images are in, from an earlier session."""
        self.done, self.total, self.before = done, total, done
        self.started = time.monotonic()

    def advance(self, images: int) -> None:
        """So many more images are in."""
        self.done += images

    def note(self, text: str) -> None:
        """Something that the user should know."""

    @property
    def images_per_second(self) -> float:
        """Of this session."""
        return (self.done - self.before) / max(time.monotonic() - self.started, 1e-9)


class LineProgress(Progress):
    """A plain line when it starts, every ten seconds, and at the end: for log files."""

    def start(self, done: int, total: int) -> None:
        """A line if some images are in already."""
        super().start(done, total)
        self._last_line = self.started
        if done:
            self.note(f"Resuming: {done} of {total} images are in.")

    def advance(self, images: int) -> None:
        """A line when one is due."""
        super().advance(images)
        now = time.monotonic()
        if now - self._last_line >= _SECONDS_BETWEEN_LINES or self.done == self.total:
            self._last_line = now
            left = (self.total - self.done) / max(self.images_per_second, 1e-9)
            self.note(f"{self.done}/{self.total} images, {self.images_per_second:.2f} images/s, {_clock(left)} left")

    def note(self, text: str) -> None:
        """A line of its own."""
        print(text, file=sys.stderr, flush=True)


class BarProgress(Progress):
    """A bar with images/s and the time left, redrawn in place."""

    def __init__(self) -> None:
        self._bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("images, {task.fields[speed]:.2f} images/s,"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=Console(stderr=True),
        )
        self._task = self._bar.add_task("Predicting", total=None, speed=0.0)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()

    def start(self, done: int, total: int) -> None:
        """Fill the bar up to what is in."""
        super().start(done, total)
        self._bar.update(self._task, total=total, completed=done)

    def advance(self, images: int) -> None:
        """Move the bar."""
        super().advance(images)
        self._bar.update(self._task, advance=images, speed=self.images_per_second)

    def note(self, text: str) -> None:
        """A line above the bar."""
        self._bar.console.print(text, markup=False, highlight=False)


def on_stderr() -> Progress:
    """The bar where stderr is a terminal, else the lines."""
    return BarProgress() if sys.stderr.isatty() else LineProgress()


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
