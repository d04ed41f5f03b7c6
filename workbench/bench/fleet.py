"""Many workers and one committing driver, in a closed formula: how long a run takes, what is lost, what limits it.

`fleet_simulation.py` plays the same fleet event by event; the two are compared in docs/scale.md.
"""

import math
from dataclasses import dataclass
from typing import Literal

HOUR = 3600.0
Limit = Literal["workers", "driver"]


@dataclass(frozen=True)
class Fleet:
    """What a run is made with. Times are seconds unless they say hours; every figure is an assumption to replace."""

    workers: int = 1000
    workers_a_node: int = 8
    batch_images: int = 8
    """Images of the unit that is handed out, tried again, and handed back."""
    batch_seconds: float = 0.0625
    """A worker's mean for one batch, stragglers aside: 8 images at 128 a second."""
    quantiles: tuple[float, ...] = (1.0,)
    """How the seconds of a batch vary: values at equally spaced quantiles, in units of their mean."""
    stragglers: float = 0.001
    """The share of batches that take `straggler_factor` times as long."""
    straggler_factor: float = 5.0
    window: int = 8
    """Batches a worker that may be handed out beyond the first one that the driver has not taken yet."""
    driver_batch_seconds: float = 0.002
    """The driver's own time for a batch: hand it out, take its rows, put them in order."""
    shard_images: int = 512
    shard_seconds: float = 0.05
    """To write, sync and rename a shard."""
    worker_mtbf_hours: float = 24.0
    worker_restart: float = 60.0
    """Until it predicts again: process, model, device."""
    node_mtbf_hours: float = 720.0
    node_detection: float = 30.0
    """Until a node that fell silent counts as lost and its batches are handed out again."""
    node_restart: float = 300.0
    driver_mtbf_hours: float = 168.0
    driver_restart: float = 60.0
    """Until the same command is given again; then all workers start anew."""

    @property
    def mean_batch_seconds(self) -> float:
        """With stragglers."""
        return self.batch_seconds * (1 + self.stragglers * (self.straggler_factor - 1))

    @property
    def driver_images_per_second(self) -> float:
        """What the driver takes and commits when batches always wait for it."""
        seconds = self.driver_batch_seconds / self.batch_images + self.shard_seconds / self.shard_images
        return 1 / seconds if seconds else math.inf

    @property
    def workers_images_per_second(self) -> float:
        """What the workers make when nothing fails and they never wait."""
        return self.workers * self.batch_images / self.mean_batch_seconds

    @property
    def nodes(self) -> int:
        """The last one may have fewer workers."""
        return -(-self.workers // self.workers_a_node)


@dataclass(frozen=True)
class Estimate:
    """What the formula says of a run."""

    seconds: float
    utilisation: float
    """The share of the workers' time that ends in committed rows."""
    images_per_second: float
    limit: Limit


def estimate(fleet: Fleet, images: float, driver_deaths: float | None = None) -> Estimate:
    """The run of that many images, from the first worker's start to the last commit.

    With `driver_deaths` the driver dies so many times, else as often as its MTBF lets expect.
    """
    per_second, limit = _rate(fleet)
    undisturbed = fleet.worker_restart + images / per_second + _tail(fleet)
    again = (fleet.shard_images / 2 + fleet.workers * fleet.batch_images) / per_second
    a_death = fleet.driver_restart + fleet.worker_restart + again
    if driver_deaths is None:
        seconds = undisturbed / (1 - a_death / (fleet.driver_mtbf_hours * HOUR))
    else:
        seconds = undisturbed + driver_deaths * a_death
    useful = images / fleet.batch_images * fleet.mean_batch_seconds
    return Estimate(seconds, useful / (fleet.workers * seconds), images / seconds, limit)


def _rate(fleet: Fleet) -> tuple[float, Limit]:
    """Images a second in the middle of a run, while the driver lives."""
    workers = fleet.workers_images_per_second * _availability(fleet) * (1 - _wasted(fleet)) * (1 - _stalled(fleet))
    driver = fleet.driver_images_per_second
    return (workers, "workers") if workers <= driver else (driver, "driver")


def _availability(fleet: Fleet) -> float:
    """The share of its time in which a worker is up."""
    down = fleet.worker_restart / (fleet.worker_mtbf_hours * HOUR)
    down += (fleet.node_detection + fleet.node_restart) / (fleet.node_mtbf_hours * HOUR)
    return 1 / (1 + down)


def _wasted(fleet: Fleet) -> float:
    """The share of a worker's time that goes into batches which its end cuts short."""
    squares = sum(value**2 for value in fleet.quantiles) / len(fleet.quantiles) * fleet.batch_seconds**2
    squares *= 1 + fleet.stragglers * (fleet.straggler_factor**2 - 1)
    into = squares / (2 * fleet.mean_batch_seconds)  # how far, on average, the batch at hand is at a moment in time
    return into * (1 / fleet.worker_mtbf_hours + 1 / fleet.node_mtbf_hours) / HOUR


def _stalled(fleet: Fleet) -> float:
    """The share of time in which all wait for a lost batch, as the window lets them run ahead only so far."""
    ahead = (fleet.window - 1) * fleet.mean_batch_seconds
    return fleet.nodes / (fleet.node_mtbf_hours * HOUR) * max(fleet.node_detection - ahead, 0)


def _tail(fleet: Fleet) -> float:
    """Seconds at the end in which ever fewer workers have something to do.

    When the last batch is handed out, a worker has half a batch before it on average; the run waits for the last of
    them, which is a straggler where there are some among so many.
    """
    under_way = fleet.workers * fleet.stragglers * fleet.straggler_factor
    slowest = max(
        max(fleet.quantiles) * fleet.workers / (fleet.workers + 1), fleet.straggler_factor * under_way / (under_way + 1)
    )
    return fleet.batch_seconds * max(slowest - 0.5, 0)
