"""Why a segment of a map was not found or not right: one error type for every prediction and every ground truth.

The types exclude each other; where several definitions fit, the first in this order holds. "Covers" and "lies in" mean
more than half of the pixels; predicted pixels on void are left out everywhere, as PQ leaves them out.

| predictions | |
| --- | --- |
| matched | true positive of PQ |
| void, crowd | ignored by PQ: lies on void and on crowds of its category, named after the larger part |
| wrong_class | IoU above 0.5 with a segment of another category |
| merged | covers two or more segments of its category |
| split | lies in an unmatched segment of its category that is split, see below |
| duplicate | lies in a segment of its category that another prediction matches |
| poor_outline | lies in a segment of its category, or has an IoU of 0.1 or more with one |
| background | none of these: nothing of its category is there |

| ground truth | |
| --- | --- |
| matched | true positive of PQ |
| void, crowd | never to be found; void is also, in corrected mode, a segment without pixels |
| wrong_class | IoU above 0.5 with a prediction of another category |
| split | two or more unmatched predictions of its category lie in it and together cover it |
| merged | a prediction of its category covers it which matches or covers another segment of the category |
| poor_outline | IoU of 0.1 or more with a prediction of its category |
| missed | none of these |

A class of a semantic map is such a segment, matched where its IoU is above 0.5. Instances have the types of TIDE, see
`tide.py`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workbench.evaluation.columns import Segments
from workbench.evaluation.overlaps import Overlaps
from workbench.evaluation.panoptic import PanopticMatches

MAP_TYPES = (
    "matched",
    "wrong_class",
    "poor_outline",
    "split",
    "merged",
    "duplicate",
    "background",
    "missed",
    "void",
    "crowd",
)
"""A code is a position in this list."""
_MATCHED, _WRONG_CLASS, _POOR_OUTLINE, _SPLIT, _MERGED, _DUPLICATE, _BACKGROUND, _MISSED, _VOID, _CROWD = range(10)
NEAR_IOU = 0.1
"""From here on two segments have to do with each other: TIDE's limit."""


@dataclass(frozen=True)
class SegmentErrors:
    """The error type of every row, as codes, and the row on the other side that it is about."""

    gt_code: NDArray[np.int8]
    """(G,); so `gt_other`: the prediction's row, -1 where the type names none."""
    gt_other: NDArray[np.int64]
    pred_code: NDArray[np.int8]
    """(P,); so `pred_other`: the ground truth's row."""
    pred_other: NDArray[np.int64]


def map_errors(gt: Segments, pred: Segments, overlaps: Overlaps, matches: PanopticMatches) -> SegmentErrors:
    """Type the segments of some images: `overlaps` is `intersect(gt, pred)`, `matches` PQ's matching of them.

    Codes index `MAP_TYPES`. Areas are counted pixels, whatever the files declare.
    """
    pairs = _Pairs.of(gt, pred, overlaps)
    matched_gt, matched_pred = _mask(len(gt), matches.gt_rows), _mask(len(pred), matches.pred_rows)
    covered = pairs.same & pairs.covered
    merges = np.bincount(pairs.pred[covered], minlength=len(pred)) > 1
    fragment = pairs.same & pairs.inside & ~matched_gt[pairs.gt] & ~matched_pred[pairs.pred]
    fragments = np.bincount(pairs.gt[fragment], minlength=len(gt))
    in_fragments = np.bincount(pairs.gt[fragment], weights=pairs.pixels[fragment], minlength=len(gt))
    is_split = (fragments > 1) & (2 * in_fragments > gt.area)
    near = pairs.same & (pairs.iou >= NEAR_IOU)
    wrong = ~pairs.same & (pairs.iou > 0.5)

    of_pred = _Side.filled(len(pred), _BACKGROUND)  # from the last in the list to the first
    of_pred.put(_POOR_OUTLINE, pairs.pred, pairs.gt, near | (pairs.same & pairs.inside))
    of_pred.put(_DUPLICATE, pairs.pred, pairs.gt, pairs.same & pairs.inside & matched_gt[pairs.gt])
    of_pred.put(_SPLIT, pairs.pred, pairs.gt, fragment & is_split[pairs.gt])
    of_pred.put(_MERGED, pairs.pred, pairs.gt, covered & merges[pairs.pred])
    of_pred.put(_WRONG_CLASS, pairs.pred, pairs.gt, wrong)
    of_pred.name(
        matches.ignored, np.where(2 * _on_void(gt, pred, overlaps) >= _harmless(gt, pred, overlaps), _VOID, _CROWD)
    )
    of_pred.pair(matches.pred_rows, matches.gt_rows)

    of_gt = _Side.filled(len(gt), _MISSED)
    of_gt.put(_POOR_OUTLINE, pairs.gt, pairs.pred, near)
    of_gt.put(_MERGED, pairs.gt, pairs.pred, covered & (matched_pred | merges)[pairs.pred])
    of_gt.put(_SPLIT, pairs.gt, pairs.pred, fragment & is_split[pairs.gt])
    of_gt.put(_WRONG_CLASS, pairs.gt, pairs.pred, wrong)
    of_gt.pair(matches.gt_rows, matches.pred_rows)
    uncounted = ~matched_gt & ~_mask(len(gt), matches.missed)
    of_gt.name(np.flatnonzero(uncounted), np.where(gt.iscrowd, _CROWD, _VOID))
    return SegmentErrors(of_gt.code, of_gt.other, of_pred.code, of_pred.other)


