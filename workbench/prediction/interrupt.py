"""Ctrl-C and SIGTERM as a request to stop at the next batch, so that everything complete is kept."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_STDERR = 2


class Interrupted(KeyboardInterrupt):
    """The user asked to stop; the message says what is kept and how to go on."""


class StopRequest:
    """Whether a stop was asked for."""

    def __init__(self) -> None:
        self.requested = False


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Within it the first SIGINT or SIGTERM sets `requested` and says so; a second one raises KeyboardInterrupt.

    Signals keep their usual meaning outside the main thread, where Python allows no handlers; those that a shell has
    told the process to ignore, as it does with SIGINT in a background job, stay ignored.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def handle(signum: int, frame: FrameType | None) -> None:
        if request.requested:
            raise KeyboardInterrupt
        request.requested = True
        # Not print: the signal may have come in the middle of one, and its buffer cannot be entered twice.
        os.write(_STDERR, b"\nStopping after this batch. Once more stops at once.\n")

    wanted = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in wanted}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
