"""A worker on a Ray cluster: an actor of Ray Data, which makes blocks of encoded rows of blocks of batches."""

import os
import pickle
import socket
from concurrent.futures import Future
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Thread

import pyarrow as pa
import torch

import workbench
from workbench.errors import EngineError
from workbench.prediction.checkpoint import place_of, sha256_of, weight_files
from workbench.prediction.encoded import EncodedBatch
from workbench.prediction.engines.work import Report, Worker, WorkerSpec, portable_error
from workbench.prediction.interrupt import StopRequest
from workbench.prediction.pipeline import Batch

Result = tuple[EncodedBatch | Exception, Report | None]


@dataclass(frozen=True)
class RayWorkerSpec:
    """What the actor is made with."""

    spec: WorkerSpec
    device: str
    threads: int
    version: str = workbench.__version__


def block_of(batches: dict[int, Batch]) -> pa.Table:
    """Batches with their numbers, as a block for `RayWorker`."""
    return pa.table(
        {
            "number": pa.array(list(batches), pa.int64()),
            "images": pa.array([pickle.dumps(batch) for batch in batches.values()], pa.large_binary()),
        }
    )


def results_of(block: pa.Table) -> list[tuple[int, Result]]:
    """What a worker made of a block."""
    return [(row["number"], pickle.loads(row["result"])) for row in block.to_pylist()]


class RayWorker:
    """Keeps a model busy from a thread of its own: two calls at once let it read one block while it predicts another.

    Nothing but the end of its process is an exception to Ray: what cannot be predicted comes back as a result, so that
    the driver tells it when its turn comes.
    """

    def __init__(self, made_with: RayWorkerSpec) -> None:
        self._made_with = made_with
        self._name = f"{socket.gethostname()}, process {os.getpid()}"
        self._arriving: SimpleQueue[tuple[Batch, Future[Result]]] = SimpleQueue()
        self._taken: SimpleQueue[Future[Result]] = SimpleQueue()
        Thread(target=self._run, daemon=True).start()

    def __call__(self, block: pa.Table) -> pa.Table:
        """The block's batches as encoded rows."""
        futures: list[Future[Result]] = []
        for images in block["images"].to_pylist():
            futures.append(Future())
            self._arriving.put((pickle.loads(images), futures[-1]))
        results = [pickle.dumps(future.result()) for future in futures]
        return pa.table({"number": block["number"], "result": pa.array(results, pa.large_binary())})

    def _run(self) -> None:
        try:
            torch.set_num_threads(self._made_with.threads)
            self._check()
            Worker(self._name, self._made_with.spec, torch.device(self._made_with.device)).work(
                self._take, self._deliver, StopRequest()
            )
        except BaseException as error:  # whatever ends this thread, the calls are not to wait for ever
            result: Result = (self._told(error), None)
            while not self._taken.empty():
                self._taken.get().set_result(result)
            while True:
                self._arriving.get()[1].set_result(result)

    def _check(self) -> None:
        """Raise EngineError where this machine would make other rows than the driver's."""
        wanted, spec = self._made_with, self._made_with.spec
        if workbench.__version__ != wanted.version:
            raise EngineError(
                f"eomt-workbench {workbench.__version__} is installed here, {wanted.version} where the command runs. "
                "Install the same version on every node."
            )
        if sha256_of(weight_files(place_of(spec.model))) != spec.weights_sha256:
            raise EngineError(f"{spec.model} has other weights here than where the command runs. Copy them anew.")

    def _told(self, error: BaseException) -> Exception:
        told = portable_error(error)
        told.args = (f"{told} (on {self._name})",)
        return told

    def _take(self, wait: bool) -> Batch | None:
        try:
            batch, future = self._arriving.get(block=wait)
        except Empty:
            return None
        self._taken.put(future)
        return batch

    def _deliver(self, batch: EncodedBatch, report: Report) -> None:
        self._taken.get().set_result((batch, report))
