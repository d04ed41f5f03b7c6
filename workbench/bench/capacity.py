"""What a number of images needs: GPU hours, cores to feed the GPUs, bytes, evaluation; from costs that were measured.

Behind `workbench bench capacity` and docs/scale.md. Every figure is an input, so that anyone puts in their own.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil

from workbench.bench.fleet import HOUR, Estimate, Fleet, estimate

WORKLOADS: Mapping[str, float] = {"COCO train": 118_287, "Objects365": 2_000_000, "one billion": 1e9}
"""Images."""
PUBLISHED_RATES: Mapping[str, float] = {
    "EoMT-S 640": 330,
    "EoMT-B 640": 261,
    "EoMT-L 640": 128,
    "EoMT-g 640": 55,
    "EoMT-L 1280": 30,
    "EoMT-g 1280": 12,
}
"""Images a second of the bare model on one H100, compiled, as its authors published them: not measured here."""


@dataclass(frozen=True)
class Costs:
    """Of one image. Milliseconds are one CPU core's, save for the model's, which is a GPU's where there is one."""

    gpu_images_per_second: float = PUBLISHED_RATES["EoMT-L 640"]
    read_ms: float = 0.0
    """Read the file, decode it, resize and normalise."""
    post_process_ms: float = 0.0
    encode_ms: float = 0.0
    driver_ms: float = 0.0
    """Of the one process that hands out batches and takes their rows, beside committing."""
    shard_seconds: float = 0.0
    """To commit 512 images; the driver's too."""
    prediction_bytes: float = 0.0
    """The run folder."""
    evaluate_ms: float = 0.0
    evaluation_bytes: float = 0.0
    """What an evaluation adds to the run folder."""
    evaluation_memory: float = 0.0
    """Bytes that an evaluation holds of it until the end."""
    image_bytes: float = 164_000
    """The JPEG file: COCO train's 118,287 take 19.4 GB."""

    @property
    def cpu_ms(self) -> float:
        """Of the worker that feeds a GPU and takes what it gives."""
        return self.read_ms + self.post_process_ms + self.encode_ms

    @property
    def cores_a_gpu(self) -> float:
        """Cores that keep one GPU busy."""
        return self.gpu_images_per_second * self.cpu_ms / 1000


MEASURED = Costs(
    read_ms=4.16,
    post_process_ms=5.91,
    encode_ms=1.40,
    driver_ms=0.364,
    shard_seconds=0.1055,
    prediction_bytes=6698,
    evaluate_ms=0.47,
    evaluation_bytes=950,
    evaluation_memory=1242,
)
"""Panoptic, on one core of the machine in reports/benchmarks: docs/scale.md says where each is from."""
QUANTILES = (
    *(0.625, 0.651, 0.684, 0.694, 0.731, 0.758, 0.787, 0.821, 0.833, 0.866),
    *(0.896, 0.92, 0.96, 1.051, 1.139, 1.239, 1.459, 1.53, 1.59, 1.764),
)
"""How a worker's seconds for a batch vary, in units of their mean: measured on a machine that did much else."""
SMALL_MODEL_SECONDS = 1.851
"""EoMT-S at 640, an image, on one core."""


def gpu_fleet(costs: Costs, workers: int = 1000) -> Fleet:
    """One worker a GPU, which gets Ray's blocks of 64 images."""
    return _fleet(costs, workers, 64, 64 / costs.gpu_images_per_second)


def cpu_fleet(costs: Costs, workers: int = 1000) -> Fleet:
    """One worker a core with EoMT-S, batches of 8."""
    return _fleet(costs, workers, 8, 8 * (SMALL_MODEL_SECONDS + costs.cpu_ms / 1000))


def _fleet(costs: Costs, workers: int, batch_images: int, batch_seconds: float) -> Fleet:
    return Fleet(
        workers=workers,
        batch_images=batch_images,
        batch_seconds=batch_seconds,
        quantiles=QUANTILES,
        driver_batch_seconds=batch_images * costs.driver_ms / 1000,
        shard_seconds=costs.shard_seconds,
    )


@dataclass(frozen=True)
class Need:
    """What a workload takes."""

    images: float
    gpu_hours: float
    core_hours: float
    """To feed the GPUs."""
    image_bytes: float
    prediction_bytes: float
    evaluation_core_hours: float
    evaluation_bytes: float
    evaluation_memory: float


