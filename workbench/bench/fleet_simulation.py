"""The protocol of `predict` over many workers, played event by event: stragglers, lost workers, nodes and drivers.

Batches are handed out in order, at most a window ahead of the first one that the driver has not taken. A lost batch is
handed out again before new ones. The driver takes batches in order only, a shard at a time goes to the store, and what
is not there when the driver dies is predicted again: it resumes behind what the store holds.
"""

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from workbench.bench.fleet import HOUR, Fleet

SECONDS_PER_SHARD = 60.0
"""As in `prediction.pipeline`: a shard is written at the latest after so long."""


class Store(Protocol):
    """Where shards go. The simulation asks it, not itself, what is there."""

    def commit(self, batches: range) -> None:
        """Add a shard of these batches."""

    def done(self) -> int:
        """How many batches are there, from the first on without a gap."""


class CheckedStore:
    """Counts, and insists that every batch comes once and in order."""

    def __init__(self) -> None:
        self._done = 0

    def commit(self, batches: range) -> None:
        """Raises RuntimeError for a gap, or a batch that is there already."""
        if batches.start != self._done or not batches:
            raise RuntimeError(f"batches {batches} are committed behind {self._done}")
        self._done = batches.stop

    def done(self) -> int:
        """So far."""
        return self._done


@dataclass
class Outcome:
    """What happened."""

    seconds: float = 0.0
    useful: float = 0.0
    """Seconds of workers whose rows were committed."""
    lost_with_workers: float = 0.0
    """Seconds of workers on batches that their end cut short, nodes' and drivers' ends too."""
    lost_with_driver: float = 0.0
    """Seconds of workers on batches that were finished and not yet in a shard when the driver died."""
    worker_failures: int = 0
    node_failures: int = 0
    driver_deaths: int = 0
    shards: int = 0
    retried: int = 0
    most_waiting: int = 0
    """Finished batches that waited for an earlier one, at most."""
    driver_busy: float = 0.0

    def utilisation(self, fleet: Fleet) -> float:
        """The share of the workers' time that ended in committed rows."""
        return self.useful / (fleet.workers * self.seconds)


@dataclass
class _Worker:
    node: int
    life: int = 0
    """Counts its ends: an event of an earlier life means nothing."""
    batch: int | None = None
    started: float = 0.0


@dataclass
class _Driver:
    taken: int = 0
    """Batches from the first on that it has taken."""
    is_busy: bool = False
    committed_at: float = 0.0
    waiting: dict[int, float] = field(default_factory=dict)
    """Finished batches that it has not taken, and the seconds that each took."""
    uncommitted: dict[int, float] = field(default_factory=dict)


