"""Peak memory and time an image of `browse`, `prelabel` and `pull`: what must not grow with the number of images.

    python -m tests.memory.push_memory [--images 1000 10000] [--step browse prelabel pull]

Makes synthetic panoptic runs (96x128; 5 objects an image, as many in the ground truth), evaluates them, and takes each
step in a process of its own, against a MongoDB server of its own. Prints each process's peak resident memory, and what
an image takes in the first and in the last tenth of the images: milliseconds of CPU time, the server's included. Exits
with 1 where memory grows by more than `BYTES_ALLOWED` an image and `NOISE_MB`, or the last tenth takes more than
`SLOWER` times as long as the first.
"""

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from tests.memory.evaluate_memory import peak_mb
from tests.reference import mongodb
from tests.reference.scene_dataset import with_columns
from tests.reference.scenes import CATEGORIES, Listed, PanopticImage, table_of
from workbench import runs
from workbench.catalog.definitions import DatasetDefinition
from workbench.evaluation.evaluation import evaluate
from workbench.formats.base import Category, Dataset, ImageRecord, Task
from workbench.segments import concat, image_table

STEPS = ("browse", "prelabel", "pull")
BYTES_ALLOWED = {"browse": 12_000, "prelabel": 5_000, "pull": 5_000}
"""An image: its id, path and sample, and for `browse` some 10 matches that FiftyOne's panel reads.

Rounded up from what was measured (8.7, 4 and 4 kB): a guard against growth to come, no promise that memory is flat."""
NOISE_MB = 50
SLOWER = 1.6
IMAGES_PER_SHARD = 256
SIZE_HW = (96, 128)
OBJECTS = 5
DISTINCT_IMAGES = 16


def scene(seed: int) -> PanopticImage:
    """A label map of some regions with rough borders."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: SIZE_HW[0], : SIZE_HW[1]] + rng.normal(scale=0.3, size=(2, *SIZE_HW))
    seeds = rng.random((OBJECTS, 2)) * SIZE_HW
    label_map = 1 + np.argmin([(y - cy) ** 2 + (x - cx) ** 2 for cy, cx in seeds], axis=0)
    categories = rng.choice(list(CATEGORIES), size=OBJECTS)
    return PanopticImage("", label_map, tuple(Listed(i + 1, int(categories[i])) for i in range(OBJECTS)))


class Scenes(Dataset):
    """As many images as wanted, made of a few scenes."""

    def __init__(self, count: int) -> None:
        source = Path("synthetic.toml")
        super().__init__(DatasetDefinition("synthetic", source, "coco", Path("/nowhere"), panoptic="panoptic.json"))
        self.count = count
        self.tables = [table_of([scene(seed)]) for seed in range(DISTINCT_IMAGES)]

    @property
    def categories(self) -> tuple[Category, ...]:
        return tuple(Category(i, f"class {i}", isthing, (i, i, i)) for i, isthing in CATEGORIES.items())

    @property
    def tasks(self) -> tuple[Task, ...]:
        return ("panoptic",)

    def images(self) -> Sequence[ImageRecord]:
        return [ImageRecord(str(i), f"{i}.jpg", Path(f"{i}.jpg"), i, SIZE_HW) for i in range(self.count)]

    def ground_truth(self, task: Task, images_per_table: int = 256) -> Iterator[tuple[pa.Table, pa.Table]]:
        for start in range(0, self.count, images_per_table):
            yield repeated(self.tables, range(start, min(start + images_per_table, self.count)))

    def fingerprint(self) -> str:
        return f"synthetic {self.count}"


def repeated(tables: Sequence[pa.Table], ids: range) -> tuple[pa.Table, pa.Table]:
    """Segment and image table of those images, which show one table after another."""
    parts = [with_columns(tables[i % len(tables)], image_id=[str(i)] * len(tables[i % len(tables)])) for i in ids]
    texts = [str(i) for i in ids]
    size = {"height": [SIZE_HW[0]] * len(ids), "width": [SIZE_HW[1]] * len(ids)}
    names = {"image_id": texts, "file_name": [f"{text}.jpg" for text in texts]}
    return concat(parts), image_table({**names, **size, "ordinal": ids, "status": ["ok"] * len(ids)})


def make_run(folder: Path, dataset: Scenes) -> None:
    """A run that says of each image what the ground truth says of the next one."""
    tables = [table_of([scene((seed + 1) % DISTINCT_IMAGES)], score=0.5) for seed in range(DISTINCT_IMAGES)]
    manifest = runs.new_manifest("predict", dataset.definition, "panoptic", dataset.categories, {}, {})
    run = runs.create_or_resume(folder, {**manifest, "status": runs.COMPLETE})
    writer = runs.writer(run)
    for start in range(0, dataset.count, IMAGES_PER_SHARD):
        writer.commit(*repeated(tables, range(start, min(start + IMAGES_PER_SHARD, dataset.count))))
    evaluate(run, dataset)


class Clock:
    """A `progress` that notes how much CPU time was spent when each share of the images was done, in the last stage."""

    def __init__(self, server: mongodb.Server) -> None:
        self.server, self.what = server, ""
        self.times: list[tuple[int, float]] = []

    def __call__(self, what: str, done: int, total: int) -> None:
        if what != self.what:
            self.what, self.times = what, []
        self.times.append((done, self.spent()))

    def spent(self) -> float:
        """Seconds of this process and of the server."""
        return time.process_time() + self.server.cpu_seconds()

    def milliseconds(self) -> tuple[float, float]:
        """An image's, in the first and in the last tenth."""
        total, first = self.times[-1][0], self.times[0]
        tenth = next(entry for entry in self.times if entry[0] >= first[0] + total / 10)
        ninth = next(entry for entry in self.times if entry[0] >= 0.9 * total)
        last = self.times[-1]
        return _rate(first, tenth), _rate(ninth, last) if last[0] > ninth[0] else _rate(first, last)


