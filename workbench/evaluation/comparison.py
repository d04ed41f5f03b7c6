"""A run beside one ground truth: the images of both, cut into chunks, counted here or by workers."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from workbench.evaluation import partitions
from workbench.evaluation.columns import Segments
from workbench.evaluation.engines import Workers
from workbench.evaluation.image_ids import ImageIds
from workbench.evaluation.merging import merged
from workbench.evaluation.partitions import Chunk, Partition, Place, Sides
from workbench.evaluation.per_image import Images
from workbench.formats.base import Category
from workbench.runs import Run
from workbench.store import SegmentStore

Part = TypeVar("Part")
_MOST_CHUNKS = 8  # of a partition: about a second's work
_PARTITIONS_A_WORKER = 4  # at least, where there are chunks enough: the last ones end at about the same time


@dataclass(frozen=True)
class Comparison:
    """A run, one ground truth, and the images that both are compared on."""

    run: Run
    ground_truth: SegmentStore
    categories: tuple[Category, ...]
    """Ascending by id."""
    image_ids: Sequence[str]
    file_order: NDArray[np.int64]
    """(images,), each image's position in the annotation file."""
    progress: Callable[[int], None]
    """Called with the number of images that are done since the last call."""
    corrected: bool = False
    """Mend what the official tools get wrong instead of repeating it."""
    workers: Workers | None = None
    """Who counts; None: this process."""

    @property
    def category_ids(self) -> NDArray[np.int32]:
        """(K,)."""
        return np.array([category.category_id for category in self.categories], dtype=np.int32)

    @property
    def isthing(self) -> NDArray[np.bool_]:
        """(K,)."""
        return np.array([category.isthing for category in self.categories], dtype=np.bool_)

    @cached_property
    def most_rows(self) -> int:
        """No tally has more."""
        return max(self.run.store.count_segments(), self.ground_truth.count_segments())

    @cached_property
    def images(self) -> Images:
        """What rows about an image say of it."""
        return Images.of(self.image_ids, self.file_order)

    def parts(self, count: Callable[[Chunk], Part]) -> Iterator[Part]:
        """What `count` gives of every image, a few at a time, in order: merged, the same whoever counts.

        `count` and its parts can be pickled; parts are such as `merging.merged` takes. Raises EvaluationError as
        `Sides.read`, and EngineError where workers are lost.
        """
        counted: Iterator[tuple[int, Part]]
        if self.workers is None:
            counted = ((len(chunk.images), count(chunk)) for chunk in Partition(self.sides, self._places()).chunks())
        else:
            counted = self.workers.map(partial(_counted, count), self._partitions(self.workers.number))
        for images, part in counted:
            yield part
            self.progress(images)

    def chunks(self) -> Iterator[tuple[Segments, Segments]]:
        """Ground truth and predictions (void rows left out) of some images at a time, read by this process."""
        for chunk in Partition(self.sides, self._places()).chunks():
            yield chunk.gt, chunk.pred
            self.progress(len(chunk.images))

    @property
    def sides(self) -> Sides:
        """What is read."""
        return Sides(self.run, self.run.store, self.ground_truth, self.categories, self.corrected)

    def _places(self) -> Iterator[Place]:
        ids, size = ImageIds.of(self.image_ids), partitions.IMAGES_PER_CHUNK
        stores = self.ground_truth, self.run.store
        located = [store.locate(ids.array) for store in stores]
        for start in range(0, len(ids), size):
            chunk = slice(start, start + size)
            parts = [store.parts_at(where[chunk]) for store, where in zip(stores, located, strict=True)]
            yield Place(start, ids[chunk], self.file_order[chunk], *parts)

    def _partitions(self, workers: int) -> Iterator[Partition]:
        chunks = -(-len(self.image_ids) // partitions.IMAGES_PER_CHUNK)
        size = min(_MOST_CHUNKS, max(1, chunks // (_PARTITIONS_A_WORKER * workers)))
        places, sides = self._places(), self.sides
        while some := tuple(islice(places, size)):
            yield Partition(sides, some)


def _counted(count: Callable[[Chunk], Part], partition: Partition) -> tuple[int, Part]:
    """How many images a partition has, and what is counted of them."""
    images, parts = 0, []
    for chunk in partition.chunks():
        images += len(chunk.images)
        parts.append(count(chunk))
    return images, merged(parts)
