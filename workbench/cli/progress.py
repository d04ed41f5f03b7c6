"""Progress on stderr: a bar where that is a terminal, else a plain line now and then."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

Show = Callable[[str, int, int | None], None]
"""Called with (what is being done, how far, of how much; None where that is not known)."""

_SECONDS_BETWEEN_LINES = 10.0


@contextmanager
def progress(enabled: bool = True) -> Iterator[Show]:
    """Shows what the yielded function is told."""
    if enabled and sys.stderr.isatty():
        with _bar() as show:
            yield show
    else:
        yield _Lines().show if enabled else _silent


class _Lines:
    """A line when something begins to be shown, at most every few seconds, and when it is done."""

    def __init__(self) -> None:
        self._last = dict[str, float]()

    def show(self, what: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        if done == total or now - self._last.get(what, 0.0) > _SECONDS_BETWEEN_LINES:
            self._last[what] = now
            click.echo(f"{what}: {done:,}" + (f" of {total:,}" if total is not None else ""), err=True)


@contextmanager
def _bar() -> Iterator[Show]:
    from rich.progress import Progress as Bar

    from workbench.consoles import PrintableConsole

    with Bar(console=PrintableConsole(stderr=True), transient=True) as bar:
        tasks: dict[str, Any] = {}

        def show(what: str, done: int, total: int | None) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done, total=total)

        yield show


def _silent(what: str, done: int, total: int | None) -> None:
    return
