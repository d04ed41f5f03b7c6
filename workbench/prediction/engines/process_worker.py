"""The program of a worker process: python -m workbench.prediction.engines.process_worker FILE_DESCRIPTOR.

The descriptor is its end of a pipe. It is sent a `Start`, then batches as (number, images); it says when its model is
loaded, then answers with (number, rows or an error, its report). It ends with the pipe, which is also how it notices
that the other side is no more.
"""

import signal
import sys
from collections import deque
from dataclasses import dataclass
from multiprocessing.connection import Connection
from threading import Lock

import torch

from workbench.prediction.encoded import EncodedBatch
from workbench.prediction.engines.work import Report, Worker, WorkerSpec, portable_error
from workbench.prediction.interrupt import StopRequest
from workbench.prediction.pipeline import Batch

Message = tuple[int, EncodedBatch | Exception | None, Report | None]
"""Of a worker: a batch's number and rows, or the first number that it cannot do and why; `LOADED` before all others."""
LOADED: Message = (-1, None, None)


@dataclass(frozen=True)
class Start:
    """The first thing that a worker is sent."""

    name: str
    spec: WorkerSpec
    device: str
    threads: int
    """Of the model and all else that computes, on a CPU."""


def main(descriptor: int) -> None:
    """Work until the pipe is closed, or until SIGTERM: then the batch that the model has is finished and sent.

    Before the model is loaded SIGTERM just ends it.
    """
    stop = StopRequest()
    signal.signal(signal.SIGTERM, lambda number, frame: setattr(stop, "requested", True))
    answers = Connection(descriptor)
    try:
        start: Start = answers.recv()
        torch.set_num_threads(start.threads)
        _Conversation(answers).work(start, stop)
    except (EOFError, ConnectionError):
        pass  # nobody is there to be told


class _Conversation:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._numbers: deque[int] = deque()
        """Of the batches that were taken and not answered."""
        self._lock = Lock()

    def work(self, start: Start, stop: StopRequest) -> None:
        try:
            worker = Worker(start.name, start.spec, torch.device(start.device))
            if stop.requested:
                return
            self._send(LOADED)
            worker.work(self._take, self._deliver, stop)
        except (EOFError, ConnectionError):
            raise
        except Exception as error:
            first = self._numbers[0] if self._numbers else -1
            self._send((first, portable_error(error), None))

    def _take(self, wait: bool) -> Batch | None:
        if not wait and not self._connection.poll():
            return None
        try:
            message: tuple[int, Batch] = self._connection.recv()
        except (EOFError, ConnectionError):
            return None  # what is being read is finished; sending it will fail
        number, batch = message
        self._numbers.append(number)
        return batch

    def _deliver(self, batch: EncodedBatch, report: Report) -> None:
        self._send((self._numbers[0], batch, report))
        self._numbers.popleft()

    def _send(self, message: Message) -> None:
        with self._lock:
            self._connection.send(message)


if __name__ == "__main__":
    main(int(sys.argv[1]))
