"""COCO's greedy matching as plain loops: compiled by `instance_kernels.py`, run as it stands without numba."""

import numpy as np
from numpy.typing import NDArray


def match_detections(
    begins: NDArray[np.int64],
    pair_gt: NDArray[np.int64],
    pair_iou: NDArray[np.float64],
    ignored: NDArray[np.bool_],
    iscrowd: NDArray[np.bool_],
    thresholds: NDArray[np.float64],
) -> NDArray[np.int32]:
    """The ground truth that each detection is matched with, -1 for none: int32 of shape (ranges, thresholds, dets).

    Detections come by falling score within their image and category. Detection d may be matched with the ground truth
    `pair_gt[begins[d]:begins[d + 1]]`, in the order of the file, at the IoUs `pair_iou`; pairs below the lowest
    threshold can be left out. `ignored` (ranges, gts) ground truth is taken only where no other fits, and `iscrowd`
    (gts,) any number of times. Source: pycocotools/cocoeval.py, evaluateImg.
    """
    matched = np.full((len(ignored), len(thresholds), len(begins) - 1), -1, dtype=np.int32)
    hopeful = np.flatnonzero(begins[1:] > begins[:-1])
    taken = np.zeros(len(iscrowd), dtype=np.bool_)
    for area_range in range(len(ignored)):
        for level in range(len(thresholds)):
            taken[:] = False
            for det in hopeful:
                best = -1
                for only_ignored in (False, True):
                    best_iou = min(thresholds[level], 1 - 1e-10)
                    for pair in range(begins[det], begins[det + 1]):
                        gt = pair_gt[pair]
                        if ignored[area_range, gt] != only_ignored or (taken[gt] and not iscrowd[gt]):
                            continue
                        if pair_iou[pair] >= best_iou:  # of equal ones the last: the official loop goes on at a tie
                            best, best_iou = gt, pair_iou[pair]
                    if best >= 0:
                        taken[best] = True
                        matched[area_range, level, det] = best
                        break
    return matched
