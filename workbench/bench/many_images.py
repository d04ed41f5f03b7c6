"""Data sets of a million images without a picture: a few hundred drawn label maps, shown in random order under new ids.

Ground truth and predictions are written as tables, some thousand images a second. Maps are small (64x64 pixels), so
that what is measured is what grows with the number of images, and not the work on pixels.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from workbench import runs
from workbench.bench.panoptic_scenes import CATEGORIES, LabelledMap
from workbench.catalog import DatasetDefinition
from workbench.evaluation.image_ids import ImageIds
from workbench.formats.base import Category, Dataset, ImageRecord, Task
from workbench.formats.derive import things_of
from workbench.runs import Run
from workbench.segments import concat, image_table, segment_table

SIZE_HW = (64, 64)
DISTINCT = 300
DETECTIONS = 30
"""Of an instance run, in each image."""
IMAGES_PER_SHARD = 1024
"""Of a run. Ground truth has as many as it always has."""
_CELLS, _VOID, _CROWDS, _RENAMED, _DROPPED = 12, 0.08, 0.05, 0.15, 0.06
_LARGEST_SHIFT, _RENAMED_DETECTIONS = 6.0, 0.25


class ManyImages(Dataset):
    """`count` images; `task` is that of the run. A panoptic one has two ground truths: maps, and their things."""

    def __init__(self, folder: Path, count: int, task: Task = "panoptic", seed: int = 0) -> None:
        """`folder` takes the run; nothing is drawn or written before it is asked for."""
        source = folder / "many.toml"
        super().__init__(DatasetDefinition("many images", source, "coco", folder, panoptic="panoptic.json"))
        self.folder, self.count, self.task, self.seed = folder, count, task, seed

    @property
    def categories(self) -> tuple[Category, ...]:
        """COCO's number of them."""
        return CATEGORIES

    @property
    def tasks(self) -> tuple[Task, ...]:
        """What `evaluate` scores the run against."""
        return ("panoptic", "instance") if self.task == "panoptic" else ("instance",)

    def image_ids(self) -> Sequence[str]:
        """0, 1, ..."""
        return ImageIds(pa.array(np.arange(self.count)).cast(pa.string()))

    def images(self) -> Sequence[ImageRecord]:
        """Without files: nobody looks at the pictures."""
        return [ImageRecord(str(i), f"{i}.jpg", self.folder / f"{i}.jpg", i, SIZE_HW) for i in range(self.count)]

    def fingerprint(self) -> str:
        """Of what is drawn."""
        return f"many-{self.count}-{self.seed}".ljust(32, "-")

    def ground_truth(self, task: Task, images_per_table: int = 256) -> Iterator[tuple[pa.Table, pa.Table]]:
        """The maps, or their things."""
        for segments, images in self._shards(self._truth, images_per_table):
            yield (things_of(segments) if task == "instance" else segments), images

    def make_run(self) -> Run:
        """The predictions as a complete run in `folder`."""
        path = self.folder / f"run-{self.task}-{self.count}"
        manifest = runs.new_manifest("predict", self.definition, self.task, self.categories, {}, {})
        with runs.lock(path):
            run = runs.create_or_resume(path, manifest)
            writer = runs.writer(run)
            for segments, images in self._shards(self._predicted, IMAGES_PER_SHARD):
                writer.commit(segments, images)
            return run.completed()

    def _shards(self, drawn: "_Drawn", size: int) -> Iterator[tuple[pa.Table, pa.Table]]:
        shown = np.random.default_rng([self.seed, 1]).integers(DISTINCT, size=self.count)
        for first in range(0, self.count, size):
            numbers = np.arange(first, min(first + size, self.count))
            yield drawn.rows(numbers, shown[numbers]), _image_rows(numbers)

    @cached_property
    def _truth(self) -> "_Drawn":
        return _Drawn([maps[0].columns(is_gt=True) for maps in self._maps])

    @cached_property
    def _predicted(self) -> "_Drawn":
        if self.task == "panoptic":
            return _Drawn([maps[1].columns(is_gt=False) for maps in self._maps])
        return _Drawn([_detections(maps[0], seed) for seed, maps in enumerate(self._maps)])

    @cached_property
    def _maps(self) -> list[tuple[LabelledMap, LabelledMap]]:
        return [_draw(self.seed * 1_000_003 + number) for number in range(DISTINCT)]


