"""The match table: every predicted and every ground-truth segment with what became of it, as Arrow rows.

For panoptic runs it follows PQ's matching, for instances AP's at IoU 0.5 and all sizes; a class of a semantic map is
matched with the same class of the image.
"""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from workbench.evaluation.columns import Segments
from workbench.evaluation.errors import MAP_TYPES, SegmentErrors
from workbench.evaluation.instance import InstanceMatches
from workbench.evaluation.overlaps import Overlaps
from workbench.evaluation.panoptic import PanopticMatches
from workbench.evaluation.tide import INSTANCE_TYPES, TideMatches
from workbench.formats.base import Task

MATCH_SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),  # "prediction" or "ground_truth"
        pa.field("task", pa.string(), nullable=False),  # the matching: things of a panoptic run are in two of them
        pa.field("segment_id", pa.int32(), nullable=False),  # of the run or of that task's ground truth
        pa.field("category_id", pa.int32(), nullable=False),
        pa.field("score", pa.float64()),
        pa.field("area", pa.int64(), nullable=False),
        pa.field("status", pa.string(), nullable=False),  # one of STATUSES
        pa.field("matched_segment_id", pa.int32()),  # on the other side
        pa.field("iou", pa.float64()),  # with it, as the metric computes it
        pa.field("error_type", pa.string(), nullable=False),  # of errors.MAP_TYPES; instances: tide.INSTANCE_TYPES
        pa.field("error_segment_id", pa.int32()),  # on the other side: what error_type is about
    ]
)
STATUSES = ("tp", "fp", "fn", "ignored", "crowd", "void")
"""Predictions are tp, fp or ignored (not scored: on void or a crowd, beyond the best 100); ground truth is tp (found),
fn (missed), crowd or void."""
_TP, _FP, _FN, _IGNORED, _CROWD, _VOID = range(len(STATUSES))

_Side = tuple[NDArray[np.int8], NDArray[np.int64], NDArray[np.float64]]  # status, matched row or -1, IoU or NaN
_Errors = tuple[tuple[str, ...], NDArray[np.int8], NDArray[np.int64]]  # names, code, row of the other side or -1


def panoptic_rows(gt: Segments, pred: Segments, matches: PanopticMatches, errors: SegmentErrors) -> pa.Table:
    """Rows of PQ's matching."""
    found, predicted = _ground_truth_side(gt), _side(len(pred), _IGNORED)
    for side, rows, others in (
        (found, matches.gt_rows, matches.pred_rows),
        (predicted, matches.pred_rows, matches.gt_rows),
    ):
        _pair(side, rows, others, matches.iou)
    found[0][np.setdiff1d(np.flatnonzero(found[0] == _FN), matches.missed)] = _VOID  # nothing to be found
    predicted[0][matches.false] = _FP
    return _both("panoptic", gt, pred, (found, predicted), _map_errors(errors))


def instance_rows(gt: Segments, pred: Segments, matches: InstanceMatches, errors: TideMatches) -> pa.Table:
    """Rows of AP's matching at IoU 0.5 for all sizes; a detection on a crowd is ignored and still names it."""
    found, predicted = _ground_truth_side(gt), _side(len(pred), _IGNORED)
    at_half = matches.gt_rows[:, 0, 0].astype(np.int64)
    has_match = at_half >= 0
    dets, gts, iou = matches.pred_rows[has_match], at_half[has_match], matches.iou[has_match]
    _pair(predicted, dets, gts, iou)
    no_crowd = ~gt.iscrowd[gts]
    _pair(found, gts[no_crowd], dets[no_crowd], iou[no_crowd])
    tp = matches.tp[:, 0, 0]
    predicted[0][matches.pred_rows] = np.where(tp, _TP, np.where(matches.fp[:, 0, 0], _FP, _IGNORED))
    found[0][gts[no_crowd & ~tp[has_match]]] = _FN  # annotation id 0: matched, and yet not counted
    found[0][~matches.countable[:, 0] & ~gt.iscrowd] = _VOID  # nothing to be found
    types = (
        (INSTANCE_TYPES, errors.gt_kind, errors.gt_about),
        (INSTANCE_TYPES, *errors.pred_codes(len(pred))),
    )
    return _both("instance", gt, pred, (found, predicted), types)


def semantic_rows(gt: Segments, pred: Segments, overlaps: Overlaps, errors: SegmentErrors) -> pa.Table:
    """A class's pixels in an image are tp where prediction and ground truth share a pixel; the IoU leaves out void."""
    found, predicted = _ground_truth_side(gt), _side(len(pred), _FP)
    first, second, pixels = overlaps.first, overlaps.second, overlaps.pixels
    is_void = gt.is_void[first]
    on_void = np.zeros(len(pred), dtype=np.int64)
    np.add.at(on_void, second[is_void], pixels[is_void])
    same = gt.category_id[first] == pred.category_id[second]
    gts, preds = first[same], second[same]
    iou = pixels[same] / (gt.area[gts] + pred.area[preds] - on_void[preds] - pixels[same])
    _pair(found, gts, preds, iou)
    _pair(predicted, preds, gts, iou)
    predicted[0][on_void == pred.area] = _IGNORED
    return _both("semantic", gt, pred, (found, predicted), _map_errors(errors))


def _map_errors(errors: SegmentErrors) -> tuple[_Errors, _Errors]:
    return (MAP_TYPES, errors.gt_code, errors.gt_other), (MAP_TYPES, errors.pred_code, errors.pred_other)


def _side(rows: int, status: int) -> _Side:
    return np.full(rows, status, np.int8), np.full(rows, -1, np.int64), np.full(rows, np.nan)


def _ground_truth_side(gt: Segments) -> _Side:
    side = _side(len(gt), _FN)
    side[0][gt.iscrowd] = _CROWD
    side[0][gt.is_void] = _VOID
    return side


def _pair(side: _Side, rows: NDArray[np.int64], others: NDArray[np.int64], iou: NDArray[np.float64]) -> None:
    status, matched, ious = side
    status[rows], matched[rows], ious[rows] = _TP, others, iou


def _both(
    task: Task, gt: Segments, pred: Segments, sides: tuple[_Side, _Side], errors: tuple[_Errors, _Errors]
) -> pa.Table:
    """The pairs hold ground truth, then predictions; the table the other way round."""
    return pa.concat_tables(
        [
            _table(task, "prediction", pred, sides[1], errors[1], gt.segment_id),
            _table(task, "ground_truth", gt, sides[0], errors[0], pred.segment_id),
        ]
    )


def _table(
    task: Task, kind: str, segments: Segments, side: _Side, errors: _Errors, other_ids: NDArray[np.int32]
) -> pa.Table:
    status, matched, iou = side
    names, code, about = errors
    columns = {
        "image_id": segments.image_id,
        "kind": pa.repeat(kind, len(segments)),
        "task": pa.repeat(task, len(segments)),
        "segment_id": segments.segment_id,
        "category_id": segments.category_id,
        "score": pa.array(segments.score, mask=np.isnan(segments.score)),
        "area": segments.area,
        "status": pa.array(STATUSES).take(pa.array(status)),
        "matched_segment_id": _ids(other_ids, matched),
        "iou": pa.array(iou, mask=matched < 0),
        "error_type": pa.array(names).take(pa.array(code)),
        "error_segment_id": _ids(other_ids, about),
    }
    return pa.table(columns, schema=MATCH_SCHEMA)


def _ids(other_ids: NDArray[np.int32], rows: NDArray[np.int64]) -> pa.Int32Array:
    return pa.array(np.append(other_ids, 0)[rows], pa.int32(), mask=rows < 0)
