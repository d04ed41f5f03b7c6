"""Work in a thread of its own, and what it tells of its progress as messages to the App."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from eomt.errors import EomtError
from workbench.errors import WorkbenchError
from workbench.voxel51.actions import Done
from workbench.voxel51.push import Progress

Work = Callable[[Progress], Done]
_SECONDS_BETWEEN_MESSAGES = 0.2


@dataclass(frozen=True)
class Step:
    """How far the work is."""

    what: str
    done: int
    total: int

    @property
    def share(self) -> float:
        """Of what is under way, in 0..1."""
        return self.done / max(self.total, 1)

    @property
    def label(self) -> str:
        """As the App shows it."""
        return f"{self.what}: {self.done:,} of {self.total:,}"


def steps(work: Work) -> Iterator[Step | Done]:
    """The steps of the work, at most a few a second, and at the end what it came to. Raises what it raises.

    The thread goes on where nobody listens any more, as when the browser is closed: what it writes should be whole.
    """
    told: queue.SimpleQueue[Step | Done | BaseException] = queue.SimpleQueue()
    last = float("-inf")

    def progress(what: str, done: int, total: int) -> None:
        nonlocal last
        if done == total or time.monotonic() - last >= _SECONDS_BETWEEN_MESSAGES:
            last = time.monotonic()
            told.put(Step(what, done, total))

    def run() -> None:
        try:
            told.put(work(progress))
        except BaseException as error:  # whatever it is, it is raised where the work was asked for
            told.put(error)

    threading.Thread(target=run, name="workbench", daemon=True).start()
    while True:
        found = told.get()
        if isinstance(found, BaseException):
            raise found
        yield found
        if isinstance(found, Done):
            return


def messages(ctx: Any, work: Work, refresh: Callable[[Any, Done], Iterator[Any]]) -> Iterator[Any]:
    """The work as an operator's generator: a progress bar, then the refreshed view and a notice of what it came to.

    An error is a notice in the App, and in a queued operation the operation's failure.
    """
    if ctx.delegated:
        for found in steps(work):
            if isinstance(found, Step):
                ctx.set_progress(found.share, found.label)
            else:
                ctx.set_progress(1.0, found.message)
        return
    yield ctx.ops.set_progress("Starting", 0.0)
    try:
        for found in steps(work):
            if isinstance(found, Step):
                yield ctx.ops.set_progress(found.label, found.share)
            else:
                yield from refresh(ctx, found)
                yield from _tell(ctx, " ".join([found.message, *(f"Note: {note}." for note in found.notes)]), "success")
    except Exception as error:
        yield from _tell(ctx, str(error) or type(error).__name__, "error")
        if not isinstance(error, WorkbenchError | EomtError):
            raise  # none that the user can mend: the server's log should have it whole


def _tell(ctx: Any, message: str, variant: str) -> Iterator[Any]:
    """At the end of the bar, and as a notice."""
    yield ctx.ops.set_progress(message, 1.0)
    yield ctx.ops.notify(message, variant)
