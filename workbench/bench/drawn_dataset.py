"""Data sets that exist only as drawn masks: shards of ground truth and of a run, for images without pictures."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa

from workbench import ground_truth, runs
from workbench.catalog import DatasetDefinition
from workbench.evaluation.passes import Comparison
from workbench.files.digests import text_digest
from workbench.formats.base import Category, Dataset, ImageRecord, Task
from workbench.runs import Run
from workbench.segments import image_table

SIZE_HW = (480, 640)
"""Of every image."""
_IMAGES_PER_SHARD = 256
Shards = Iterator[tuple[pa.Table, pa.Table]]


class DrawnDataset(Dataset):
    """Ground truth of one task, and predictions; image ids are `numbers`."""

    def __init__(
        self,
        folder: Path,
        task: Literal["panoptic", "instance"],
        categories: tuple[Category, ...],
        numbers: range,
        drawn: str,
    ) -> None:
        """`folder` takes the files; they are written when they are asked for. `drawn` tells drawings apart."""
        panoptic, instances = ("gt.json", None) if task == "panoptic" else (None, "gt.json")
        source = folder / "bench.toml"
        super().__init__(DatasetDefinition("bench", source, "coco", folder, panoptic=panoptic, instances=instances))
        self.folder, self.numbers = folder, numbers
        self.task: Task = task
        self._categories, self._drawn_from = categories, drawn

    @property
    def count(self) -> int:
        """How many images."""
        return len(self.numbers)

    @property
    def categories(self) -> tuple[Category, ...]:
        """All of them."""
        return self._categories

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The one."""
        return (self.task,)

    def images(self) -> Sequence[ImageRecord]:
        """Without files of their own: nobody looks at the pictures."""
        return [
            ImageRecord(str(number), f"{number}.jpg", self.folder / f"{number}.jpg", place, SIZE_HW)
            for place, number in enumerate(self.numbers)
        ]

    def image_ids(self) -> tuple[str, ...]:
        """Of `images`."""
        return self._image_ids

    @cached_property
    def _image_ids(self) -> tuple[str, ...]:
        return tuple(map(str, self.numbers))

    def ground_truth(self, task: Task, images_per_table: int = _IMAGES_PER_SHARD) -> Shards:
        """What is drawn for it."""
        return self._shards(0, images_per_table)

    def fingerprint(self) -> str:
        """Of what is drawn."""
        return text_digest([self.task, self._drawn_from, *self._image_ids])

    def make_run(self) -> Run:
        """The predictions as a complete run in `folder`, where they may be already."""
        path = self.folder / f"run-{self.count}"
        manifest = runs.new_manifest("predict", self.definition, self.task, self.categories, {}, {})
        with runs.lock(path):
            run = runs.create_or_resume(path, manifest)
            if run.complete:
                return run
            writer = runs.writer(run)
            for segments, images in self._shards(1, _IMAGES_PER_SHARD):
                writer.commit(segments, images)
            return run.completed()

    def _shards(self, side: int, images_per_table: int) -> Shards:
        for start in range(0, self.count, images_per_table):
            numbers = self.numbers[start : start + images_per_table]
            yield self.rows(side, numbers), image_rows(numbers, start)

    @abstractmethod
    def rows(self, side: int, numbers: range) -> pa.Table:
        """Segments of those images: ground truth for side 0, predictions for side 1."""


def comparison(scenes: DrawnDataset, run: Run) -> Comparison:
    """Of a run with the cached ground truth, both read from Parquet each time."""
    return Comparison(
        run=run,
        ground_truth=ground_truth.load(scenes, scenes.task),
        categories=scenes.categories,
        image_ids=scenes.image_ids(),
        file_order=np.arange(scenes.count),
        progress=lambda count: None,
    )


def image_rows(numbers: range, first: int) -> pa.Table:
    """The image table of those images, the first of which has ordinal `first`."""
    n = len(numbers)
    return image_table(
        {
            "image_id": [str(number) for number in numbers],
            "file_name": [f"{number}.jpg" for number in numbers],
            "height": [SIZE_HW[0]] * n,
            "width": [SIZE_HW[1]] * n,
            "ordinal": list(range(first, first + n)),
            "status": ["ok"] * n,
        }
    )
