"""The engine of a Ray cluster: Ray Data streams blocks of batches through actors, one a GPU, in order.

Images are read where they are predicted; encoded rows come back and are committed here. Ray restarts actors that die
and repeats what they had; where that does not help, or where the cluster has lost or won room for workers, the stream
is begun again behind the last batch that came back.
"""

import importlib
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any

import click
import torch

from workbench.errors import EngineError, OptionError
from workbench.prediction.engines.processes import names
from workbench.prediction.engines.ray_silence import compiled_part_silent, silent, stderr_to_nothing
from workbench.prediction.engines.ray_watch import Ended, Watch, callback_class
from workbench.prediction.engines.ray_worker import RayWorker, RayWorkerSpec, Result, block_of, results_of
from workbench.prediction.engines.reports import Reports
from workbench.prediction.engines.shares import fitting, largest_share
from workbench.prediction.engines.work import WorkerSpec
from workbench.prediction.interrupt import StopRequest
from workbench.prediction.model import Note
from workbench.prediction.pipeline import Batch, Sink
from workbench.prediction.profiling import Profile
from workbench.ray_cluster import connect

IMAGES_PER_BLOCK = 64
"""At most: what a dead worker's task is repeated for, and what a worker is sent at once."""
MOST_BLOCKS = 20_000
RETRIES = 3
"""Of a block whose actor died, by Ray."""
MOST_FAILURES = 3
"""Streams that may fail one after another without a batch that came back."""
_BLOCKS_HELD = 2  # by a worker: it reads one while it predicts another
_FRACTION_OF_BLOCKS = 4  # at least so many blocks a worker, so that all end at about the same time


@dataclass(frozen=True)
class _Workers:
    """So many actors, and what each of them gets."""

    count: int
    resource: str
    """"GPU" or "CPU"."""
    share: float
    threads: int


class RayEngine:
    """Predicts on the cluster that `ray` is connected to."""

    name = "ray"

    def __init__(self, ray: ModuleType, num_workers: int | None, device: str, readers: int | None) -> None:
        self._ray = ray
        on_gpus = device == "cuda" or (device == "auto" and ray.cluster_resources().get("GPU", 0) > 0)
        self.device = torch.device("cuda" if on_gpus else "cpu")
        self.workers = self._chosen(num_workers)
        self.num_workers = self.workers.count
        self.devices: Sequence[str] = (str(self.device),)
        workers = "1 Ray worker" if self.num_workers == 1 else f"{self.num_workers} Ray workers"
        self.where = f"{workers} with {self.workers.share:g} {self.workers.resource}" + " each" * (self.num_workers > 1)
        self.readers = readers or min(8, self.workers.threads)

    @contextmanager
    def started(self, spec: WorkerSpec, note: Note, profile: Profile) -> Iterator["_Stream"]:
        """Ready to stream; actors are started with the first batches."""
        yield _Stream(
            self._ray, self.workers, RayWorkerSpec(spec, self.device.type, self.workers.threads), note, profile
        )

    def _chosen(self, wanted: int | None) -> _Workers:
        """One worker a GPU, or one a node where there is none, unless a number is wanted."""
        resource = "GPU" if self.device.type == "cuda" else "CPU"
        amounts = amounts_of(self._ray, resource)
        count = wanted or (int(sum(amounts)) if resource == "GPU" else len(amounts))
        share = largest_share(amounts, count, most=1.0 if resource == "GPU" else max(amounts, default=0))
        if share is None or not count:
            raise OptionError(
                f"{count or 1} workers do not fit on the Ray cluster: its nodes have {_listed(amounts)} {resource}s. "
                + ("Take fewer with --num-workers." if amounts else "Start a node that has some, or change --device.")
            )
        cores = amounts_of(self._ray, "CPU", beside=resource)
        threads = int(share) if resource == "CPU" else int(min(cores) / (max(amounts) / share)) if cores else 1
        return _Workers(count, resource, share, max(1, threads))


