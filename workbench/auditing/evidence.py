"""What a run and the ground truth say of each other: labels with the predictions on them, predictions without label.

IoU as PQ computes it: predicted pixels on void count nowhere. Crowds and void are no labels to doubt. Of several
predictions on a label the one that speaks most clearly counts: the largest score x IoU.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.evaluation.columns import Segments
from workbench.evaluation.errors import NEAR_IOU
from workbench.evaluation.overlaps import Overlaps

NONE = -1
"""A segment or category that does not exist."""

Ids = NDArray[np.int64]
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Labels:
    """Ground-truth segments to doubt; every column has shape (labels,), `box` (labels, 4)."""

    image: Ids
    """Position in the list of images."""
    segment_id: Ids
    source_id: Ids
    category_id: Ids
    area: Ids
    box: Values
    """x, y, width, height in pixels, as declared."""
    claimed: Values
    """Share of its pixels of which the run says what they are."""
    segment: Ids
    """The prediction of its class that speaks most clearly; `NONE` where none touches it. So the next two."""
    score: Values
    """1 where the run has no scores, 0 without prediction."""
    iou: Values
    other_segment: Ids
    """The same among predictions of other classes."""
    other_category_id: Ids
    other_score: Values
    other_iou: Values


@dataclass(frozen=True)
class Predictions:
    """Predicted segments; every column has shape (predictions,), `box` (predictions, 4)."""

    image: Ids
    segment_id: Ids
    category_id: Ids
    area: Ids
    box: Values
    score: Values
    """1 where the run has none."""
    right: NDArray[np.bool_]
    """True positives of the run's metric."""
    counted: NDArray[np.bool_]
    """True and false positives; the metric ignores the others."""
    unclaimed: Values
    """Share of its pixels that no label claims, see `_unclaimed`; 0 where a label of its class is near."""


def labels_of(gt: Segments, pred: Segments, overlaps: Overlaps, says_all: bool) -> Labels:
    """The labels of some images; `overlaps` is `intersect(gt, pred)`. With `says_all` every pixel counts as claimed."""
    first, second, pixels = overlaps.first, overlaps.second, overlaps.pixels
    on_void = _sum(len(pred), second, pixels, gt.is_void[first])
    iou = pixels / (gt.area[first] + (pred.area - on_void)[second] - pixels)
    same = gt.category_id[first] == pred.category_id[second]
    score = _scores(pred)
    own, own_iou = _clearest(len(gt), overlaps, iou, score, same)
    other, other_iou = _clearest(len(gt), overlaps, iou, score, ~same)
    covered = np.minimum(_sum(len(gt), first, pixels, np.ones(len(first), dtype=np.bool_)) / np.maximum(gt.area, 1), 1)
    kept = ~gt.is_void & ~gt.iscrowd & (gt.area > 0)
    return Labels(
        image=gt.image[kept],
        segment_id=gt.segment_id[kept].astype(np.int64),
        source_id=gt.source_id[kept],
        category_id=gt.category_id[kept].astype(np.int64),
        area=gt.area[kept],
        box=gt.bbox[kept],
        claimed=np.ones(int(kept.sum())) if says_all else covered[kept],
        segment=_at(pred.segment_id, own[kept]),
        score=np.append(score, 0.0)[own[kept]],
        iou=own_iou[kept],
        other_segment=_at(pred.segment_id, other[kept]),
        other_category_id=_at(pred.category_id, other[kept]),
        other_score=np.append(score, 0.0)[other[kept]],
        other_iou=other_iou[kept],
    )


def predictions_of(
    gt: Segments, pred: Segments, overlaps: Overlaps, isthing: Mapping[int, bool], status: NDArray[Any]
) -> Predictions:
    """The predictions of some images; `status` of shape (predictions,) is the match table's.

    What that table lacks (status "") was not compared, as stuff is not with instances: its label is not missing.
    """
    right = np.asarray(status == "tp")
    return Predictions(
        image=pred.image,
        segment_id=pred.segment_id.astype(np.int64),
        category_id=pred.category_id.astype(np.int64),
        area=pred.area,
        box=pred.bbox,
        score=_scores(pred),
        right=right,
        counted=right | (status == "fp"),
        unclaimed=np.where(right | (status == ""), 0.0, _unclaimed(gt, pred, overlaps, isthing)),
    )


def _unclaimed(gt: Segments, pred: Segments, overlaps: Overlaps, isthing: Mapping[int, bool]) -> Values:
    """(predictions,), of a thing the share that is void or stuff in the ground truth; of stuff the share that is void.

    Who leaves out a thing paints the stuff behind it, or nothing; who leaves out stuff leaves void. 0 for what lies for
    more than half in a label of its class, or has an IoU of 0.1 or more with one: then that label is to be doubted.
    """
    first, second, pixels = overlaps.first, overlaps.second, overlaps.pixels
    void = gt.is_void[first]
    claims = np.where(_things(pred, isthing)[second], _things(gt, isthing)[first], True) & ~void
    claimed = _sum(len(pred), second, pixels, claims)
    near = (gt.category_id[first] == pred.category_id[second]) & ~void
    near &= (pixels >= NEAR_IOU * (gt.area[first] + pred.area[second] - pixels)) | (2 * pixels > pred.area[second])
    share = np.maximum(1 - claimed / np.maximum(pred.area, 1), 0.0)  # labels of instances may overlap
    share[second[near]] = 0.0
    return share


def _clearest(
    rows: int, overlaps: Overlaps, iou: Values, score: Values, chosen: NDArray[np.bool_]
) -> tuple[Ids, Values]:
    """For each row of the first side the row of the second with the largest score x IoU, and its IoU; -1 and 0."""
    first, second, iou = overlaps.first[chosen], overlaps.second[chosen], iou[chosen]
    order = np.lexsort((iou, score[second] * iou))
    best, best_iou = np.full(rows, NONE, dtype=np.int64), np.zeros(rows)
    best[first[order]], best_iou[first[order]] = second[order], iou[order]
    return best, best_iou


def _scores(pred: Segments) -> Values:
    return np.where(np.isnan(pred.score), 1.0, pred.score)


def _things(segments: Segments, isthing: Mapping[int, bool]) -> NDArray[np.bool_]:
    return np.array([isthing.get(category_id, False) for category_id in segments.category_id.tolist()], dtype=np.bool_)


def _sum(rows: int, into: Ids, pixels: Ids, where: NDArray[np.bool_]) -> Ids:
    total = np.zeros(rows, dtype=np.int64)
    np.add.at(total, into[where], pixels[where])
    return total


def _at(ids: NDArray[np.int32], rows: Ids) -> Ids:
    """The ids of those rows; `NONE` for row -1."""
    return np.append(ids, NONE)[rows].astype(np.int64)
