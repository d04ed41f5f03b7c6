"""How far a training is: a bar with loss parts and time left on a terminal, else a plain line now and then."""

import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

_SECONDS_BETWEEN_LINES = 10.0


class TrainingProgress:
    """Tells nothing. Its subclasses tell; all are used in a `with` statement."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return

    def begin(self, step: int, total: int, images_a_step: int) -> None:
        """`step` of `total` steps are done, in an earlier session."""
        self.step, self.total, self.first, self.images_a_step = step, total, step, images_a_step
        self.seconds, self._since = 0.0, time.monotonic()

    def advance(self, values: Mapping[str, float]) -> None:
        """One more step is done; `values` are those of `history.step_values`."""
        self.step += 1
        now = time.monotonic()
        self.seconds, self._since = self.seconds + now - self._since, now

    def pause(self) -> None:
        """What happened since the last step was not training: saving, validating."""
        self._since = time.monotonic()

    def note(self, text: str) -> None:
        """Something that the user should know."""

    @property
    def images_per_second(self) -> float:
        """Of this session's steps, without saving and validating."""
        return (self.step - self.first) * self.images_a_step / max(self.seconds, 1e-9)

    @property
    def seconds_left(self) -> float:
        """At this session's speed."""
        return (self.total - self.step) * self.images_a_step / max(self.images_per_second, 1e-9)


class LineProgress(TrainingProgress):
    """A plain line every ten seconds and at the end: for log files."""

    def begin(self, step: int, total: int, images_a_step: int) -> None:
        """A line if some steps are done already."""
        super().begin(step, total, images_a_step)
        self._last_line = time.monotonic()
        if step:
            self.note(f"Resuming at step {step} of {total}.")

    def advance(self, values: Mapping[str, float]) -> None:
        """A line when one is due."""
        super().advance(values)
        now = time.monotonic()
        if now - self._last_line >= _SECONDS_BETWEEN_LINES or self.step == self.total:
            self._last_line = now
            self.note(
                f"step {self.step}/{self.total}, {losses(values)}, {self.images_per_second:.2f} images/s, "
                f"{clock(self.seconds_left)} left"
            )

    def note(self, text: str) -> None:
        """A line of its own."""
        print(text, file=sys.stderr, flush=True)


class BarProgress(TrainingProgress):
    """A bar with the losses, images/s and the time left, redrawn in place."""

    def __init__(self) -> None:
        self._bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps, {task.fields[losses]}, {task.fields[speed]:.2f} images/s,"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=Console(stderr=True),
        )
        self._task = self._bar.add_task("Training", total=None, speed=0.0, losses="loss -")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()

    def begin(self, step: int, total: int, images_a_step: int) -> None:
        """Fill the bar up to what is done."""
        super().begin(step, total, images_a_step)
        self._bar.update(self._task, total=total, completed=step)

    def advance(self, values: Mapping[str, float]) -> None:
        """Move the bar."""
        super().advance(values)
        self._bar.update(self._task, advance=1, speed=self.images_per_second, losses=losses(values))

    def note(self, text: str) -> None:
        """A line above the bar."""
        self._bar.console.print(text, markup=False, highlight=False)


def on_stderr() -> TrainingProgress:
    """The bar where stderr is a terminal, else the lines."""
    return BarProgress() if sys.stderr.isatty() else LineProgress()


def losses(values: Mapping[str, float]) -> str:
    """The loss and its parts, as shown."""
    mask, dice, classes = (values[f"loss_{name}"] for name in ("mask", "dice", "cross_entropy"))
    return f"loss {values['loss']:.3f} (mask {mask:.3f}, dice {dice:.3f}, class {classes:.3f})"


def clock(seconds: float) -> str:
    """Hours, minutes and seconds."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
