"""How suspicious each label is, 0..1: how flatly the run contradicts it, times how reliable the run is in such cases.

| kind | suspicion |
| --- | --- |
| missing | share of a prediction that no label claims x share of similar predictions that are right |
| spurious | share of the label of which the run says something else x share of similar labels that are not missed |
| wrong_class | (1 - score x IoU of its own class) x share of similar predictions of the other class that are right |
| outline | (1 - IoU / usual IoU of similar labels) x share of the label of which the run says something |

Similar predictions are those of the class nearest in score, similar labels those of the class nearest in area, see
`records.py`. All four are products of shares, so kinds are ranked together. A label has the kind that fits it: its
place taken by another class (IoU above 0.5), nothing of its class there (IoU below 0.1), or an outline that fits worse.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workbench.auditing.evidence import Ids, Labels, Predictions, Values
from workbench.auditing.kinds import KINDS, Kind
from workbench.auditing.records import median_of_similar, share_of_similar
from workbench.evaluation.errors import NEAR_IOU

_SAME_PLACE_IOU = 0.5
_MOSTLY = 0.5  # of a prediction must be unclaimed for a label to be missing


@dataclass(frozen=True)
class OfLabels:
    """Every column has shape (labels,)."""

    suspicion: Values
    kind: NDArray[np.int8]
    """Position in `KINDS`."""
    missed: Values
    """Share of similar labels that the run misses."""
    other_right: Values
    """Share of right ones among predictions similar to that of the other class; 0 where there is none."""
    usual_iou: Values
    """NaN where the label's class is not predicted there."""


@dataclass(frozen=True)
class OfPredictions:
    """Every column has shape (predictions,)."""

    suspicion: Values
    """That its label is missing."""
    right: Values
    """Share of similar predictions that are right."""


def suspect_predictions(predictions: Predictions) -> OfPredictions:
    """How likely it is that each prediction shows a label that is missing."""
    right = share_of_similar(predictions.category_id, predictions.score, predictions.right, predictions.counted)
    alone = predictions.unclaimed > _MOSTLY
    return OfPredictions(np.where(alone, predictions.unclaimed * right, 0.0), right)


def suspect_labels(labels: Labels, predictions: Predictions, right: Values) -> OfLabels:
    """How likely it is that each label is wrong; `right` is that of `suspect_predictions`."""
    size = np.log(labels.area)
    own, other = labels.score * labels.iou, labels.other_score * labels.other_iou
    confused = (labels.other_iou > _SAME_PLACE_IOU) & (other > own)
    near = ~confused & (labels.iou >= NEAR_IOU)
    alone = ~confused & ~near
    missed = share_of_similar(labels.category_id, size, alone, np.ones(len(size), dtype=np.bool_))
    usual = median_of_similar(labels.category_id, size, labels.iou, near)
    other_right = _of_segments(labels.image, labels.other_segment, predictions, right)
    worse = np.clip(1 - labels.iou / np.where(near, usual, 1.0), 0.0, 1.0)
    of_kind: dict[Kind, tuple[NDArray[np.bool_], Values]] = {
        "spurious": (alone, labels.claimed * (1 - missed)),
        "wrong_class": (confused, (1 - own) * other_right),
        "outline": (near, worse * labels.claimed),
    }
    suspicion, kind = np.zeros(len(size)), np.full(len(size), KINDS.index("outline"), np.int8)
    for name, (chosen, values) in of_kind.items():
        suspicion[chosen], kind[chosen] = values[chosen], KINDS.index(name)
    return OfLabels(suspicion, kind, missed, other_right, usual)


def _of_segments(image: Ids, segment_id: Ids, predictions: Predictions, values: Values) -> Values:
    """The predictions' values by image and segment id; 0 for a segment that does not exist."""
    known = _key(predictions.image, predictions.segment_id)
    order = np.argsort(known, kind="stable")
    wanted = _key(image, segment_id)
    if not len(known):
        return np.zeros(len(wanted))
    place = order[np.minimum(np.searchsorted(known[order], wanted), len(known) - 1)]
    return np.where(known[place] == wanted, values[place], 0.0)


def _key(image: Ids, segment_id: Ids) -> Ids:
    """One number for an image and a segment id of 32 bits."""
    return (image << 32) + segment_id
