"""How far a training is: a bar with loss parts and time left on a terminal, else a plain line now and then."""

import sys
import time
from collections.abc import Mapping

from workbench.progress import Bar, Lines, Silent, clock


class TrainingProgress(Silent):
    """Tells nothing. Its subclasses tell; all are used in a `with` statement."""

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

    @property
    def images_per_second(self) -> float:
        """Of this session's steps, without saving and validating."""
        return (self.step - self.first) * self.images_a_step / max(self.seconds, 1e-9)

    @property
    def seconds_left(self) -> float:
        """At this session's speed."""
        return (self.total - self.step) * self.images_a_step / max(self.images_per_second, 1e-9)


class LineProgress(Lines, TrainingProgress):
    """A plain line every ten seconds and at the end: for log files."""

    def begin(self, step: int, total: int, images_a_step: int) -> None:
        """A line if some steps are done already."""
        super().begin(step, total, images_a_step)
        self.begin_lines()
        if step:
            self.note(f"Resuming at step {step} of {total}.")

    def advance(self, values: Mapping[str, float]) -> None:
        """A line when one is due."""
        super().advance(values)
        if self.line_is_due(self.step == self.total):
            self.note(
                f"step {self.step}/{self.total}, {losses(values)}, {self.images_per_second:.2f} images/s, "
                f"{clock(self.seconds_left)} left"
            )


class BarProgress(Bar, TrainingProgress):
    """A bar with the losses, images/s and the time left, redrawn in place."""

    def __init__(self) -> None:
        wording = "steps, {task.fields[losses]}, {task.fields[speed]:.2f} images/s,"
        super().__init__("Training", wording, speed=0.0, losses="loss -")

    def begin(self, step: int, total: int, images_a_step: int) -> None:
        """Fill the bar up to what is done."""
        super().begin(step, total, images_a_step)
        self.update(total=total, completed=step)

    def advance(self, values: Mapping[str, float]) -> None:
        """Move the bar."""
        super().advance(values)
        self.update(completed=self.step, speed=self.images_per_second, losses=losses(values))


def on_stderr() -> TrainingProgress:
    """The bar where stderr is a terminal, else the lines."""
    return BarProgress() if sys.stderr.isatty() else LineProgress()


def losses(values: Mapping[str, float]) -> str:
    """The loss and its parts, as shown."""
    mask, dice, classes = (values[f"loss_{name}"] for name in ("mask", "dice", "cross_entropy"))
    return f"loss {values['loss']:.3f} (mask {mask:.3f}, dice {dice:.3f}, class {classes:.3f})"
