"""Panoptic quality, equal to panopticapi's single-core path in every bit.

Source of the rules: panopticapi/evaluation.py and Kirillov et al. 2019, section 4.2. Repeated as they are there: of
several crowd segments of one category in an image only the last listed absorbs predictions; the union takes the ground
truth's declared area; a class with false positives alone enters the mean as 0; a class that never occurs does not.
Where there are no classes to take a mean over, panopticapi divides by zero; here the mean is None.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workbench.evaluation.columns import Segments
from workbench.evaluation.overlaps import Overlaps

PairIou = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float64]]
"""From rows of ground truth and of predictions, pair by pair, to an IoU."""


@dataclass(frozen=True)
class PanopticMatches:
    """What became of every segment of some images, by row number."""

    gt_rows: NDArray[np.int64]
    """(pairs,), ascending: matched ground truth. A row can occur twice only where its declared area is wrong."""
    pred_rows: NDArray[np.int64]
    """(pairs,), the predictions that they are matched with."""
    iou: NDArray[np.float64]
    """(pairs,), > 0.5."""
    missed: NDArray[np.int64]
    """Ground truth without a match: false negatives. Crowd and void rows never are."""
    false: NDArray[np.int64]
    """Predictions without a match: false positives."""
    ignored: NDArray[np.int64]
    """Predictions without a match of which more than half lies on void or on a crowd of their own category."""


def match(
    gt: Segments, pred: Segments, overlaps: Overlaps, corrected: bool = False, cap: PairIou | None = None
) -> PanopticMatches:
    """Match predictions with ground truth of their category: IoU above 0.5, predicted pixels on void left out.

    `pred` holds disjoint segments and no void rows; `overlaps` is `intersect(gt, pred)`. `corrected` lets every crowd
    absorb predictions, not the last listed alone, and misses no segment without pixels. No IoU is larger than
    what `cap` gives for its pair: boundary PQ's rule.
    """
    first, second, pixels = overlaps.first, overlaps.second, overlaps.pixels
    is_void, same_category = gt.is_void[first], gt.category_id[first] == pred.category_id[second]
    on_void = _sum_by(second[is_void], pixels[is_void], len(pred))
    candidate = same_category & ~is_void & ~gt.iscrowd[first]
    gt_rows, pred_rows, shared = first[candidate], second[candidate], pixels[candidate]
    union = pred.area[pred_rows] + gt.declared_area[gt_rows] - shared - on_void[pred_rows]
    with np.errstate(divide="ignore"):  # a wrong declared area can leave no union: infinite there, infinite here
        iou = shared / union
    if cap is not None:
        iou = np.minimum(iou, cap(gt_rows, pred_rows))
    matched = iou > 0.5
    gt_rows, pred_rows = gt_rows[matched], pred_rows[matched]

    absorbs = same_category & (gt.iscrowd if corrected else _last_crowds(gt))[first]
    harmless = on_void + _sum_by(second[absorbs], pixels[absorbs], len(pred))
    unmatched = np.setdiff1d(np.arange(len(pred)), pred_rows)
    mostly_harmless = harmless[unmatched] / np.maximum(pred.area[unmatched], 1) > 0.5
    countable = np.flatnonzero(~gt.is_void & ~gt.iscrowd & ((gt.area > 0) | (not corrected)))
    return PanopticMatches(
        gt_rows=gt_rows,
        pred_rows=pred_rows,
        iou=iou[matched],
        missed=np.setdiff1d(countable, gt_rows),
        false=unmatched[~mostly_harmless],
        ignored=unmatched[mostly_harmless],
    )


def _sum_by(rows: NDArray[np.int64], pixels: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    total = np.zeros(length, dtype=np.int64)
    np.add.at(total, rows, pixels)
    return total


def _last_crowds(gt: Segments) -> NDArray[np.bool_]:
    """Which rows are the last listed crowd of their category in their image."""
    crowds = np.flatnonzero(gt.iscrowd)
    crowds = crowds[np.lexsort((gt.ordinal[crowds], gt.category_id[crowds], gt.image[crowds]))]
    image, category = gt.image[crowds], gt.category_id[crowds]
    is_last = np.ones(len(crowds), dtype=np.bool_)
    is_last[:-1] = (image[1:] != image[:-1]) | (category[1:] != category[:-1])
    last = np.zeros(len(gt), dtype=np.bool_)
    last[crowds[is_last]] = True
    return last


@dataclass(frozen=True)
class PanopticTally:
    """What PQ is counted from, a few bytes a segment: chunks may come in any order, joined with `columns.join`.

    The IoUs are kept apart because a sum of floats depends on its order, and panopticapi's is the order of images.
    """

    tp_image: NDArray[np.int32]
    tp_category: NDArray[np.int32]
    """Category id; so `fp_category` and `fn_category`."""
    tp_iou: NDArray[np.float64]
    fp_image: NDArray[np.int32]
    fp_category: NDArray[np.int32]
    fn_image: NDArray[np.int32]
    fn_category: NDArray[np.int32]


def tally(gt: Segments, pred: Segments, matches: PanopticMatches) -> PanopticTally:
    """The matches of some images as counts that add up."""
    return PanopticTally(
        tp_image=gt.image[matches.gt_rows].astype(np.int32),
        tp_category=gt.category_id[matches.gt_rows],
        tp_iou=matches.iou,
        fp_image=pred.image[matches.false].astype(np.int32),
        fp_category=pred.category_id[matches.false],
        fn_image=gt.image[matches.missed].astype(np.int32),
        fn_category=gt.category_id[matches.missed],
    )


@dataclass(frozen=True)
class PanopticMean:
    """PQ, SQ and RQ as fractions, averaged over the `n` classes that occur; None where none does."""

    pq: float | None
    sq: float | None
    rq: float | None
    n: int


@dataclass(frozen=True)
class PanopticResult:
    """Raw counts of every class, all of shape (classes,), ascending by category id."""

    category_ids: NDArray[np.int32]
    isthing: NDArray[np.bool_]
    tp: NDArray[np.int64]
    fp: NDArray[np.int64]
    fn: NDArray[np.int64]
    iou_sum: NDArray[np.float64]

    @property
    def occurs(self) -> NDArray[np.bool_]:
        """Which classes have a TP, FP or FN, bool of shape (classes,): only they have a PQ."""
        return np.asarray(self.tp + self.fp + self.fn > 0)

    def qualities(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """PQ, SQ and RQ of every class, each of shape (classes,); NaN where the class does not occur."""
        weight = np.where(self.occurs, self.tp + 0.5 * self.fp + 0.5 * self.fn, np.nan)
        sq = np.where(self.occurs, self.iou_sum / np.maximum(self.tp, 1), np.nan)
        return self.iou_sum / weight, sq, self.tp / weight

    def mean(self, isthing: bool | None = None) -> PanopticMean:
        """The mean over the classes that occur: all, things (True) or stuff (False)."""
        chosen = self.occurs if isthing is None else self.occurs & (self.isthing == isthing)
        n = int(chosen.sum())
        if not n:
            return PanopticMean(None, None, None, 0)
        # Added one by one as panopticapi adds them: numpy's pairwise sum would differ in the last bit.
        pq, sq, rq = (float(np.cumsum(values[chosen])[-1]) / n for values in self.qualities())
        return PanopticMean(pq, sq, rq, n)


def result(
    counts: PanopticTally, category_ids: NDArray[np.int32], isthing: NDArray[np.bool_], order: NDArray[np.int64]
) -> PanopticResult:
    """Sum a tally by class.

    `category_ids` ascends and holds every category of the tally; `order[image]` is the image's position in the ground
    truth's own file, which is the order in which IoUs are added.
    """
    sequence = np.argsort(order[counts.tp_image], kind="stable")  # within an image the pairs are in order already
    tp, fp, fn = (
        np.searchsorted(category_ids, categories)
        for categories in (counts.tp_category, counts.fp_category, counts.fn_category)
    )
    n = len(category_ids)
    iou_sum = np.bincount(tp[sequence], weights=counts.tp_iou[sequence], minlength=n)  # adds one by one, in order
    return PanopticResult(
        category_ids=category_ids,
        isthing=isthing,
        tp=np.bincount(tp, minlength=n),
        fp=np.bincount(fp, minlength=n),
        fn=np.bincount(fn, minlength=n),
        iou_sum=iou_sum.astype(np.float64),  # bincount of nothing gives integers
    )
