"""Average precision, first half: detections matched with ground truth, in columns, as pycocotools matches them.

Repeated as they are there: sizes go by the declared area, an annotation id of 0 means "not matched" although it is, and
only the 100 best detections of a category in an image count.
Source: pycocotools/cocoeval.py, computeIoU and evaluateImg.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workbench.evaluation import instance_ious, matching
from workbench.evaluation.columns import Segments
from workbench.evaluation.instance_ious import GEOMETRIES as GEOMETRIES
from workbench.evaluation.instance_ious import Geometry as Geometry
from workbench.evaluation.instance_ious import Groups

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
AREA_RANGES = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
"""Pixels, both ends included."""
MAX_DETECTIONS = (1, 10, 100)


@dataclass(frozen=True)
class InstanceMatches:
    """What became of the detections that count (the best 100 of a category in an image) and of the ground truth.

    Shapes: D detections, G rows of ground truth, A area ranges, T thresholds.
    """

    pred_rows: NDArray[np.int64]
    """(D,), grouped by image and category, by falling score within a group."""
    rank: NDArray[np.int64]
    """(D,), position in the group: 0 is the best."""
    gt_rows: NDArray[np.int32]
    """(D, A, T), the matched row of ground truth, -1 for none."""
    iou: NDArray[np.float64]
    """(D,), of the match at the first area range ("all") and threshold (0.5); NaN where there is none."""
    tp: NDArray[np.bool_]
    """(D, A, T)."""
    fp: NDArray[np.bool_]
    """(D, A, T). What is neither is ignored: matched with a crowd, or of another size."""
    countable: NDArray[np.bool_]
    """(G, A): ground truth to be found: of that size, and no crowd."""


def match(gt: Segments, pred: Segments, geometry: Geometry, corrected: bool = False) -> InstanceMatches:
    """Match every category's detections with its ground truth, image by image. Neither side has void rows.

    `corrected` counts an object in one size range only, and misses none that has no area.
    """
    gt_key, pred_key = _group_keys(gt, pred)
    gt_rows = np.lexsort((gt.ordinal, gt_key))
    pred_rows, rank = _best_detections(pred, pred_key)
    gt_key, det_key = gt_key[gt_rows], pred_key[pred_rows]
    gt_begin, gt_end = np.searchsorted(gt_key, det_key, "left"), np.searchsorted(gt_key, det_key, "right")
    groups = _groups(pred_rows, gt_rows, det_key, gt_begin, gt_end)
    ious, (pair_det, pair_gt) = instance_ious.ious_of(gt, pred, groups, geometry), groups.pairs()
    near = np.flatnonzero(ious >= IOU_THRESHOLDS[0])  # few: all others are never matched
    ious, pair_det, pair_gt = ious[near], pair_det[near], pair_gt[near]
    gt_area, det_area = gt.declared_area[gt_rows], pred.declared_area[pred_rows]
    iscrowd = gt.iscrowd[gt_rows]
    countable = ~iscrowd[:, None] & ~_out_of_range(gt_area, corrected)
    countable &= (gt_area > 0)[:, None] | (not corrected)

    kernels = instance_ious.compiled_kernels() or matching
    matched = kernels.match_detections(
        np.searchsorted(pair_det, np.arange(len(pred_rows) + 1)),
        pair_gt,
        ious,
        np.ascontiguousarray(~countable.T),
        iscrowd,
        IOU_THRESHOLDS,
    ).transpose(2, 0, 1)  # (dets, ranges, thresholds); -1 there picks what is appended below for "no match"
    iou, taken = np.full(len(pred_rows), np.nan), matched[pair_det, 0, 0] == pair_gt
    iou[pair_det[taken]] = ious[taken]
    # pycocotools reads a matched id of 0 as "no match", though the ground truth is taken.
    unmatched = np.append(gt.source_id[gt_rows] == 0, True)[matched]
    uncounted = np.append(~countable, np.zeros((1, len(AREA_RANGES)), np.bool_), axis=0)
    ignored = uncounted[matched, np.arange(len(AREA_RANGES))[:, None]]
    ignored |= unmatched & _out_of_range(det_area, corrected)[:, :, None]
    return InstanceMatches(
        pred_rows=pred_rows,
        rank=rank,
        gt_rows=np.append(gt_rows, -1).astype(np.int32)[matched],
        iou=iou,
        tp=~unmatched & ~ignored,
        fp=unmatched & ~ignored,
        countable=countable[np.argsort(gt_rows)],
    )


def _group_keys(gt: Segments, pred: Segments) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """One number for each image and category, for the rows of both sides."""
    categories = np.union1d(gt.category_id, pred.category_id)
    keys = [side.image * len(categories) + np.searchsorted(categories, side.category_id) for side in (gt, pred)]
    return keys[0], keys[1]


def _best_detections(pred: Segments, key: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows by key, then by falling score, then as in the file, at most 100 of a key; and each one's rank in its key."""
    order = np.lexsort((pred.ordinal, -pred.score, key))
    rank = np.arange(len(order)) - np.searchsorted(key[order], key[order], "left")
    counts = rank < MAX_DETECTIONS[-1]
    return order[counts], rank[counts]


