"""A worker process of `predict --processes` that is killed at a moment of the test's choice.

The environment names the moment: DIES is "starting", "sending" or an image's id; the first DEATHS processes that come
to it die, each leaving a file in the folder MARKS.
"""

import os
import signal
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

MOMENT = os.environ["DIES"]


def die(before: Callable[[], object] = lambda: None) -> None:
    """End as the system ends a process where memory runs out, after `before`, unless enough have died."""
    for number in range(int(os.environ["DEATHS"])):
        try:
            (Path(os.environ["MARKS"]) / str(number)).touch(exist_ok=False)
        except FileExistsError:
            continue
        before()
        os.kill(os.getpid(), signal.SIGKILL)


def die_while_sending() -> None:
    """With the length and the beginning of a message sent."""
    send = process_worker._Conversation._send

    def half(self: Any, message: process_worker.Message) -> None:
        if message[1] is not None:
            die(lambda: os.write(self._connection.fileno(), struct.pack("!i", 1_000_000) + bytes(5000)))
        send(self, message)

    process_worker._Conversation._send = half  # type: ignore[method-assign]


def die_while_reading(image_id: str) -> None:
    """Whenever the image's turn comes."""
    from workbench.prediction.reading import reader

    def deadly(*given: Any) -> Any:
        read = reader(*given)

        def read_or_die(record: Any) -> Any:
            if record.image_id == image_id:
                die()
            return read(record)

        return read_or_die

    vars(work)["reader"] = deadly


if __name__ == "__main__":
    if MOMENT == "starting":
        die()  # before torch is imported, which takes seconds
    from workbench.prediction.engines import process_worker, work

    if MOMENT == "sending":
        die_while_sending()
    elif MOMENT != "starting":
        die_while_reading(MOMENT)
    process_worker.main(int(sys.argv[1]))