class _Drawn:
    """The rows of the distinct images, to be shown under any ids."""

    def __init__(self, columns: list[dict[str, object]]) -> None:
        sizes = [len(each["segment_id"]) for each in columns]  # type: ignore[arg-type]
        size = {"height": SIZE_HW[0], "width": SIZE_HW[1]}
        self.table = concat(
            [
                segment_table({**each, **{key: [n] * rows for key, n in size.items()}, "image_id": [""] * rows})
                for each, rows in zip(columns, sizes, strict=True)
            ]
        ).combine_chunks()
        self.begin = np.concatenate([[0], np.cumsum(sizes)])

    def rows(self, numbers: NDArray[np.int64], shown: NDArray[np.int64]) -> pa.Table:
        """What the images `numbers` (n,) have, of which each shows one of the distinct images, `shown` (n,)."""
        sizes = self.begin[shown + 1] - self.begin[shown]
        within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        table = self.table.take(pa.array(np.repeat(self.begin[shown], sizes) + within))
        column = table.schema.get_field_index("image_id")
        ids = pa.array(np.repeat(numbers, sizes)).cast(pa.string())
        return table.set_column(column, table.schema.field("image_id"), ids)


def _draw(seed: int) -> tuple[LabelledMap, LabelledMap]:
    """Ground truth and prediction of one image: cells with rough edges, moved a little, some renamed or dropped."""
    rng = np.random.default_rng(seed)
    centres = rng.random((_CELLS, 2)) * SIZE_HW
    labels = np.where(rng.random(_CELLS) < _VOID, 0, np.arange(1, _CELLS + 1))
    categories = rng.choice(len(CATEGORIES), size=_CELLS) + 1
    crowds = {n for n in labels.tolist() if n and categories[n - 1] <= 80 and rng.random() < _CROWDS}
    stray = rng.normal(scale=0.6, size=(2, *SIZE_HW))
    truth = labels[_nearest(centres, stray)]
    guess = np.where(rng.random(_CELLS) < _DROPPED, 0, np.arange(1, _CELLS + 1))
    guess = guess[_nearest(centres + rng.normal(scale=1.0, size=centres.shape), stray)]
    renamed = np.where(rng.random(_CELLS) < _RENAMED, rng.choice(len(CATEGORIES), size=_CELLS) + 1, categories)
    return _labelled(truth, categories, crowds), _labelled(guess, renamed, set())


def _nearest(centres: NDArray[np.float64], stray: NDArray[np.float64]) -> NDArray[np.int64]:
    places = np.mgrid[: SIZE_HW[0], : SIZE_HW[1]] + stray  # (2, height, width)
    distances = ((places - centres[:, :, None, None]) ** 2).sum(axis=1)  # (cells, height, width)
    return np.asarray(np.argmin(distances, axis=0))


def _labelled(label_map: NDArray[np.int64], categories: NDArray[np.int64], crowds: set[int]) -> LabelledMap:
    present = [int(label) for label in np.unique(label_map) if label]
    return LabelledMap(label_map, {key: int(categories[key - 1]) for key in present}, frozenset(crowds & set(present)))


def _detections(truth: LabelledMap, seed: int) -> dict[str, object]:
    """Things found again and again, shifted the further the lower their score, as columns of a segment table."""
    rng = np.random.default_rng([seed, 2])
    things = [key for key, category in truth.category_ids.items() if category <= 80] or list(truth.category_ids)
    scores = np.sort(np.round(rng.random(DETECTIONS), 3))[::-1]
    found = []
    for score in scores.tolist():
        key = int(rng.choice(things))
        shift = np.rint(rng.normal(scale=(1 - score) * _LARGEST_SHIFT, size=2)).astype(int).tolist()
        mask = np.roll(truth.label_map == key, shift, (0, 1))
        renamed = rng.random() < _RENAMED_DETECTIONS
        category = int(rng.integers(1, 81)) if renamed else truth.category_ids[key]
        found.append(LabelledMap(mask.astype(np.int64), {1: category}).columns(is_gt=False))
    joined = {name: [each[name][0] for each in found] for name in ("category_id", "area", "bbox", "counts")}
    numbers = np.arange(DETECTIONS)
    flags = {"isthing": [True] * DETECTIONS, "iscrowd": [False] * DETECTIONS}
    return {**joined, **flags, "segment_id": numbers + 1, "ordinal": numbers, "score": scores}


def _image_rows(numbers: NDArray[np.int64]) -> pa.Table:
    ids = pa.array(numbers).cast(pa.string())
    return image_table(
        {
            "image_id": ids,
            "file_name": [f"{number}.jpg" for number in numbers.tolist()],
            "height": np.full(len(numbers), SIZE_HW[0]),
            "width": np.full(len(numbers), SIZE_HW[1]),
            "ordinal": numbers,
            "status": ["ok"] * len(numbers),
        }
    )
