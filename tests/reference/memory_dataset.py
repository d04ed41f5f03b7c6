"""A dataset without files: what importers need to know of one, and nothing to open."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from workbench.catalog.definitions import DatasetDefinition
from workbench.formats.base import Category, Dataset, ImageRecord, Task


class MemoryDataset(Dataset):
    """Images of given sizes, categories 1..n (odd ones things), no ground truth."""

    def __init__(
        self, sizes_hw: Mapping[str, tuple[int, int] | None], categories: Sequence[int] = (1, 2, 3, 7), offset: int = 0
    ) -> None:
        super().__init__(
            DatasetDefinition("tiny", Path("tiny.toml"), "coco", Path("/nowhere"), category_id_offset=offset)
        )
        self._categories = tuple(Category(i, f"class {i}", i % 2 == 1, (i, 2 * i, 3 * i)) for i in categories)
        self._images = [
            ImageRecord(image_id, f"{image_id}.jpg", Path("/nowhere") / f"{image_id}.jpg", ordinal, size)
            for ordinal, (image_id, size) in enumerate(sizes_hw.items())
        ]

    @property
    def categories(self) -> tuple[Category, ...]:
        return self._categories

    @property
    def tasks(self) -> tuple[Task, ...]:
        return ()

    def images(self) -> Sequence[ImageRecord]:
        return self._images

    def ground_truth(self, task: Task, images_per_table: int = 256) -> Iterator[tuple[pa.Table, pa.Table]]:
        raise NotImplementedError("a dataset in memory has no ground truth")

    def fingerprint(self) -> str:
        return "memory"
