"""What one image adds to every metric, as Arrow rows: resampling and comparing read these instead of scoring again.

`per_image.parquet` has a row for each image, task and category that has anything to count, and one of category -1 for
each image and task, so that an image without segments is still drawn. `detections.parquet` has a row for each detection
that counts for AP.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from workbench.evaluation.columns import Segments
from workbench.evaluation.image_ids import ImageIds
from workbench.evaluation.instance import AREA_RANGES, Geometry, InstanceMatches, InstanceTally
from workbench.evaluation.overlaps import Overlaps
from workbench.evaluation.panoptic import PanopticTally

NO_CATEGORY = -1

PER_IMAGE_SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("ordinal", pa.int64(), nullable=False),  # position in the annotation file: PQ adds IoUs in that order
        pa.field("task", pa.string(), nullable=False),  # of TASKS
        pa.field("category_id", pa.int32(), nullable=False),  # NO_CATEGORY: the image itself
        pa.field("tp", pa.int32()),  # panoptic; instance: at IoU 0.5, all sizes, of the match table's geometry
        pa.field("fp", pa.int32()),
        pa.field("fn", pa.int32()),
        pa.field("iou_sum", pa.float64()),  # over tp
        pa.field("ious", pa.list_(pa.float64())),  # panoptic: what iou_sum adds, in the order of segment ids
        pa.field("gt_by_area", pa.list_(pa.int32())),  # instance: ground truth to be found: all, small, medium, large
        pa.field("intersection", pa.int64()),  # semantic, pixels: rightly predicted
        pa.field("gt_pixels", pa.int64()),  # semantic: of the class
        pa.field("pred_pixels", pa.int64()),  # semantic: predicted as the class where the ground truth is labelled
    ]
)
BOUNDARY = "_boundary"
TASKS = ("panoptic", "instance", "semantic", "panoptic" + BOUNDARY)

DETECTION_SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("geometry", pa.string(), nullable=False),  # "segm", "bbox" or "boundary"
        pa.field("category_id", pa.int32(), nullable=False),
        pa.field("rank", pa.uint8(), nullable=False),  # among its category's detections in the image; 0 is the best
        pa.field("score", pa.float64(), nullable=False),
        pa.field("tp", pa.binary(5), nullable=False),  # numpy.packbits of (4 area ranges, 10 IoU thresholds)
        pa.field("fp", pa.binary(5), nullable=False),  # what is neither is ignored
    ]
)


@dataclass(frozen=True)
class Images:
    """Consecutive images of an evaluation, or all: a row's `image` is `first` and a position in these arrays."""

    ids: pa.StringArray
    ordinal: NDArray[np.int64]
    first: int = 0

    @classmethod
    def of(cls, image_ids: Sequence[str], file_order: NDArray[np.int64]) -> "Images":
        """All of them, from the list of ids and each one's position in the annotation file."""
        return cls(ImageIds.of(image_ids).array, file_order)

    def __len__(self) -> int:
        return len(self.ids)

    def ids_of(self, image: NDArray[np.integer[Any]]) -> pa.StringArray:
        """The id of each row's image."""
        return self.ids.take(pa.array(image - self.first))

    def rows(self, task: str) -> pa.Table:
        """The row of category -1 for each of them."""
        everyone = self.first + np.arange(len(self))
        return _table(self, task, everyone, np.full(len(self), NO_CATEGORY, np.int32), {})


def panoptic_rows(counts: PanopticTally, images: Images, task: str = "panoptic") -> pa.Table:
    """The rows of some images' PQ matches."""
    image = np.concatenate([counts.tp_image, counts.fp_image, counts.fn_image]).astype(np.int64)
    category = np.concatenate([counts.tp_category, counts.fp_category, counts.fn_category])
    image, category, cell = _cells(image, category)
    tp, fp, fn = np.split(cell, np.cumsum([len(counts.tp_image), len(counts.fp_image)]))
    order, n = np.argsort(tp, kind="stable"), len(image)
    found = np.bincount(tp, minlength=n)
    columns = {
        "tp": found,
        "fp": np.bincount(fp, minlength=n),
        "fn": np.bincount(fn, minlength=n),
        "iou_sum": np.bincount(tp, weights=counts.tp_iou, minlength=n).astype(np.float64),
        "ious": _lists(counts.tp_iou[order], found),
    }
    return _table(images, task, image, category, columns)


