"""A part of an evaluation that can be counted anywhere: consecutive images, where their rows lie, and how to read them.

A partition is made of whole chunks, the same chunks however many partitions there are. So whoever counts one gives what
a single process would give at that point, and putting parts together in order gives the same result to the bit.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from workbench.evaluation import agreement, mending
from workbench.evaluation.ahead import ahead
from workbench.evaluation.columns import Segments, segments_of
from workbench.evaluation.per_image import Images
from workbench.formats.base import Category
from workbench.runs import Run
from workbench.store import SegmentStore

IMAGES_PER_CHUNK = 128


@dataclass(frozen=True)
class Chunk:
    """Some images that are counted at once, both sides checked against each other."""

    gt: Segments
    pred: Segments
    """Without void rows."""
    images: Images


@dataclass(frozen=True)
class Place:
    """Where the rows of a chunk are."""

    first: int
    """Position of its first image among all that are scored."""
    image_ids: tuple[str, ...]
    file_order: NDArray[np.int64]
    """(images,), each one's position in the annotation file."""
    gt_parts: tuple[str, ...]
    """Names of the shards; so the next."""
    pred_parts: tuple[str, ...]


@dataclass(frozen=True)
class Sides:
    """What is compared: all that reading and checking needs to know. Pickled, it is a few kilobytes."""

    run: Run
    predictions: SegmentStore
    ground_truth: SegmentStore
    categories: tuple[Category, ...]
    """Ascending by id."""
    corrected: bool

    def read(self, place: Place) -> Chunk:
        """A chunk's rows. Raises EvaluationError for categories that the dataset lacks and for sizes that differ."""
        sides = (self.ground_truth, place.gt_parts), (self.predictions, place.pred_parts)
        gt, pred = (
            segments_of(store.rows(place.image_ids, parts), place.image_ids, place.first) for store, parts in sides
        )
        pred = pred.take(~pred.is_void)
        agreement.check_categories(self.run, self.categories, pred)
        agreement.check_sizes(gt, pred)
        if self.corrected:
            gt, pred = mending.counted(gt), mending.counted(pred)
        return Chunk(gt, pred, Images(pa.array(place.image_ids, pa.string()), place.file_order, place.first))


@dataclass(frozen=True)
class Partition:
    """Consecutive chunks."""

    sides: Sides
    places: Iterable[Place]

    def chunks(self) -> Iterator[Chunk]:
        """One after another; the next one is read while one is counted. Raises as `Sides.read`."""
        return ahead(map(self.sides.read, self.places))
