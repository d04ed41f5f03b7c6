"""What the formats share that paint their predictions, one PNG an image: decoding in threads, rows of label maps."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from workbench.errors import TransferError
from workbench.formats.annotated import thread_pool
from workbench.formats.base import ImageRecord
from workbench.imports.base import PredictionSource, size_of
from workbench.label_map_rle import LabelMapRle
from workbench.segments import concat, segment_table


class PaintedSource(PredictionSource):
    """Predictions with a PNG for each image; subclasses say which and read it."""

    @abstractmethod
    def is_painted(self, record: ImageRecord) -> bool:
        """Whether the image has a PNG."""

    @abstractmethod
    def read_image(self, record: ImageRecord, size_hw: tuple[int, int] | None) -> tuple[pa.Table, tuple[int, int]]:
        """The segments of an image that has a PNG, and the PNG's (height, width), after `check_size`.

        Called in threads: it changes nothing.
        """

    def segments(self, records: Sequence[ImageRecord]) -> tuple[pa.Table, Mapping[str, tuple[int, int]]]:
        """See `PredictionSource.segments`."""
        with thread_pool() as pool:
            images = list(pool.map(self._image, records))
        sizes = {record.image_id: size for record, (_, size) in zip(records, images, strict=True) if size is not None}
        return concat([table for table, _ in images if table is not None]), sizes

    def _image(self, record: ImageRecord) -> tuple[pa.Table | None, tuple[int, int] | None]:
        size = size_of(record)
        return self.read_image(record, size) if self.is_painted(record) else (None, size)


def check_size(path: object, size_hw: tuple[int, int], record: ImageRecord, expected: tuple[int, int] | None) -> None:
    """Raise TransferError unless a PNG of (height, width) covers its image; `expected` None is any size."""
    if expected is not None and size_hw != expected:
        raise TransferError(
            f"{path}: {size_hw[1]} x {size_hw[0]} pixels, but image {record.image_id} ({record.file_name}) has "
            f"{expected[1]} x {expected[0]}. Resize the prediction to the image (nearest neighbour), and import again."
        )


def painted_rows(
    record: ImageRecord, masks: LabelMapRle, chosen: NDArray[np.intp], size_hw: tuple[int, int], **columns: Any
) -> pa.Table:
    """Rows of the chosen labels of a map, which ascend: `segment_id` counts them, `source_id` is the label.

    `columns` are those that a label map does not tell: ordinal, category_id, isthing, score.
    """
    count = len(chosen)
    return segment_table(
        {
            "image_id": [record.image_id] * count,
            "segment_id": np.arange(1, count + 1),
            "iscrowd": np.zeros(count, dtype=np.bool_),
            "area": masks.areas[chosen],
            "bbox": masks.bboxes[chosen],
            "height": np.full(count, size_hw[0]),
            "width": np.full(count, size_hw[1]),
            "counts": [masks.counts[row] for row in chosen],
            "source_id": masks.ids[chosen],
            **columns,
        }
    )
