"""How far a prediction is: a bar on a terminal, a plain line every few seconds elsewhere, always on stderr."""

import sys
import time

from workbench.progress import Bar, Lines, Silent, clock


class Progress(Silent):
    """Tells nothing. Its subclasses tell; all are used in a `with` statement."""

    def start(self, done: int, total: int) -> None:
        """`done` of `total` images are in, from an earlier session."""
        self.done, self.total, self.before = done, total, done
        self.started = time.monotonic()

    def advance(self, images: int) -> None:
        """So many more images are in."""
        self.done += images

    @property
    def images_per_second(self) -> float:
        """Of this session."""
        return (self.done - self.before) / max(time.monotonic() - self.started, 1e-9)


class LineProgress(Lines, Progress):
    """A plain line when it starts, every ten seconds, and at the end: for log files."""

    def start(self, done: int, total: int) -> None:
        """A line if some images are in already."""
        super().start(done, total)
        self.begin_lines()
        if done:
            self.note(f"Resuming: {done} of {total} images are in.")

    def advance(self, images: int) -> None:
        """A line when one is due."""
        super().advance(images)
        if self.line_is_due(self.done == self.total):
            left = (self.total - self.done) / max(self.images_per_second, 1e-9)
            self.note(f"{self.done}/{self.total} images, {self.images_per_second:.2f} images/s, {clock(left)} left")


class BarProgress(Bar, Progress):
    """A bar with images/s and the time left, redrawn in place."""

    def __init__(self) -> None:
        super().__init__("Predicting", "images, {task.fields[speed]:.2f} images/s,", speed=0.0)

    def start(self, done: int, total: int) -> None:
        """Fill the bar up to what is in."""
        super().start(done, total)
        self.update(total=total, completed=done)

    def advance(self, images: int) -> None:
        """Move the bar."""
        super().advance(images)
        self.update(completed=self.done, speed=self.images_per_second)


def on_stderr() -> Progress:
    """The bar where stderr is a terminal, else the lines."""
    return BarProgress() if sys.stderr.isatty() else LineProgress()
