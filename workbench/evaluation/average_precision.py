"""Average precision, second half: precision and recall curves and COCO's 12 numbers from a tally of matches.

The arrays are bit for bit those of pycocotools/cocoeval.py, accumulate and summarize; -1 there means that a category
has no ground truth of that size.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from workbench.evaluation import instance_ious
from workbench.evaluation.instance import AREA_RANGES, IOU_THRESHOLDS, MAX_DETECTIONS, InstanceTally

RECALL_THRESHOLDS = np.linspace(0.0, 1.0, 101)
_MOST_CELLS = 2**18  # thresholds x detections of one category worked on at once: about 10 MB
SUMMARY = {
    "AP": ("precision", None, "all", 100),
    "AP50": ("precision", 0.5, "all", 100),
    "AP75": ("precision", 0.75, "all", 100),
    "APs": ("precision", None, "small", 100),
    "APm": ("precision", None, "medium", 100),
    "APl": ("precision", None, "large", 100),
    "AR1": ("recall", None, "all", 1),
    "AR10": ("recall", None, "all", 10),
    "AR100": ("recall", None, "all", 100),
    "ARs": ("recall", None, "small", 100),
    "ARm": ("recall", None, "medium", 100),
    "ARl": ("recall", None, "large", 100),
}
"""The 12 numbers in pycocotools' order: which array, IoU threshold (None: all), area range, limit of detections."""


@dataclass(frozen=True)
class InstanceResult:
    """Curves of every category: T thresholds, R recall levels, K categories, A area ranges, M detection limits."""

    category_ids: NDArray[np.int32]
    """(K,), ascending."""
    precision: NDArray[np.float64]
    """(T, R, K, A, M)."""
    recall: NDArray[np.float64]
    """(T, K, A, M)."""
    scores: NDArray[np.float64]
    """(T, R, K, A, M), the score at which the recall level is reached; 0 where it never is."""
    gt: NDArray[np.int64]
    """(K, A), how much ground truth there is to be found."""

    def summary(self, category: int | None = None) -> dict[str, float | None]:
        """COCO's 12 numbers, of all categories or of the one at that position; None where pycocotools says -1."""
        return {name: self._mean(*what, category) for name, what in SUMMARY.items()}

    def _mean(self, array: str, iou: float | None, area: str, limit: int, category: int | None) -> float | None:
        values: NDArray[np.float64] = getattr(self, array)
        if category is not None:
            values = values[..., category : category + 1, :, :]
        if iou is not None:
            values = values[np.flatnonzero(iou == IOU_THRESHOLDS)]
        # Lists, not numbers, as indices: the layout, and with it the order of summation, is that of pycocotools.
        values = values[..., [list(AREA_RANGES).index(area)], [MAX_DETECTIONS.index(limit)]]
        values = values[values > -1]
        return float(np.mean(values)) if len(values) else None


def accumulate(counts: InstanceTally, category_ids: NDArray[np.int32], order: NDArray[np.int64]) -> InstanceResult:
    """Put a tally together by category.

    `category_ids` ascends and holds every category of the tally; `order[image]` is the image's position among ascending
    image ids, which decides between detections of equal score.
    """
    shape = (len(category_ids), len(AREA_RANGES), len(MAX_DETECTIONS))
    precision = -np.ones((len(IOU_THRESHOLDS), len(RECALL_THRESHOLDS), *shape))
    recall = -np.ones((len(IOU_THRESHOLDS), *shape))
    scores = -np.ones_like(precision)
    gt = np.zeros(shape[:2], dtype=np.int64)
    np.add.at(gt, np.searchsorted(category_ids, counts.gt_category), counts.gt_countable)
    sequence = np.lexsort((counts.rank, order[counts.image], -counts.score, counts.category))
    bounds = np.append(np.searchsorted(counts.category[sequence], category_ids), len(sequence))
    kernels = instance_ious.compiled_kernels()
    if kernels is None:
        _fill_curves(sequence, bounds, counts, gt, (precision, recall, scores))
    else:
        # Compiled for arrays that may be written to; those read from files may not.
        columns = (
            np.require(column, requirements=["C", "W"]) for column in (counts.rank, counts.score, counts.tp, counts.fp)
        )
        limits = np.array(MAX_DETECTIONS, dtype=np.int64)
        kernels.fill_curves(sequence, bounds, *columns, gt, RECALL_THRESHOLDS, limits, precision, recall, scores)
    return InstanceResult(category_ids, precision, recall, scores, gt)


def _fill_curves(
    sequence: NDArray[np.int64],
    bounds: NDArray[np.int64],
    counts: InstanceTally,
    gt: NDArray[np.int64],
    curves: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]],
) -> None:
    """`instance_kernels.fill_curves` where numba cannot be imported."""
    precision, recall, scores = curves
    for k, (begin, end) in enumerate(pairwise(bounds)):
        rows = sequence[begin:end]
        tp, fp = _unpack(counts.tp[rows]), _unpack(counts.fp[rows])
        for a, m in np.ndindex(len(AREA_RANGES), len(MAX_DETECTIONS)):
            if not gt[k, a]:
                continue
            within = counts.rank[rows] < MAX_DETECTIONS[m]
            curve = _curve(tp[within, a].T, fp[within, a].T, counts.score[rows][within], int(gt[k, a]))
            precision[:, :, k, a, m], recall[:, k, a, m], scores[:, :, k, a, m] = curve


def _unpack(bits: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(D, 5) -> (D, A, T)."""
    shape = (len(AREA_RANGES), len(IOU_THRESHOLDS))
    return np.unpackbits(bits, axis=1, count=shape[0] * shape[1]).astype(np.bool_).reshape(len(bits), *shape)


def _curve(
    tp: NDArray[np.bool_], fp: NDArray[np.bool_], score: NDArray[np.float64], gt: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Detections (T, D) by falling `score` (D,) -> precision (T, R), last recall (T,) and scores (T, R)."""
    if tp.size > _MOST_CELLS and len(tp) > 1:
        half = len(tp) // 2
        parts = _curve(tp[:half], fp[:half], score, gt), _curve(tp[half:], fp[half:], score, gt)
        precision, recall, scores = (np.concatenate(pair) for pair in zip(*parts, strict=True))
        return precision, recall, scores
    precision = np.zeros((len(tp), len(RECALL_THRESHOLDS)))
    scores = np.zeros_like(precision)
    if not len(score):
        return precision, np.zeros(len(tp)), scores
    tp_sum = np.cumsum(tp, axis=1).astype(np.float64)
    fp_sum = np.cumsum(fp, axis=1).astype(np.float64)
    recall = tp_sum / gt
    raw = tp_sum / (fp_sum + tp_sum + np.spacing(1))
    envelope = np.maximum.accumulate(raw[:, ::-1], axis=1)[:, ::-1]
    for level in range(len(tp)):
        reached = np.searchsorted(recall[level], RECALL_THRESHOLDS, side="left")
        reached = reached[reached < len(score)]
        precision[level, : len(reached)] = envelope[level, reached]
        scores[level, : len(reached)] = score[reached]
    return precision, recall[:, -1], scores
