"""What a run's match table says of each object, put on the documents and added up as FiftyOne's evaluations want it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from workbench.evaluation.columns import Segments, segments_of
from workbench.evaluation.overlaps import intersect
from workbench.segments import void_mask
from workbench.voxel51.documents import Document, object_id
from workbench.voxel51.matches import ImageMatches, Match, MatchTable

Pair = tuple[str | None, str | None, float | None, float | None, str | None, str | None]
"""(ground truth's label, predicted label, IoU, score, ground truth's id, prediction's id): FiftyOne's match."""

CONFUSED = "confused"
ERROR = "error"
SCORE_FIELDS = {"tp": "IntField", "fp": "IntField", "fn": "IntField", "quality": "FloatField"}
"""What a sample gets: `ImageScore`."""
_CONFUSION_IOU = 0.5  # beyond it a miss and a false positive are one object of the wrong class


@dataclass(frozen=True)
class Keys:
    """Under which names an evaluation is kept."""

    metric: str
    """The evaluation of the matches that the metric counts: of the same class."""
    confusion: str
    """The evaluation that also pairs misses with false positives of another class."""
    gt_field: str
    pred_field: str

    def attributes(self) -> dict[str, str]:
        """Attributes of objects on both sides, and FiftyOne's field classes."""
        kinds = {"": "StringField", "_id": "StringField", "_iou": "FloatField"}
        both = {key + suffix: kind for key in (self.metric, self.confusion) for suffix, kind in kinds.items()}
        return {**both, f"{self.metric}_{CONFUSED}": "StringField", f"{self.metric}_{ERROR}": "StringField"}


@dataclass(frozen=True)
class Scored:
    """What an evaluation of a run found, and where that goes."""

    matches: MatchTable
    keys: Keys


@dataclass
class Tally:
    """What an evaluation adds up to; grows by some 0.3 KB an object."""

    matches: list[Pair] = field(default_factory=list)
    confusion: list[Pair] = field(default_factory=list)


@dataclass(frozen=True)
class ImageScore:
    """An image's counts at the metric's own matching."""

    tp: int
    fp: int
    fn: int
    quality: float | None
    """Sum of IoU over tp + (fp + fn) / 2: the image's PQ without classes; None where there is nothing to count."""


def confused_pairs(
    gt_table: pa.Table, pred_table: pa.Table, matches: Mapping[str, ImageMatches]
) -> dict[str, dict[int, tuple[int, float]]]:
    """For each image: missed segment -> (false positive of another class on the same place, their IoU).

    Both are those of IoU > 0.5, larger ones first, each used once.
    """
    ids = list(matches)
    gt = segments_of(gt_table.filter(~void_mask(gt_table)), ids)
    pred = segments_of(pred_table.filter(~void_mask(pred_table)), ids)
    gt = gt.take(_with_status(gt, {i: m.ground_truth for i, m in matches.items()}, "fn"))
    pred = pred.take(_with_status(pred, {i: m.prediction for i, m in matches.items()}, "fp"))
    overlaps = intersect(gt, pred)
    union = gt.area[overlaps.first] + pred.area[overlaps.second] - overlaps.pixels
    iou = overlaps.pixels / np.maximum(union, 1)
    found: dict[str, dict[int, tuple[int, float]]] = {image_id: {} for image_id in ids}
    taken: set[tuple[str, int]] = set()
    for pair in np.argsort(-iou, kind="stable"):
        if iou[pair] <= _CONFUSION_IOU:
            break
        first, second = overlaps.first[pair], overlaps.second[pair]
        image_id, missed, false = ids[gt.image[first]], int(gt.segment_id[first]), int(pred.segment_id[second])
        if gt.category_id[first] == pred.category_id[second]:
            continue  # a duplicate of something that was found, or below the metric's own threshold
        if missed not in found[image_id] and (image_id, false) not in taken:
            found[image_id][missed] = false, float(iou[pair])
            taken.add((image_id, false))
    return found


def put_on(
    gt: Sequence[Document],
    pred: Sequence[Document],
    image_id: str,
    matches: ImageMatches,
    confused: Mapping[int, tuple[int, float]],
    keys: Keys,
    tally: Tally,
) -> ImageScore:
    """Give an image's documents what became of them, add them to the tally, and score the image."""
    gt_of, pred_of = _by_segment(gt), _by_segment(pred)
    for documents, side, other_field in (
        (gt_of, matches.ground_truth, keys.pred_field),
        (pred_of, matches.prediction, keys.gt_field),
    ):
        for segment_id, document in documents.items():
            _describe(document, side.get(segment_id), image_id, other_field, keys)
    # A user may have deleted objects of the ground truth in the App: they are in no pair then.
    confused = {missed: found for missed, found in confused.items() if missed in gt_of}
    for missed, (false, iou) in confused.items():
        _confuse(gt_of[missed], pred_of[false], iou, keys)
        tally.confusion.append(_pair(gt_of[missed], pred_of[false], iou))
    _add_to(tally, gt_of, pred_of, matches, confused)
    return _score(matches)


def _describe(document: Document, match: Match | None, image_id: str, other_field: str, keys: Keys) -> None:
    for name in keys.attributes():
        document.pop(name, None)  # of an earlier evaluation
    if match is None:
        return
    for key in (keys.metric, keys.confusion):
        document[key] = match.status
        document[f"{key}_id"] = "" if match.other is None else str(object_id(other_field, image_id, match.other))
        if match.iou is not None and isfinite(match.iou):
            document[f"{key}_iou"] = match.iou
    if match.error is not None:
        document[f"{keys.metric}_{ERROR}"] = match.error


def _confuse(missed: Document, false: Document, iou: float, keys: Keys) -> None:
    for document, other in ((missed, false), (false, missed)):
        document[f"{keys.confusion}_id"] = str(other["_id"])
        document[f"{keys.confusion}_iou"] = iou
        document[f"{keys.metric}_{CONFUSED}"] = other["label"]


def _add_to(
    tally: Tally,
    gt: Mapping[int, Document],
    pred: Mapping[int, Document],
    matches: ImageMatches,
    confused: Mapping[int, tuple[int, float]],
) -> None:
    paired = {false for false, _ in confused.values()}
    for segment_id, match in matches.prediction.items():
        if match.status == "tp" and match.other is not None:
            pair = _pair(gt.get(match.other), pred[segment_id], match.iou)
        elif match.status == "fp":
            pair = _pair(None, pred[segment_id], None)
        else:
            continue
        tally.matches.append(pair)
        if segment_id not in paired:
            tally.confusion.append(pair)
    for segment_id, match in matches.ground_truth.items():
        if match.status == "fn" and segment_id in gt:
            pair = _pair(gt[segment_id], None, None)
            tally.matches.append(pair)
            if segment_id not in confused:
                tally.confusion.append(pair)


def _pair(gt: Document | None, pred: Document | None, iou: float | None) -> Pair:
    return (
        None if gt is None else gt["label"],
        None if pred is None else pred["label"],
        iou if iou is None or isfinite(iou) else None,
        None if pred is None else pred.get("confidence"),
        None if gt is None else str(gt["_id"]),
        None if pred is None else str(pred["_id"]),
    )


def _score(matches: ImageMatches) -> ImageScore:
    found = [match for match in matches.prediction.values() if match.status == "tp"]
    fp = sum(match.status == "fp" for match in matches.prediction.values())
    fn = sum(match.status == "fn" for match in matches.ground_truth.values())
    weight = len(found) + (fp + fn) / 2
    iou_sum = sum(match.iou for match in found if match.iou is not None and isfinite(match.iou))
    return ImageScore(len(found), fp, fn, iou_sum / weight if weight else None)


def _by_segment(documents: Sequence[Document]) -> dict[int, Document]:
    """Without what users added in the App, which has no segment id."""
    return {document["segment_id"]: document for document in documents if document.get("segment_id") is not None}


def _with_status(segments: Segments, sides: Mapping[str, Mapping[int, Match]], status: str) -> NDArray[np.bool_]:
    rows = zip(segments.image_id.to_pylist(), segments.segment_id.tolist(), strict=True)
    return np.array(
        [(match := sides[image].get(segment)) is not None and match.status == status for image, segment in rows],
        dtype=np.bool_,
    )
