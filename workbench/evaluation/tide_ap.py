"""dAP: how much AP at IoU 0.5 rises when one kind of error is repaired, as tidecv computes it.

Source: tidecv/quantify.py (fix_errors, fix_main_errors, fix_special_errors) and tidecv/ap.py, version 1.0.1.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.evaluation.tide import INSTANCE_TYPES, MISS, TideTally
from workbench.evaluation.tide_matching import MATCHED

ERROR_TYPES = INSTANCE_TYPES[1:7]
"""The six types that have a dAP."""
_RECALLS = np.array([level / 100 for level in range(101)])


@dataclass(frozen=True)
class TideResult:
    """Fractions, None where no category has a detection or ground truth."""

    ap: float | None
    """AP at IoU 0.5 as tidecv takes it: a category with detections and no ground truth enters the mean as 0."""
    counts: dict[str, int]
    """Errors of each of `ERROR_TYPES`."""
    dap: dict[str, float | None]
    """AP that repairing each of `ERROR_TYPES` would add, never negative."""
    false_positive: float | None
    """AP that would be added if false positives all ranked last."""
    false_negative: float | None
    """AP that would be added if nothing unmatched had to be found."""


@dataclass(frozen=True)
class _Points:
    """A tally with one kind of error repaired: the detections that count, and the ground truth to find."""

    category: NDArray[np.int32]
    """(D,), positions among the K categories."""
    score: NDArray[np.float64]
    tp: NDArray[np.bool_]
    tie: NDArray[np.integer[Any]]
    """(D,), the order among equal scores."""
    gt: NDArray[np.int64]
    """(K,)."""


def dap(counts: TideTally, order: NDArray[np.int64], corrected: bool = False) -> TideResult:
    """Put a tally together; `order[image]` is the image's position in the annotation file, which decides at ties.

    tidecv types detections on crowds as errors, and a category without ground truth lowers its mean; `corrected` leaves
    both out.
    """
    measure = _Measure(counts, order, corrected)
    base = measure.mean(measure.base(measure.position))
    kinds = np.concatenate([counts.kind[~(counts.ignored & corrected)], counts.gt_kind[counts.gt_kind == MISS]])
    codes = range(1, 1 + len(ERROR_TYPES))
    repaired = [_gain(measure.mean(measure.repair(code)), base) for code in codes]
    return TideResult(
        ap=base,
        counts={name: int((kinds == code).sum()) for name, code in zip(ERROR_TYPES, codes, strict=True)},
        dap={name: None if gain is None else max(gain, 0.0) for name, gain in zip(ERROR_TYPES, repaired, strict=True)},
        false_positive=_gain(measure.mean(measure.without_false_positives()), base),
        false_negative=_gain(measure.mean(measure.without_false_negatives()), base),
    )


def _gain(better: float | None, base: float | None) -> float | None:
    return None if better is None or base is None else better - base


class _Measure:
    """The variants of one tally, and their AP."""

    def __init__(self, counts: TideTally, order: NDArray[np.int64], corrected: bool) -> None:
        categories = np.unique(np.concatenate([counts.category, counts.gt_category]))
        self.counts, self.corrected, self.n = counts, corrected, len(categories)
        # 4 bytes where they suffice: of a million images these columns are what evaluation takes most memory for.
        self.category = np.searchsorted(categories, counts.category).astype(np.int32)
        self.repaired_category = np.searchsorted(categories, counts.repaired_category).astype(np.int32)
        gt_category = np.searchsorted(categories, counts.gt_category)
        self.gt = np.bincount(gt_category, minlength=self.n)
        self.missed = np.bincount(gt_category[counts.gt_kind == MISS], minlength=self.n)
        self.unmatched = np.bincount(gt_category[counts.gt_kind != MATCHED], minlength=self.n)
        self.tp = counts.kind == MATCHED
        n = len(counts.image)
        self.position: NDArray[np.integer[Any]] = np.empty(n, dtype=np.int32 if 2 * n < 2**31 else np.int64)
        self.position[np.lexsort((counts.rank, order[counts.image]))] = np.arange(n, dtype=self.position.dtype)
        # A repaired list has its true positives last.
        self.after_errors: NDArray[np.integer[Any]] = self.position + self.tp * self.position.dtype.type(n)

    def base(self, tie: NDArray[np.integer[Any]]) -> _Points:
        """As detected."""
        rows = ~self.counts.ignored
        return _Points(self.category[rows], self.counts.score[rows], self.tp[rows], tie[rows], self.gt)

    def repair(self, code: int) -> _Points:
        """Without the errors of that type."""
        base = self.base(self.after_errors)
        if code == MISS:
            return _Points(base.category, base.score, base.tp, base.tie, self.gt - self.missed)
        of_type = self.counts.kind == code
        becomes_true = of_type & (self.counts.repaired_category >= 0)
        rows = becomes_true | (~of_type & ~self.counts.ignored)
        category = np.where(becomes_true, self.repaired_category, self.category)
        tp = self.tp | becomes_true
        return _Points(category[rows], self.counts.score[rows], tp[rows], self.after_errors[rows], self.gt)

    def without_false_positives(self) -> _Points:
        """False positives behind all true ones."""
        base = self.base(self.after_errors)
        return _Points(base.category, base.tp.astype(np.float64), base.tp, base.tie, base.gt)

    def without_false_negatives(self) -> _Points:
        """Ground truth that is not found is not there."""
        base = self.base(self.after_errors)
        return _Points(base.category, base.score, base.tp, base.tie, self.gt - self.unmatched)

    def mean(self, points: _Points) -> float | None:
        """Mean AP over the categories that have detections or ground truth."""
        detections = np.bincount(points.category, minlength=self.n)
        chosen = (points.gt > 0) | ((detections > 0) & (not self.corrected))
        if not chosen.any():
            return None
        rows = np.lexsort((points.tie, -points.score, points.category))
        ends = np.cumsum(detections)
        aps = np.zeros(self.n)
        for k in np.flatnonzero((detections > 0) & (points.gt > 0)):
            aps[k] = _average_precision(points.tp[rows[ends[k] - detections[k] : ends[k]]], int(points.gt[k]))
        return float(np.cumsum(aps[chosen])[-1]) / int(chosen.sum())


def _average_precision(tp: NDArray[np.bool_], gt: int) -> float:
    """AP of one category's detections (D,), D > 0, by falling score: precision at 101 recalls, averaged."""
    found = np.cumsum(tp)
    precision = found / np.arange(1, len(tp) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    reached = np.searchsorted(found / gt, _RECALLS, side="left")
    return float(np.cumsum(np.append(envelope, 0.0)[reached])[-1]) / len(_RECALLS)
