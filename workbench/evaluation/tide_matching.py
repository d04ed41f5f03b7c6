"""TIDE's matching and error types as plain loops: compiled by `kernels.py`, run as it stands without numba."""

import numpy as np
from numpy.typing import NDArray

MATCHED, CLS, LOC, BOTH, DUPE, BKG = range(6)
POSITIVE_IOU = 0.5
BACKGROUND_IOU = 0.1


def type_detections(
    begins: NDArray[np.int64],
    pair_gt: NDArray[np.int64],
    pair_iou: NDArray[np.float64],
    same_category: NDArray[np.bool_],
    gts: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Each detection's type (D,) and the ground truth that it is about (D,), -1 for none.

    Detections come image by image, by falling score. Detection d shares pixels with the ground truth
    `pair_gt[begins[d]:begins[d + 1]]`, in the order of the file, at the IoUs `pair_iou`; `gts` is how much ground truth
    there is, crowds left out. Source: tidecv/quantify.py, TIDEExample._run and TIDERun._eval_image.
    """
    dets = len(begins) - 1
    kind = np.full(dets, BKG, np.int64)
    about = np.full(dets, -1, np.int64)
    taken = np.zeros(gts, np.bool_)
    for det in range(dets):
        best, best_iou = -1, 0.0
        for pair in range(begins[det], begins[det + 1]):
            if same_category[pair] and not taken[pair_gt[pair]] and pair_iou[pair] > best_iou:
                best, best_iou = pair_gt[pair], pair_iou[pair]
        if best >= 0 and best_iou >= POSITIVE_IOU:
            taken[best] = True
            kind[det], about[det] = MATCHED, best
    for det in range(dets):
        if kind[det] == MATCHED:
            continue
        own, other, used = -1, -1, -1
        own_iou, other_iou, used_iou = 0.0, 0.0, 0.0
        for pair in range(begins[det], begins[det + 1]):
            gt, iou = pair_gt[pair], pair_iou[pair]
            if not same_category[pair]:
                if iou > other_iou:
                    other, other_iou = gt, iou
                continue
            if iou > own_iou:
                own, own_iou = gt, iou
            if taken[gt] and iou > used_iou:
                used, used_iou = gt, iou
        if BACKGROUND_IOU <= own_iou <= POSITIVE_IOU:
            kind[det], about[det] = LOC, own
        elif other_iou >= POSITIVE_IOU:
            kind[det], about[det] = CLS, other
        elif used_iou >= POSITIVE_IOU:
            kind[det], about[det] = DUPE, used
        elif max(own_iou, other_iou) > BACKGROUND_IOU:
            kind[det] = BOTH
    return kind, about
