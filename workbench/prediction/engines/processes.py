"""The engine of several processes on one machine: one a GPU, or some on a CPU with its cores divided among them.

Batches go to the workers over pipes; what comes back is encoded rows, committed here in order. A worker that dies is
replaced, and what it held is predicted again.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from workbench.errors import EngineError
from workbench.prediction.encoded import EncodedBatch
from workbench.prediction.engines import process_worker
from workbench.prediction.engines.process_worker import Message, Start
from workbench.prediction.engines.reports import Reports
from workbench.prediction.engines.schedule import MOST_DEATHS, InOrder, Schedule
from workbench.prediction.engines.work import WorkerSpec
from workbench.prediction.interrupt import StopRequest
from workbench.prediction.model import Note
from workbench.prediction.pipeline import Batch, Sink
from workbench.prediction.profiling import Profile

_BATCHES_HELD = 4  # by a worker: one in the model, one being encoded, two being read
_WINDOW = 8  # batches of each worker, beyond which the others wait for one that is slow
_SECONDS_TO_END = 5.0
_LISTED = 4


class ProcessEngine:
    """One worker process for each of `devices`, where one may stand several times."""

    name = "processes"

    def __init__(self, devices: Sequence[torch.device], threads: int, readers: int) -> None:
        self.device, self.num_workers, self.readers = devices[0], len(devices), readers
        self.devices: Sequence[str] = tuple(dict.fromkeys(str(device) for device in devices))
        self.where = f"{', '.join(self.devices)} in {self.num_workers} processes"
        self._devices, self._threads = devices, threads

    @contextmanager
    def started(self, spec: WorkerSpec, note: Note, profile: Profile) -> Iterator["_Pool"]:
        """With the processes started; they load their models side by side."""
        pool = _Pool(spec, self._threads, note, profile)
        try:
            pool.start([str(device) for device in self._devices])
            yield pool
        finally:
            pool.close()


class _Process:
    """A worker process and what it holds."""

    def __init__(self, name: str, device: str, spec: WorkerSpec, threads: int) -> None:
        self.device = device
        self.held: dict[int, Batch] = {}
        self.ready = False
        """Whether its model is loaded."""
        self.failed = False
        """Whether it has told an error, and ends."""
        self.connection, theirs = Pipe()
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path or "." for path in sys.path),
            "OMP_NUM_THREADS": str(threads),
        }
        # Not multiprocessing's spawn: it runs the caller's own script again, which then needs a guard against that.
        # A process group of its own keeps the terminal's Ctrl-C from it: the driver says when to stop.
        self.process = subprocess.Popen(
            [sys.executable, "-m", process_worker.__name__, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env=environment,
            stdin=subprocess.DEVNULL,
            process_group=0,
        )
        theirs.close()
        self._tell(Start(name, spec, device, threads))

    def give(self, number: int, batch: Batch) -> None:
        """Send it a batch."""
        self.held[number] = batch
        self._tell((number, batch))

    def _tell(self, message: Any) -> None:
        with suppress(ConnectionError):  # where it has died, its end of the pipe will tell
            self.connection.send(message)

    def ended(self) -> str:
        """How it ended, for people; afterwards it has."""
        try:
            code = self.process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return "it closed its pipe"
        if code == -signal.SIGKILL:
            return "killed by SIGKILL, as the system does where memory runs out"
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


class _Pool:
    """The processes of one session."""

    def __init__(self, spec: WorkerSpec, threads: int, note: Note, profile: Profile) -> None:
        self._spec, self._threads, self._note, self._own_profile = spec, threads, note, profile
        self._reports = Reports(spec.batch_size, note, profile)
        self._started = self._deaths_at_start = 0
        self._processes: list[_Process] = []

    def start(self, devices: Sequence[str]) -> None:
        """Start a process on each. Those that were started before an error are ended by `close`."""
        for device in devices:
            self._start(device)

    @property
    def batch_size(self) -> int:
        return self._reports.batch_size

    def profile(self, images: int) -> dict[str, Any] | None:
        return self._reports.profile(images)

    def run(self, batches: Sequence[Batch], sink: Sink, stop: StopRequest) -> None:
        self._own_profile.start()
        count = len(self._processes)
        self._schedule = Schedule(len(batches), _WINDOW * count)
        in_order: InOrder[EncodedBatch | Exception] = InOrder(lambda result: _hand_on(result, sink))
        told_to_stop = False
        try:
            while in_order.delivered < len(batches):
                if stop.requested and not told_to_stop:
                    told_to_stop = True
                    self._end_processes()
                if not told_to_stop:
                    self._give_out(batches, in_order.delivered)
                elif not any(process.held for process in self._processes):
                    break
                self._receive(in_order, told_to_stop)
        finally:
            sink.commit()

    def close(self) -> None:
        """End the processes; what they still hold is dropped."""
        for process in self._processes:
            process.connection.close()
            process.process.kill()
        for process in self._processes:
            process.process.wait()

    def _start(self, device: str) -> None:
        self._started += 1
        self._processes.append(_Process(f"process {self._started}", device, self._spec, self._threads))

    def _give_out(self, batches: Sequence[Batch], delivered: int) -> None:
        for process in self._processes:
            while (number := self._schedule.next_for(process.held, delivered, _BATCHES_HELD)) is not None:
                process.give(number, batches[number])

    def _receive(self, in_order: "InOrder[EncodedBatch | Exception]", told_to_stop: bool) -> None:
        """Take what has come, or wait a little for something."""
        of_connection = {process.connection: process for process in self._processes}
        for ready in wait(list(of_connection), timeout=0.5):
            assert isinstance(ready, Connection)
            process = of_connection[ready]
            try:
                message: Message = ready.recv()
            except (EOFError, OSError):  # the latter in the middle of a message
                how = process.ended()
                ready.close()
                self._processes.remove(process)
                if not told_to_stop:
                    self._replace(process, how, in_order)
                continue
            self._take(process, message, in_order)

    def _take(self, process: _Process, message: Message, in_order: "InOrder[EncodedBatch | Exception]") -> None:
        number, result, report = message
        if result is None:
            process.ready, self._deaths_at_start = True, 0
            return
        if isinstance(result, Exception):
            if number < 0:
                raise result  # it could not even begin
            # Its later batches will not be asked for any more; earlier ones of others may still need a worker.
            self._schedule.end_before(number)
            process.held.clear()
            process.failed = True
        else:
            process.held.pop(number)
            self._schedule.done(number)
        if report is not None:
            self._reports.add(report)
        in_order.add(number, result)

    def _replace(self, dead: _Process, how: str, in_order: "InOrder[EncodedBatch | Exception]") -> None:
        """Start another process for a dead one, or go on without where that has not helped before.

        Raises EngineError where none is left, and where a batch has ended too many of them.
        """
        if dead.ready:
            self._blame(dead, how, in_order)
            self._start(dead.device)
            return
        self._schedule.returned(dead.held)
        self._deaths_at_start += 1
        self._note(f"A worker process on {dead.device} died while it started ({how}).")
        if self._deaths_at_start < MOST_DEATHS:
            self._start(dead.device)
        elif self._processes:
            self._note(f"Going on with {len(self._processes)} of the processes, as the others die while they start.")
        else:
            raise EngineError(
                f"worker processes on {dead.device} die while they start ({how}). With fewer --processes each has more "
                "memory; without them the reason may be told."
            )

    def _blame(self, dead: _Process, how: str, in_order: "InOrder[EncodedBatch | Exception]") -> None:
        """Tell of a death. Where too many have died of one batch, an EngineError is what becomes of it in its turn."""
        if dead.failed:
            return  # as was to be expected
        numbers = sorted(dead.held)
        culprit = self._schedule.lost(numbers)
        if culprit is not None:
            self._schedule.returned([number for number in numbers if number != culprit])
            self._schedule.end_before(culprit)
            error = EngineError(
                f"{MOST_DEATHS} worker processes died while they predicted {names(dead.held[culprit])}; the last one "
                f"was {how}. Leave these images out (--images), or take a smaller --batch-size or fewer --processes; "
                "everything before them is kept."
            )
            in_order.add(culprit, error)
            return
        doing = f"while it predicted {names([r for n in numbers for r in dead.held[n]])}" if numbers else "while idle"
        self._note(f"A worker process on {dead.device} died {doing} ({how}). Another one goes on.")

    def _end_processes(self) -> None:
        """Let each finish the batch that its model has."""
        for process in self._processes:
            process.process.terminate()


def _hand_on(result: EncodedBatch | Exception, sink: Sink) -> None:
    if isinstance(result, Exception):
        raise result
    sink.add(result)


def names(records: Batch) -> str:
    """The images' ids, or the first few of them."""
    more = "" if len(records) <= _LISTED else f" and {len(records) - _LISTED} more"
    return (
        "image " * (len(records) == 1)
        + "images " * (len(records) != 1)
        + ", ".join(record.image_id for record in records[:_LISTED])
        + more
    )
