"""Ways to tell how far long work is, always on stderr: a bar on a terminal, a plain line every few seconds elsewhere.

What is counted, and what is said of it, is up to the classes that mix these in.
"""

import sys
import time
from types import TracebackType
from typing import Any, Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from workbench.consoles import PrintableConsole

_SECONDS_BETWEEN_LINES = 10.0


class Silent:
    """Tells nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return

    def note(self, text: str) -> None:
        """Something that the user should know."""


class Lines(Silent):
    """Plain lines, for log files."""

    _last = float("-inf")

    def note(self, text: str) -> None:
        """A line of its own."""
        print(text, file=sys.stderr, flush=True)

    def begin_lines(self) -> None:
        """From now on the time to the next line counts."""
        self._last = time.monotonic()

    def line_is_due(self, at_end: bool) -> bool:
        """Whether ten seconds have passed since the last time that this was so, or the work is done."""
        now = time.monotonic()
        if not at_end and now - self._last < _SECONDS_BETWEEN_LINES:
            return False
        self._last = now
        return True


class Bar(Silent):
    """A bar with the time left, redrawn in place; `wording` stands behind the count, with `{task.fields[NAME]}`."""

    def __init__(self, what: str, wording: str, **fields: Any) -> None:
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(wording),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=PrintableConsole(stderr=True),
        )
        self._task = self._bar.add_task(what, total=None, **fields)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()

    def update(self, **changes: Any) -> None:
        """Redraw with another `total`, `completed`, or any of the fields."""
        self._bar.update(self._task, **changes)

    def note(self, text: str) -> None:
        """A line above the bar."""
        self._bar.console.print(text, markup=False, highlight=False)


def clock(seconds: float) -> str:
    """Hours, minutes and seconds."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