@dataclass(frozen=True)
class _Pairs:
    """Overlaps of predictions with ground truth that is neither void nor crowd, by rising IoU; all (pairs,)."""

    gt: NDArray[np.int64]
    pred: NDArray[np.int64]
    pixels: NDArray[np.int64]
    iou: NDArray[np.float64]
    same: NDArray[np.bool_]
    """Both are of one category."""
    inside: NDArray[np.bool_]
    """More than half of the prediction lies in the ground truth."""
    covered: NDArray[np.bool_]
    """More than half of the ground truth lies in the prediction."""

    @classmethod
    def of(cls, gt: Segments, pred: Segments, overlaps: Overlaps) -> "_Pairs":
        real = ~gt.is_void[overlaps.first] & ~gt.iscrowd[overlaps.first]
        first, second, pixels = overlaps.first[real], overlaps.second[real], overlaps.pixels[real]
        gt_area, pred_area = gt.area[first], (pred.area - _on_void(gt, pred, overlaps))[second]
        iou = pixels / (gt_area + pred_area - pixels)
        order = np.argsort(iou, kind="stable")
        same = gt.category_id[first] == pred.category_id[second]
        inside, covered = 2 * pixels > pred_area, 2 * pixels > gt_area
        return cls(first[order], second[order], pixels[order], iou[order], same[order], inside[order], covered[order])


@dataclass(frozen=True)
class _Side:
    """Codes of one side, written over from the weakest definition to the strongest."""

    code: NDArray[np.int8]
    other: NDArray[np.int64]

    @classmethod
    def filled(cls, rows: int, code: int) -> "_Side":
        return cls(np.full(rows, code, np.int8), np.full(rows, -1, np.int64))

    def put(self, code: int, rows: NDArray[np.int64], others: NDArray[np.int64], where: NDArray[np.bool_]) -> None:
        """Of several pairs of a row the last counts: the one of the highest IoU."""
        self.code[rows[where]], self.other[rows[where]] = code, others[where]

    def name(self, rows: NDArray[np.int64], codes: NDArray[np.int64]) -> None:
        """Types that are about no segment of the other side; `codes` holds one for every row there is."""
        self.code[rows], self.other[rows] = codes[rows], -1

    def pair(self, rows: NDArray[np.int64], others: NDArray[np.int64]) -> None:
        self.code[rows], self.other[rows] = _MATCHED, others


def _on_void(gt: Segments, pred: Segments, overlaps: Overlaps) -> NDArray[np.int64]:
    """(P,), pixels of each prediction on void."""
    return _sum_into(len(pred), overlaps, gt.is_void[overlaps.first])


def _harmless(gt: Segments, pred: Segments, overlaps: Overlaps) -> NDArray[np.int64]:
    """(P,), pixels of each prediction on void or on a crowd of its category."""
    first, second = overlaps.first, overlaps.second
    absorbed = gt.iscrowd[first] & (gt.category_id[first] == pred.category_id[second])
    return _sum_into(len(pred), overlaps, gt.is_void[first] | absorbed)


def _sum_into(rows: int, overlaps: Overlaps, where: NDArray[np.bool_]) -> NDArray[np.int64]:
    total = np.zeros(rows, dtype=np.int64)
    np.add.at(total, overlaps.second[where], overlaps.pixels[where])
    return total


def _mask(rows: int, chosen: NDArray[np.int64]) -> NDArray[np.bool_]:
    mask = np.zeros(rows, dtype=np.bool_)
    mask[chosen] = True
    return mask
