"""COCO's greedy matching as plain loops: compiled by `kernels.py`, run as it stands where numba cannot be imported."""

import numpy as np
from numpy.typing import NDArray


def match_groups(
    groups: NDArray[np.int64],
    gt_rows: NDArray[np.int64],
    ious: NDArray[np.float64],
    iou_begin: NDArray[np.int64],
    ignored: NDArray[np.bool_],
    iscrowd: NDArray[np.bool_],
    thresholds: NDArray[np.float64],
) -> NDArray[np.int32]:
    """The ground truth that each detection is matched with, -1 for none: int32 of shape (ranges, thresholds, dets).

    Detections and ground truth are grouped by image and category, detections by falling score within their group.
    `groups` (groups, 2) holds the begin and end of each group's detections, `gt_rows` (groups, 2) of its ground truth.
    The IoUs of detection d with the ground truth of its group begin at `ious[iou_begin[d]]`; -1 there says that none
    reaches the lowest threshold. `ignored` (ranges, gts) ground truth is taken only where no other fits, and `iscrowd`
    (gts,) any number of times. Source: pycocotools/cocoeval.py, evaluateImg.
    """
    matched = np.full((len(ignored), len(thresholds), len(iou_begin)), -1, dtype=np.int32)
    taken = np.zeros(len(iscrowd), dtype=np.bool_)
    for group in range(len(groups)):
        gt_begin, gt_end = gt_rows[group, 0], gt_rows[group, 1]
        for area_range in range(len(ignored)):
            for level in range(len(thresholds)):
                taken[gt_begin:gt_end] = False
                for det in range(groups[group, 0], groups[group, 1]):
                    if iou_begin[det] < 0:
                        continue
                    best = -1
                    for only_ignored in (False, True):
                        best_iou = min(thresholds[level], 1 - 1e-10)
                        for gt in range(gt_begin, gt_end):
                            if ignored[area_range, gt] != only_ignored or (taken[gt] and not iscrowd[gt]):
                                continue
                            iou = ious[iou_begin[det] + gt - gt_begin]
                            if iou >= best_iou:  # of equal ones the last: the official loop goes on at a tie
                                best, best_iou = gt, iou
                        if best >= 0:
                            break
                    if best >= 0:
                        taken[best] = True
                        matched[area_range, level, det] = best
    return matched
