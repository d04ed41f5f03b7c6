"""mIoU and its kin from the intersection table, by the convention of ADE20K's benchmark and mmsegmentation.

Void ground truth counts nowhere. Where a labelled pixel gets no prediction, its true class loses it and no class gains
it. Intersections and unions are summed over all images before they are divided.
Source: CSAILVision/sceneparsing, evaluationCode/utils_eval.py (intersectionAndUnion, pixelAccuracy).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workbench.evaluation.columns import Segments
from workbench.evaluation.overlaps import Overlaps


@dataclass(frozen=True)
class SemanticResult:
    """Pixel counts of all classes; those of other images over the same classes can be added."""

    category_ids: NDArray[np.int32]
    """(K,), ascending."""
    confusion: NDArray[np.int64]
    """(K, K + 1): pixels of the true class (row) by predicted class (column); the last column has no prediction."""

    @classmethod
    def zero(cls, category_ids: NDArray[np.int32]) -> "SemanticResult":
        """The counts of no image."""
        return cls(category_ids, np.zeros((len(category_ids), len(category_ids) + 1), dtype=np.int64))

    def __add__(self, other: "SemanticResult") -> "SemanticResult":
        return SemanticResult(self.category_ids, self.confusion + other.confusion)

    @property
    def intersection(self) -> NDArray[np.int64]:
        """(K,), pixels of each class that are predicted as it."""
        return self.confusion.diagonal()

    @property
    def gt_pixels(self) -> NDArray[np.int64]:
        """(K,), labelled pixels of each class."""
        return np.asarray(self.confusion.sum(axis=1))

    @property
    def union(self) -> NDArray[np.int64]:
        """(K,), labelled pixels that are or are predicted as each class."""
        return np.asarray(self.gt_pixels + self.confusion[:, :-1].sum(axis=0) - self.intersection)

    @property
    def iou(self) -> NDArray[np.float64]:
        """(K,), NaN for a class that is neither in the ground truth nor predicted on labelled pixels."""
        return _ratio(self.intersection, self.union)

    @property
    def accuracy(self) -> NDArray[np.float64]:
        """(K,), share of each class's pixels that are predicted as it; NaN for a class without ground truth."""
        return _ratio(self.intersection, self.gt_pixels)

    @property
    def miou(self) -> float | None:
        """Mean IoU over the classes in ground truth or predictions, as most tools report it; None without any."""
        return _mean(self.iou[self.union > 0])

    @property
    def miou_all_classes(self) -> float | None:
        """Mean IoU over all classes, those that never occur as 0: what ADE20K's benchmark publishes."""
        return _mean(np.nan_to_num(self.iou)) if self.gt_pixels.any() else None

    @property
    def miou_in_gt(self) -> float | None:
        """Mean IoU over the classes in the ground truth."""
        return _mean(self.iou[self.gt_pixels > 0])

    @property
    def macc(self) -> float | None:
        """Mean accuracy over the classes in the ground truth."""
        return _mean(self.accuracy[self.gt_pixels > 0])

    @property
    def aacc(self) -> float | None:
        """Share of all labelled pixels that are predicted right."""
        labelled = int(self.gt_pixels.sum())
        return int(self.intersection.sum()) / labelled if labelled else None


def count(gt: Segments, pred: Segments, overlaps: Overlaps, category_ids: NDArray[np.int32]) -> SemanticResult:
    """The confusion of some images. Segments of one category count as one, so panoptic segments do as well.

    `pred` holds disjoint segments and no void rows, `overlaps` is `intersect(gt, pred)`, `category_ids` ascends and
    holds every category.
    """
    classes = len(category_ids)
    labelled, pairs = ~gt.is_void, ~gt.is_void[overlaps.first]
    truth = np.searchsorted(category_ids, gt.category_id)
    cells = truth[overlaps.first] * classes + np.searchsorted(category_ids, pred.category_id)[overlaps.second]
    predicted = _sum_into(classes * classes, cells[pairs], overlaps.pixels[pairs]).reshape(classes, classes)
    without = _sum_into(classes, truth[labelled], gt.area[labelled]) - predicted.sum(axis=1)
    return SemanticResult(category_ids, np.column_stack([predicted, without]))


def _sum_into(cells: int, where: NDArray[np.int64], pixels: NDArray[np.int64]) -> NDArray[np.int64]:
    total = np.zeros(cells, dtype=np.int64)
    np.add.at(total, where, pixels)
    return total


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.asarray(np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0))


def _mean(values: NDArray[np.float64]) -> float | None:
    return float(values.mean()) if len(values) else None
