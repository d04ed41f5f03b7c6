"""What every format's reader gives: categories, images, and ground truth as segment tables, a few images at a time."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import pyarrow as pa

from workbench.catalog import DatasetDefinition

Task = Literal["panoptic", "instance", "semantic"]
TASKS: tuple[Task, ...] = get_args(Task)


@dataclass(frozen=True)
class Category:
    """One class of a dataset. `category_id` is the dataset's own id, which may have gaps."""

    category_id: int
    name: str
    isthing: bool
    color: tuple[int, int, int]
    """RGB, 0..255: the file's own where it has one, else derived from the id, the same in every run."""


@dataclass(frozen=True)
class ImageRecord:
    """One image of a dataset, whether or not its file can be read."""

    image_id: str
    file_name: str
    """Relative to the images folder, as the dataset's own files write it."""
    path: Path
    ordinal: int
    """Position in the dataset's list of images: ascending numeric id for COCO, ascending stem otherwise."""
    size_hw: tuple[int, int] | None = None
    """(height, width) where an annotation file declares it."""


class Dataset(ABC):
    """A dataset definition with its files opened: the only thing that the rest of the workbench sees of a format."""

    def __init__(self, definition: DatasetDefinition) -> None:
        self.definition = definition

    @property
    @abstractmethod
    def categories(self) -> tuple[Category, ...]:
        """The classes, ascending by `category_id`; empty for a folder of unlabelled images."""

    @property
    @abstractmethod
    def tasks(self) -> tuple[Task, ...]:
        """The kinds of ground truth that the definition names, in the order of `TASKS`."""

    @abstractmethod
    def images(self) -> Sequence[ImageRecord]:
        """Every image, ascending by `ordinal`."""

    def image_ids(self) -> Sequence[str]:
        """Of `images`, for those who need no more of them."""
        return [image.image_id for image in self.images()]

    @abstractmethod
    def ground_truth(self, task: Task, images_per_table: int = 256) -> Iterator[tuple[pa.Table, pa.Table]]:
        """Ground truth of one kind as (segment table, image table) pairs of at most `images_per_table` images.

        Images come in the order of `images`, as they do in runs: who walks through both reads each shard but once.

        Within an image `segment_id` counts 1.. in ascending order of the source's ids, `ordinal` is the position in the
        source file, and panoptic and semantic tables carry the image's void pixels as one row (`segment_id` 0). The
        image table's `ordinal` is the position in the annotation file's own list: panopticapi sums IoUs in that order.
        Raises DatasetError for a kind that the dataset does not have, and for files that break their format.
        """

    @abstractmethod
    def fingerprint(self) -> str:
        """Hex digest that changes when the definition, the annotations or the list of images change."""