def _rate(begin: tuple[int, float], end: tuple[int, float]) -> float:
    return 1000 * (end[1] - begin[1]) / max(end[0] - begin[0], 1)


def measure(folder: Path, count: int, step: str, server: mongodb.Server) -> tuple[float, float, float, float]:
    """Peak resident MB, seconds, and milliseconds an image at first and at last, in a process of its own."""
    os.environ.update(server.environment, WORKBENCH_CACHE=str(folder / "cache"))
    from workbench.voxel51.browse import push
    from workbench.voxel51.prelabel import prelabel
    from workbench.voxel51.pull import pull

    dataset, run, clock = Scenes(count), runs.Run.open(folder / f"run-{count}"), Clock(server)
    name, started = f"images_{count}", clock.spent()
    if step == "browse":
        push([run], dataset, name, clock)
    elif step == "prelabel":
        prelabel(dataset, run, labelled=True, name=name, progress=clock)
    else:
        pull(dataset, folder / f"pulled-{count}.toml", name=name, progress=clock)
    return peak_mb(), clock.spent() - started, *clock.milliseconds()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[1000, 10000])
    parser.add_argument("--step", nargs="+", choices=STEPS, default=list(STEPS))
    options = parser.parse_args()
    failed = False
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        (folder / "mongodb").mkdir()
        with mongodb.server(folder / "mongodb") as server:
            failed = compare(folder, options.images, options.step, server)
    return int(failed)


def compare(folder: Path, counts: Sequence[int], steps: Sequence[str], server: mongodb.Server) -> bool:
    """Take the steps with so many images each; returns whether anything grew that may not."""
    context, failed = multiprocessing.get_context("spawn"), False
    peaks: dict[str, list[float]] = {step: [] for step in steps}
    for count in counts:
        os.environ["WORKBENCH_CACHE"] = str(folder / "cache")
        make_run(folder / f"run-{count}", Scenes(count))
        for step in steps:
            with context.Pool(1) as pool:
                peak, seconds, first, last = pool.apply(measure, (folder, count, step, server))
            peaks[step].append(peak)
            slow = last > SLOWER * first
            failed |= slow
            print(
                f"{step:8} {count:6} images {peak:5.0f} MB {seconds:6.1f} s; an image {first:.2f} ms at first, "
                f"{last:.2f} ms at last{' (slower)' if slow else ''}",
                flush=True,
            )
    for step, found in peaks.items():
        growth, allowed = found[-1] - found[0], NOISE_MB + BYTES_ALLOWED[step] * (counts[-1] - counts[0]) / 1024**2
        print(f"{step:8} grows by {growth:.0f} MB over {counts[-1] - counts[0]} images (allowed: {allowed:.0f} MB)")
        failed |= growth > allowed
    return failed


if __name__ == "__main__":
    sys.exit(main())