def semantic_rows(gt: Segments, pred: Segments, overlaps: Overlaps, images: Images) -> pa.Table:
    """The rows of some images' pixels. `pred` holds disjoint segments, `overlaps` is `intersect(gt, pred)`."""
    labelled, pairs = ~gt.is_void, ~gt.is_void[overlaps.first]
    first, second, pixels = overlaps.first[pairs], overlaps.second[pairs], overlaps.pixels[pairs]
    image, category, cell = _cells(
        np.concatenate([gt.image[labelled], pred.image[second]]),
        np.concatenate([gt.category_id[labelled], pred.category_id[second]]),
    )
    truth, guess = np.split(cell, [int(labelled.sum())])
    right = gt.category_id[first] == pred.category_id[second]
    columns = {
        "intersection": _pixels(guess[right], pixels[right], len(image)),
        "gt_pixels": _pixels(truth, gt.area[labelled], len(image)),
        "pred_pixels": _pixels(guess, pixels, len(image)),
    }
    return _table(images, "semantic", image, category, columns)


def instance_rows(gt: Segments, pred: Segments, matches: InstanceMatches, images: Images) -> pa.Table:
    """The rows of some images' AP matches at IoU 0.5 and all sizes, and their ground truth by area range."""
    rows, tp, fp = matches.pred_rows, matches.tp[:, 0, 0], matches.fp[:, 0, 0]
    image, category, cell = _cells(
        np.concatenate([gt.image, pred.image[rows]]), np.concatenate([gt.category_id, pred.category_id[rows]])
    )
    truth, guess = np.split(cell, [len(gt)])
    n = len(image)
    by_area = np.zeros((n, len(AREA_RANGES)), dtype=np.int64)
    np.add.at(by_area, truth, matches.countable)
    found = np.bincount(guess[tp], minlength=n)
    columns = {
        "tp": found,
        "fp": np.bincount(guess[fp], minlength=n),
        "fn": by_area[:, 0] - found,
        "iou_sum": np.bincount(guess[tp], weights=matches.iou[tp], minlength=n).astype(np.float64),
        "gt_by_area": _lists(by_area.ravel(), np.full(n, len(AREA_RANGES))),
    }
    return _table(images, "instance", image, category, columns)


def detection_rows(counts: InstanceTally, geometry: Geometry, images: Images) -> pa.Table:
    """The rows of some images' detections."""
    columns = {
        "image_id": images.ids_of(counts.image),
        "geometry": pa.repeat(geometry, len(counts.image)),
        "category_id": counts.category,
        "rank": counts.rank,
        "score": counts.score,
        "tp": _fixed_binary(counts.tp),
        "fp": _fixed_binary(counts.fp),
    }
    return pa.table(columns, schema=DETECTION_SCHEMA)


def _cells(
    image: NDArray[np.int64], category: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int64]]:
    """Each (image, category) that occurs, ascending, and which of them every given row belongs to."""
    categories, position = np.unique(category, return_inverse=True)
    keys, cell = np.unique(image * max(len(categories), 1) + position, return_inverse=True)
    return keys // max(len(categories), 1), categories[keys % max(len(categories), 1)], cell


def _pixels(cell: NDArray[np.int64], pixels: NDArray[np.int64], cells: int) -> NDArray[np.int64]:
    total = np.zeros(cells, dtype=np.int64)
    np.add.at(total, cell, pixels)
    return total


def _lists(values: NDArray[np.generic], lengths: NDArray[np.int64]) -> pa.ListArray:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values))


def _fixed_binary(packed: NDArray[np.uint8]) -> pa.FixedSizeBinaryArray:
    buffers = [None, pa.py_buffer(np.ascontiguousarray(packed).tobytes())]
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(packed.shape[1]), len(packed), buffers)


def _table(
    images: Images, task: str, image: NDArray[np.int64], category: NDArray[np.int32], columns: Mapping[str, object]
) -> pa.Table:
    about = {
        "image_id": images.ids_of(image),
        "ordinal": images.ordinal[image - images.first],
        "task": pa.repeat(task, len(image)),
        "category_id": category,
    }
    known = {**about, **columns}
    arrays = [
        pa.array(known[field.name]).cast(field.type) if field.name in known else pa.nulls(len(image), field.type)
        for field in PER_IMAGE_SCHEMA
    ]
    return pa.Table.from_arrays(arrays, schema=PER_IMAGE_SCHEMA)