def need(images: float, costs: Costs) -> Need:
    """Plain products: the work itself, without failures and waiting."""
    return Need(
        images,
        images / costs.gpu_images_per_second / HOUR,
        images * costs.cpu_ms / 1000 / HOUR,
        images * costs.image_bytes,
        images * costs.prediction_bytes,
        images * costs.evaluate_ms / 1000 / HOUR,
        images * costs.evaluation_bytes,
        images * costs.evaluation_memory,
    )


@dataclass(frozen=True)
class Split:
    """A workload on so many GPUs: how many runs side by side, each with a driver of its own, and how long they take."""

    gpus: int
    runs: int
    each: Estimate


def split(images: float, fleet: Fleet, share: float = 0.8) -> Split:
    """As few runs as leave each driver at most `share` busy; `fleet.workers` are the GPUs of all of them."""
    wanted = fleet.workers_images_per_second
    runs = max(1, ceil(wanted / (share * fleet.driver_images_per_second)))
    each = replace(fleet, workers=ceil(fleet.workers / runs))
    return Split(fleet.workers, runs, estimate(each, images / runs))


@dataclass(frozen=True)
class Capacity:
    """All tables of one set of inputs."""

    costs: Costs
    fleet: Fleet
    workloads: Mapping[str, float] = field(default_factory=lambda: dict(WORKLOADS))
    gpus: Sequence[int] = (1, 8, 1000)

    def tables(self) -> dict[str, str]:
        """By name: `needs`, `models`, `drivers`, `fleet`."""
        return {"needs": self.needs(), "models": self.models(), "drivers": self.drivers(), "fleet": self.runs()}

    def needs(self) -> str:
        """What each workload takes, as Markdown."""
        columns = [need(images, self.costs) for images in self.workloads.values()]
        rows: list[tuple[str, Iterable[str]]] = [
            ("images", (f"{each.images:,.0f}" for each in columns)),
            ("GPU hours", (_number(each.gpu_hours) for each in columns)),
            ("core hours beside the GPUs", (_number(each.core_hours) for each in columns)),
            ("images to read", (_bytes(each.image_bytes) for each in columns)),
            ("predictions", (_bytes(each.prediction_bytes) for each in columns)),
            ("evaluation, core hours", (_number(each.evaluation_core_hours) for each in columns)),
            ("evaluation, tables", (_bytes(each.evaluation_bytes) for each in columns)),
            ("evaluation, memory", (_bytes(each.evaluation_memory) for each in columns)),
        ]
        head = ["", *self.workloads]
        return _table(head, [[name, *cells] for name, cells in rows])

    def models(self) -> str:
        """GPU hours and cores by model, at the published rates."""
        rows = [
            [name, f"{rate:g}", f"{rate * self.costs.cpu_ms / 1000:.1f}"]
            + [_number(images / rate / HOUR) for images in self.workloads.values()]
            for name, rate in PUBLISHED_RATES.items()
        ]
        return _table(
            ["model", "images/s of a GPU", "cores a GPU", *(f"GPU hours, {name}" for name in self.workloads)], rows
        )

    def drivers(self) -> str:
        """How many GPUs one driver can take the rows of, by model."""
        rate = self.fleet.driver_images_per_second
        rows = [[name, f"{rate:,.0f}", f"{rate / each:,.0f}"] for name, each in PUBLISHED_RATES.items()]
        return _table(["model", "images/s that one driver commits", "GPUs that make as many"], rows)

    def runs(self) -> str:
        """Each workload on each number of GPUs: runs side by side, hours, and what share of the time is useful."""
        rows = []
        for name, images in self.workloads.items():
            for gpus in self.gpus:
                found = split(images, replace(self.fleet, workers=gpus))
                each = found.each
                rows.append(
                    [
                        name,
                        f"{gpus:,}",
                        str(found.runs),
                        _time(each.seconds),
                        f"{100 * each.utilisation:.1f} %",
                        each.limit,
                    ]
                )
        return _table(["images", "GPUs", "runs", "time", "useful", "limited by"], rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    marks = ["---", *["--:"] * (len(head) - 1)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in [head, marks, *rows])


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _bytes(value: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} PB"


def _time(seconds: float) -> str:
    for unit, size in (("days", 24 * HOUR), ("h", HOUR), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
