"""Ground truth as label maps for training: the segments of each image, drawn into as few maps as hold them.

Segments of a panoptic or semantic map never overlap: one map holds them. Instances may; a segment that meets another
goes to the next map, so that no pixel of a mask is lost. Crowd segments are left out, as in the original recipe: like
void, their pixels belong to no mask.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from workbench import ground_truth, rle
from workbench.errors import DatasetError
from workbench.formats.base import Dataset, ImageRecord, Task
from workbench.segments import VOID_SEGMENT_ID

_COLUMNS = ["image_id", "category_id", "height", "width", "counts"]


@dataclass(frozen=True)
class LabelMaps:
    """The segments of one image. Segment i (from 1) has class `classes[i - 1]`; 0 is no segment."""

    maps: NDArray[np.int32]
    """(L, h, w), L at least 1."""
    classes: tuple[int, ...]
    """Class indices, 0..K-1."""


class Annotations:
    """The images of a dataset that have segments to learn from, and their label maps.

    Keeps the rows of the task in memory, some hundred bytes a segment. Raises DatasetError where the dataset lacks the
    task, or has nothing to learn from.
    """

    def __init__(
        self,
        dataset: Dataset,
        task: Task,
        class_of: Mapping[int, int],
        progress: ground_truth.Progress | None = None,
    ) -> None:
        """`class_of`: category_id -> class index; segments of other categories are left out."""
        table = ground_truth.load(dataset, task, progress).segments()
        wanted = pc.and_(
            pc.and_(pc.not_equal(table["segment_id"], VOID_SEGMENT_ID), pc.invert(table["iscrowd"])),
            pc.is_in(table["category_id"], value_set=pa.array(list(class_of), pa.int32())),
        )
        rows = table.filter(wanted).select(_COLUMNS).combine_chunks()
        self._class_of = dict(class_of)
        self._rows = rows
        self._spans = _spans(rows["image_id"])
        self.images_in_all = len(dataset.images())
        self.images: Sequence[ImageRecord] = [record for record in dataset.images() if record.image_id in self._spans]
        if not self.images:
            raise DatasetError(
                f"{dataset.definition.name}: no image has a {task} segment to learn from (crowds do not count). Check "
                f"its annotations: `workbench datasets check {dataset.definition.name}`."
            )

    def __len__(self) -> int:
        return len(self.images)

    def label_maps(self, index: int) -> LabelMaps:
        """Of `images[index]`, at the size that the annotations declare."""
        start, stop = self._spans[self.images[index].image_id]
        rows = self._rows.slice(start, stop - start)
        height, width = rows["height"][0].as_py(), rows["width"][0].as_py()
        masks = (rle.decode(counts.as_py(), height, width) for counts in rows["counts"])
        maps: list[NDArray[np.int32]] = [np.zeros((height, width), dtype=np.int32)]
        for number, mask in enumerate(masks, start=1):
            free = next((label_map for label_map in maps if not label_map[mask].any()), None)
            if free is None:
                maps.append(free := np.zeros((height, width), dtype=np.int32))
            free[mask] = number
        classes = tuple(self._class_of[category.as_py()] for category in rows["category_id"])
        return LabelMaps(np.stack(maps), classes)


def _spans(image_ids: pa.ChunkedArray) -> dict[str, tuple[int, int]]:
    """Image id -> first row and the row after its last; the store keeps the rows of an image together."""
    ids = image_ids.to_numpy()
    if not len(ids):
        return {}
    starts = np.concatenate([[0], np.flatnonzero(ids[1:] != ids[:-1]) + 1, [len(ids)]])
    return {str(ids[start]): (int(start), int(stop)) for start, stop in pairwise(starts)}