class _Stream:
    """Batches on their way through the cluster."""

    def __init__(
        self, ray: ModuleType, workers: _Workers, made_with: RayWorkerSpec, note: Note, profile: Profile
    ) -> None:
        self._ray, self._workers, self._made_with, self._note = ray, workers, made_with, note
        self._own_profile = profile
        self._reports = Reports(made_with.spec.batch_size, note, profile)

    @property
    def batch_size(self) -> int:
        return self._reports.batch_size

    def profile(self, images: int) -> dict[str, Any] | None:
        return self._reports.profile(images)

    def run(self, batches: Sequence[Batch], sink: Sink, stop: StopRequest) -> None:
        self._own_profile.start()
        first = failures = 0
        try:
            while first < len(batches) and not stop.requested:
                workers = self._fitting_now()
                # After two failures in a row one batch at a time: the next failure is then that batch's own.
                alone = failures == MOST_FAILURES - 1
                watch = Watch(stop, partial(self._misfits, workers))
                try:
                    for number, result in self._results(batches, first, 1 if alone else workers, alone, watch):
                        assert number == first
                        self._hand_on(result, sink)
                        first, failures = first + 1, 0
                except (self._ray.exceptions.RayError, Ended) as error:
                    if watch.ended:
                        continue
                    failures += 1
                    self._tell_of(error, batches[first], failures)
        finally:
            sink.commit()

    def _results(
        self, batches: Sequence[Batch], first: int, workers: int, alone: bool, watch: Watch
    ) -> Iterator[tuple[int, Result]]:
        """What became of the batches from `first` on, in order."""
        data, share = self._ray.data, self._workers.share
        size = 1 if alone else self._batches_per_block(len(batches) - first)
        last = min(len(batches), first + _BLOCKS_HELD * self._workers.count * size) if alone else len(batches)
        starts = range(first, last, size)
        dataset = data.from_arrow([block_of({k: batches[k] for k in range(s, min(s + size, last))}) for s in starts])
        dataset.context.execution_options.preserve_order = True
        dataset.context.custom_execution_callback_classes = [callback_class(watch)]
        dataset.context.execution_no_progress_timeout_s = -1  # a large model on a CPU may be that slow
        held = 1 if alone else _BLOCKS_HELD
        with warnings.catch_warnings():
            # Of Ray: it will take max_task_retries in another way from 2.64 on, and does not say which.
            warnings.filterwarnings("ignore", "`ray_remote_args` is deprecated")
            stream = dataset.map_batches(
                RayWorker,
                fn_constructor_args=(self._made_with,),
                batch_size=None,
                batch_format="pyarrow",
                compute=data.ActorPoolStrategy(
                    size=workers,
                    max_tasks_in_flight_per_actor=held,
                    max_concurrent_calls_per_actor=held,
                    enable_true_multi_threading=True,
                ),
                num_cpus=share if self._workers.resource == "CPU" else 1,
                num_gpus=share if self._workers.resource == "GPU" else 0,
                max_restarts=-1,
                max_task_retries=RETRIES,
            )
        for block in stream.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            yield from results_of(block)

    def _batches_per_block(self, count: int) -> int:
        by_images = max(1, IMAGES_PER_BLOCK // self._made_with.spec.batch_size)
        evenly = max(1, count // (self._workers.count * _FRACTION_OF_BLOCKS))
        return max(min(by_images, evenly), -(-count // MOST_BLOCKS))

    def _fitting_now(self) -> int:
        """How many of the workers have room on the nodes that the cluster has now; at least one, which may wait."""
        found = fitting(amounts_of(self._ray, self._workers.resource), self._workers.share)
        return max(1, min(self._workers.count, found))

    def _misfits(self, workers: int) -> bool:
        return self._fitting_now() != workers

    def _hand_on(self, result: Result, sink: Sink) -> None:
        outcome, report = result
        if report is not None:
            self._reports.add(report)
        if isinstance(outcome, Exception):
            raise outcome
        sink.add(outcome)

    def _tell_of(self, error: Exception, batch: Batch, failures: int) -> None:
        reason = click.unstyle(str(error)).strip().splitlines()[-1]  # the cause stands below Ray's own traceback
        if failures >= MOST_FAILURES:
            raise EngineError(
                f"the workers that Ray gave {names(batch)} died again and again ({type(error).__name__}: {reason}). "
                "Leave these images out (--images), or take a smaller --batch-size or fewer --num-workers; everything "
                "before them is kept."
            ) from error
        self._note(f"Ray lost what it was doing ({type(error).__name__}: {reason}); going on behind the last batch.")


@contextmanager
def connected(address: str | None, num_workers: int | None, device: str, readers: int | None) -> Iterator[RayEngine]:
    """The engine on the cluster at `address`, or on one that is started here and ends with the block."""
    with ExitStack() as stack:
        stack.enter_context(compiled_part_silent())
        with stderr_to_nothing():  # it tells that it was told to be silent
            ray = stack.enter_context(connect(address))
        importlib.import_module("ray.data")  # as `ray.data`, which `import ray` leaves out
        stack.enter_context(silent(ray))
        yield RayEngine(ray, num_workers, device, readers)


def amounts_of(ray: ModuleType, resource: str, beside: str | None = None) -> list[float]:
    """What each living node has of a resource, nodes without it (or without `beside`) left out."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [node[resource] for node in nodes if node.get(resource) and node.get(beside or resource)]


def _listed(amounts: Sequence[float]) -> str:
    return " + ".join(f"{amount:g}" for amount in amounts) or "no"
