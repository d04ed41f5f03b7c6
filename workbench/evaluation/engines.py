"""Who counts the partitions of an evaluation: processes of this machine, or a Ray cluster.

An engine only says how a function is begun elsewhere and waited for. What is counted, and how parts are put together,
is the same whoever counts.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any, Protocol, TypeVar

import pyarrow as pa

from workbench import ray_cluster
from workbench.cores import check_processes
from workbench.errors import EngineError, OptionError, WorkbenchError, did_you_mean

Item = TypeVar("Item")
Result = TypeVar("Result")
Submit = Callable[[Callable[[Any], Any], Any], Callable[[], Any]]
"""Begins `function(item)` elsewhere and returns what waits for its result."""


@dataclass(frozen=True)
class Workers:
    """Those of an engine that is running."""

    number: int
    """How many items are worked on at a time."""
    under_way: int
    """How many items are given out, or done and not yet taken: what bounds memory."""
    submit: Submit

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """`function` of each item, in order, made by the workers; items are asked for as workers become free.

        What a function raises is raised where its result would have come.
        """
        waiting: deque[Callable[[], Result]] = deque()
        for item in items:
            waiting.append(self.submit(function, item))
            if len(waiting) >= self.under_way:
                yield waiting.popleft()()
        while waiting:
            yield waiting.popleft()()


class Engine(Protocol):
    """How the work of an evaluation is spread."""

    def workers(self) -> AbstractContextManager[Workers]:
        """Those who work within the block."""


@dataclass(frozen=True)
class Processes:
    """Processes of this machine. A program that is no module must guard its main part by `__name__ == "__main__"`."""

    number: int

    def __post_init__(self) -> None:
        check_processes(self.number)

    @contextmanager
    def workers(self) -> Iterator[Workers]:
        """New processes, which end with the block. Raises EngineError where one of them is killed."""
        # Not forked: a process with threads, as Arrow's and the progress bar's, may hang in its copy.
        with ProcessPoolExecutor(self.number, get_context("spawn"), _one_thread_each) as pool:
            try:
                yield Workers(self.number, 2 * self.number, lambda function, item: pool.submit(function, item).result)
            except BrokenProcessPool as error:
                raise EngineError(
                    "a worker process ended before its work was done; where memory is short, the system kills. Use "
                    "fewer --processes, or --engine ray, which begins such work again."
                ) from error
            finally:
                pool.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True)
class Ray:
    """Tasks of a Ray cluster, one core each; Ray begins a task again whose worker or node is lost.

    All nodes must see the run's folder and the cache of ground truth under the paths that they have here.
    """

    address: str | None = None
    """See `ray_cluster.connect`."""
    num_workers: int | None = None
    """None: one for each core of the cluster."""

    def __post_init__(self) -> None:
        if self.num_workers is not None and self.num_workers < 1:
            raise OptionError(f"--num-workers is {self.num_workers}; it must be at least 1.")

    @contextmanager
    def workers(self) -> Iterator[Workers]:
        """Connected to the cluster for the block. Raises EngineError."""
        with ray_cluster.connect(self.address, self.num_workers) as ray:
            cores = max(1, int(ray.cluster_resources().get("CPU", 1)))
            number = min(self.num_workers or cores, cores)
            task = ray.remote(_call)

            def submit(function: Callable[[Any], Any], item: Any) -> Callable[[], Any]:
                reference = task.remote(function, item)
                return lambda: _result(ray, reference)

            # Ray itself keeps more tasks than cores waiting, but not more than a number of workers below that.
            yield Workers(number, 2 * cores if number == cores else number, submit)


ENGINES = ("local", "ray")


def chosen(
    engine: str = "local", processes: int | None = None, num_workers: int | None = None, address: str | None = None
) -> Engine | None:
    """The engine that the options ask for; None: this process alone.

    Raises OptionError for options that do not exist or do not go together.
    """
    if engine not in ENGINES:
        raise OptionError(f"no engine {engine!r}. {did_you_mean(engine, ENGINES)}")
    if engine == "ray":
        if processes is not None:
            raise OptionError(
                f"--processes {processes} is for this machine alone; with --engine ray it is --num-workers."
            )
        return Ray(address, num_workers)
    for name, given in (("num-workers", num_workers), ("address", address)):
        if given is not None:
            raise OptionError(f"--{name} {given} is for --engine ray. On this machine alone: --processes.")
    return None if processes in (None, 1) else Processes(processes)


def _call(function: Callable[[Any], Any], item: Any) -> Any:
    return function(item)


def _result(ray: Any, reference: Any) -> Any:
    """The result of a task. Raises what it raised, where that is ours, else EngineError."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, WorkbenchError):
            raise error.cause from error
        raise
    except ray.exceptions.RayError as error:
        raise EngineError(
            f"the Ray cluster lost a task and could not begin it again ({type(error).__name__}: {error}). Look at its "
            "nodes with `ray status`, and run the same command again."
        ) from error


def _one_thread_each() -> None:
    """Processes that share the cores leave Arrow's own threads out."""
    pa.set_cpu_count(1)