class Simulation:
    """One run. `run` returns when every batch is in the store."""

    def __init__(self, fleet: Fleet, batches: int, seed: int = 0, store: Store | None = None) -> None:
        self._fleet, self._batches = fleet, batches
        self._store = CheckedStore() if store is None else store
        self._random = random.Random(seed)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._scheduled = 0
        self._now = 0.0
        self._workers = [_Worker(number // fleet.workers_a_node) for number in range(fleet.workers)]
        self._idle: list[_Worker] = []
        self._driver = _Driver()
        self._session = 0
        self._next = 0
        self._again: list[int] = []
        self.outcome = Outcome()

    def run(self) -> Outcome:
        """Play until the end."""
        for node in range(self._fleet.nodes):
            self._at_random(self._fleet.node_mtbf_hours, partial(self._lose_node, node))
        self._start_driver()
        while self._driver.taken < self._batches or self._driver.uncommitted:
            self._now, _, event = heapq.heappop(self._events)
            event()
        self.outcome.seconds = self._now
        return self.outcome

    def _after(self, seconds: float, event: Callable[[], None]) -> None:
        self._scheduled += 1  # of equal times the one scheduled first
        heapq.heappush(self._events, (self._now + seconds, self._scheduled, event))

    def _at_random(self, mtbf_hours: float, event: Callable[[], None]) -> None:
        self._after(self._random.expovariate(1 / (mtbf_hours * HOUR)), event)

    # The driver.

    def _start_driver(self) -> None:
        """A session: resume behind what the store holds, start all workers."""
        self._session += 1
        self._next = self._store.done()
        self._again = []
        self._driver = _Driver(taken=self._next, committed_at=self._now)
        session = self._session
        self._at_random(self._fleet.driver_mtbf_hours, partial(self._lose_driver, session))
        self._idle = []
        for worker in self._workers:
            self._stop(worker)  # what a node's return would start
            self._restart(worker, self._fleet.worker_restart)

    def _lose_driver(self, session: int) -> None:
        assert session == self._session
        self.outcome.driver_deaths += 1
        driver = self._driver
        self.outcome.lost_with_driver += sum(driver.waiting.values()) + sum(driver.uncommitted.values())
        for worker in self._workers:
            self._stop(worker)
        self._session += 1  # so that what the driver was doing ends nowhere
        self._after(self._fleet.driver_restart, self._start_driver)

    def _take(self) -> None:
        """Take the next batch where it has come and the driver is free."""
        driver, fleet = self._driver, self._fleet
        if driver.is_busy or driver.taken not in driver.waiting:
            return
        driver.is_busy = True
        driver.uncommitted[driver.taken] = driver.waiting.pop(driver.taken)
        images = len(driver.uncommitted) * fleet.batch_images
        is_last = driver.taken + 1 == self._batches
        is_due = images >= fleet.shard_images or self._now - driver.committed_at >= SECONDS_PER_SHARD or is_last
        seconds = fleet.driver_batch_seconds + (fleet.shard_seconds if is_due else 0)
        session = self._session
        self._after(seconds, partial(self._taken, session, seconds, is_due))

    def _taken(self, session: int, seconds: float, is_due: bool) -> None:
        if session != self._session:
            return
        driver = self._driver
        driver.is_busy = False
        driver.taken += 1
        self.outcome.driver_busy += seconds
        if is_due:
            self._store.commit(range(driver.taken - len(driver.uncommitted), driver.taken))
            self.outcome.useful += sum(driver.uncommitted.values())
            self.outcome.shards += 1
            driver.uncommitted.clear()
            driver.committed_at = self._now
        self._take()
        self._hand_out()

    def _hand_out(self) -> None:
        """Give idle workers lost batches first, then new ones up to the window's end."""
        end = min(self._batches, self._driver.taken + self._fleet.window * self._fleet.workers)
        while self._idle and (self._again or self._next < end):
            worker = self._idle.pop()
            assert worker.batch is None
            if self._again:
                worker.batch = heapq.heappop(self._again)
            else:
                worker.batch, self._next = self._next, self._next + 1
            worker.started = self._now
            life = worker.life
            self._after(self._service(), partial(self._finished, worker, life))

    # Workers and nodes.

    def _service(self) -> float:
        fleet = self._fleet
        seconds = fleet.batch_seconds * self._random.choice(fleet.quantiles)
        return seconds * (fleet.straggler_factor if self._random.random() < fleet.stragglers else 1)

    def _finished(self, worker: _Worker, life: int) -> None:
        if life != worker.life or worker.batch is None:
            return
        self._driver.waiting[worker.batch] = self._now - worker.started
        self.outcome.most_waiting = max(self.outcome.most_waiting, len(self._driver.waiting))
        worker.batch = None
        self._idle.append(worker)
        self._take()
        self._hand_out()

    def _restart(self, worker: _Worker, seconds: float) -> None:
        life = worker.life
        self._after(seconds, partial(self._up, worker, life))

    def _up(self, worker: _Worker, life: int) -> None:
        if life != worker.life:
            return
        self._at_random(self._fleet.worker_mtbf_hours, partial(self._lose_worker, worker, life))
        self._idle.append(worker)
        self._hand_out()

    def _lose_worker(self, worker: _Worker, life: int) -> None:
        if life != worker.life:
            return
        self.outcome.worker_failures += 1
        self._give_back(self._stop(worker))
        self._restart(worker, self._fleet.worker_restart)

    def _lose_node(self, node: int) -> None:
        fleet, session = self._fleet, self._session
        self.outcome.node_failures += 1
        down = fleet.node_detection + fleet.node_restart
        for worker in (each for each in self._workers if each.node == node):
            batch = self._stop(worker)
            self._after(fleet.node_detection, partial(self._give_back, batch, session))
            self._restart(worker, down)
        self._after(down, lambda: self._at_random(fleet.node_mtbf_hours, partial(self._lose_node, node)))

    def _stop(self, worker: _Worker) -> int | None:
        """End a worker's life; returns the batch that is lost with it."""
        lost, worker.batch = worker.batch, None
        worker.life += 1
        if lost is not None:
            self.outcome.lost_with_workers += self._now - worker.started
        if worker in self._idle:
            self._idle.remove(worker)
        return lost

    def _give_back(self, batch: int | None, session: int | None = None) -> None:
        if batch is None or session not in (None, self._session):
            return
        self.outcome.retried += 1
        heapq.heappush(self._again, batch)
        self._hand_out()
