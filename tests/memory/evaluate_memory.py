"""Peak memory of `evaluate` must not grow with the number of images, but for a few bytes a detection.

    python -m tests.memory.evaluate_memory [--images 500 5000] [--task panoptic instance]

Makes synthetic runs (480x640; 12 panoptic segments or 100 detections an image) in a temporary folder, scores each in a
process of its own, and prints that process's peak resident memory. Exits with 1 where it grows by more than
`BYTES_ALLOWED` a prediction and `NOISE_MB` of the allocator's moods. Takes some minutes.
"""

import argparse
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from tests.reference.scene_dataset import images_of, with_columns
from tests.reference.scenes import CATEGORIES, Listed, PanopticImage, table_of
from workbench import runs
from workbench.catalog.definitions import DatasetDefinition
from workbench.evaluation.evaluation import evaluate
from workbench.formats.base import Category, Dataset, ImageRecord, Task
from workbench.formats.derive import things_of
from workbench.segments import concat

BYTES_ALLOWED = 200
"""The tallies keep 50 bytes a detection for segm and for bbox; the rest is for sorting them, and what chunks leave."""
NOISE_MB = 30
IMAGES_PER_SHARD = 256
SIZE_HW = (480, 640)
DISTINCT_IMAGES = 16
DETECTIONS = 100


def scene(seed: int) -> PanopticImage:
    """A label map of 12 regions with rough borders, the first of them void."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: SIZE_HW[0], : SIZE_HW[1]] + rng.normal(scale=0.5, size=(2, *SIZE_HW))
    seeds = rng.random((12, 2)) * SIZE_HW
    label_map = np.argmin([(y - cy) ** 2 + (x - cx) ** 2 for cy, cx in seeds], axis=0)
    categories = rng.choice(list(CATEGORIES), size=12)
    return PanopticImage("", label_map, tuple(Listed(i, int(categories[i])) for i in range(1, 12)))


class SyntheticDataset(Dataset):
    """As many images as wanted, made of a few scenes."""

    def __init__(self, count: int) -> None:
        super().__init__(
            DatasetDefinition("synthetic", Path("synthetic.toml"), "coco", Path("/nowhere"), panoptic="panoptic.json")
        )
        self.count = count
        self.tables = [table_of([scene(seed)]) for seed in range(DISTINCT_IMAGES)]

    @property
    def categories(self) -> tuple[Category, ...]:
        return tuple(Category(i, f"class {i}", isthing, (i, i, i)) for i, isthing in CATEGORIES.items())

    @property
    def tasks(self) -> tuple[Task, ...]:
        return ("panoptic", "instance")

    def images(self) -> Sequence[ImageRecord]:
        return [ImageRecord(str(i), f"{i}.jpg", Path(f"{i}.jpg"), i, SIZE_HW) for i in range(self.count)]

    def ground_truth(self, task: Task, images_per_table: int = 256) -> Iterator[tuple[pa.Table, pa.Table]]:
        tables = self.tables if task == "panoptic" else [things_of(table) for table in self.tables]
        for start in range(0, self.count, images_per_table):
            yield repeated(tables, start, min(images_per_table, self.count - start))

    def fingerprint(self) -> str:
        return f"synthetic {self.count}"


def repeated(tables: Sequence[pa.Table], start: int, count: int) -> tuple[pa.Table, pa.Table]:
    """Segment and image table of the images `start`, `start + 1`, ..., which show one table after another."""
    ids = range(start, start + count)
    parts = [with_columns(tables[i % len(tables)], image_id=[str(i)] * len(tables[i % len(tables)])) for i in ids]
    blank = np.broadcast_to(np.zeros((), dtype=np.int64), SIZE_HW)
    return concat(parts), images_of([PanopticImage(str(i), blank, ()) for i in ids], start)


def predictions(dataset: SyntheticDataset, task: Task) -> list[pa.Table]:
    """Each scene's segments as they are, or repeated as detections of falling score."""
    tables = []
    for seed in range(DISTINCT_IMAGES):
        table = table_of([scene(seed)], score=0.5)
        if task == "instance":
            table = table.take(np.resize(np.arange(len(table)), DETECTIONS))
            numbers = np.arange(DETECTIONS)
            table = with_columns(table, segment_id=numbers + 1, ordinal=numbers, score=1 - numbers / DETECTIONS)
        tables.append(table)
    return tables


def make_run(folder: Path, dataset: SyntheticDataset, task: Task) -> None:
    tables = predictions(dataset, task)
    manifest = runs.new_manifest("predict", dataset.definition, task, dataset.categories, {}, {})
    run = runs.create_or_resume(folder, {**manifest, "status": runs.COMPLETE})
    writer = runs.writer(run)
    for start in range(0, dataset.count, IMAGES_PER_SHARD):
        writer.commit(*repeated(tables, start, min(IMAGES_PER_SHARD, dataset.count - start)))


def measure(folder: str, count: int, task: Task) -> tuple[float, float, int]:
    """Peak resident MB, seconds and predictions of one evaluation; the process should have done nothing else."""
    os.environ["WORKBENCH_CACHE"] = str(Path(folder) / "cache")
    run = runs.Run.open(Path(folder) / f"{task}-{count}")
    started = time.perf_counter()
    evaluate(run, SyntheticDataset(count))
    return peak_mb(), time.perf_counter() - started, run.store.count_segments()


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[500, 5000])
    parser.add_argument("--task", nargs="+", choices=("panoptic", "instance"), default=["panoptic", "instance"])
    options = parser.parse_args()
    context, failed = multiprocessing.get_context("spawn"), False
    with tempfile.TemporaryDirectory() as folder:
        for task in options.task:
            found = []
            for count in options.images:
                make_run(Path(folder) / f"{task}-{count}", SyntheticDataset(count), task)
                for label in ("first use, ground truth converted", "again"):
                    with context.Pool(1) as pool:
                        peak, seconds, segments = pool.apply(measure, (folder, count, task))
                    print(
                        f"{task:8} {count:6} images {segments:7} predictions {peak:5.0f} MB {seconds:5.1f} s ({label})"
                    )
                found.append((peak, segments))
            growth, more = found[-1][0] - found[0][0], found[-1][1] - found[0][1]
            allowed = NOISE_MB + BYTES_ALLOWED * more / 1024**2
            print(
                f"{task:8} grows by {growth:.0f} MB over {more} more predictions (allowed: {allowed:.0f} MB)",
                flush=True,
            )
            failed |= growth > allowed
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