def _groups(
    pred_rows: NDArray[np.int64],
    gt_rows: NDArray[np.int64],
    det_key: NDArray[np.int64],
    gt_begin: NDArray[np.int64],
    gt_end: NDArray[np.int64],
) -> Groups:
    """The keys that have both sides, from each detection's key and the span of ground truth that has it."""
    first = np.flatnonzero(np.diff(det_key, prepend=-1))  # detections that begin a key
    last = np.append(first[1:], len(det_key))
    both = (gt_end > gt_begin)[first]
    dets = np.stack([first[both], last[both]], axis=1)
    return Groups(pred_rows, gt_rows, dets, np.stack([gt_begin[dets[:, 0]], gt_end[dets[:, 0]]], axis=1))


def _out_of_range(areas: NDArray[np.float64], half_open: bool) -> NDArray[np.bool_]:
    """(n,) pixels -> (n, A), whether the area lies outside each of `AREA_RANGES`, whose upper end may be left out."""
    low, high = np.array(list(AREA_RANGES.values())).T
    above = areas[:, None] >= high if half_open else areas[:, None] > high
    return np.asarray((areas[:, None] < low) | above)


@dataclass(frozen=True)
class InstanceTally:
    """What AP is counted from, 27 bytes a detection: chunks may come in any order, joined with `columns.join`."""

    image: NDArray[np.int32]
    category: NDArray[np.int32]
    """Category id; so `gt_category`."""
    rank: NDArray[np.uint8]
    score: NDArray[np.float64]
    tp: NDArray[np.uint8]
    """(D, 5): the bits of (A, T), as `numpy.packbits` packs them; so `fp`."""
    fp: NDArray[np.uint8]
    gt_image: NDArray[np.int32]
    gt_category: NDArray[np.int32]
    gt_countable: NDArray[np.bool_]
    """(G, A)."""


def tally(gt: Segments, pred: Segments, matches: InstanceMatches) -> InstanceTally:
    """The matches of some images as rows that `average_precision.accumulate` puts together."""
    dets = len(matches.pred_rows)
    return InstanceTally(
        image=pred.image[matches.pred_rows].astype(np.int32),
        category=pred.category_id[matches.pred_rows],
        rank=matches.rank.astype(np.uint8),
        score=pred.score[matches.pred_rows],
        tp=np.packbits(matches.tp.reshape(dets, len(AREA_RANGES) * len(IOU_THRESHOLDS)), axis=1),
        fp=np.packbits(matches.fp.reshape(dets, len(AREA_RANGES) * len(IOU_THRESHOLDS)), axis=1),
        gt_image=gt.image.astype(np.int32),
        gt_category=gt.category_id,
        gt_countable=matches.countable,
    )
