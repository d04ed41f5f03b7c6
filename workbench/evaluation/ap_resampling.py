"""AP's curves of many resamples as plain loops: compiled by `bootstrap_kernels.py`, slow but the same without numba.

A resample that draws an image n times has n copies of its detections and of its ground truth. Only true positives can
raise recall or end a stretch of precision, so false positives are counted and never visited one by one.
"""

import numpy as np
from numpy.typing import NDArray

IGNORED, FALSE, VARIES = 0, 1, 2
"""What a detection is at all thresholds, if it is the same at all of them."""


def resample_curves(
    weights: NDArray[np.int32],
    gt: NDArray[np.int64],
    bounds: NDArray[np.int64],
    image: NDArray[np.int32],
    rank: NDArray[np.uint8],
    kind: NDArray[np.uint8],
    tp: NDArray[np.bool_],
    fp: NDArray[np.bool_],
    levels: NDArray[np.float64],
    limits: NDArray[np.int64],
    precision: NDArray[np.float64],
    recall: NDArray[np.float64],
) -> None:
    """Fill `precision` (B, A, K, T, R) and `recall` (B, A, K, M, T) where there is ground truth; the rest stays.

    B resamples, I images, K categories, A area ranges, T thresholds, R recall levels, M limits of detections, D
    detections: those of category k, by falling score, are the rows bounds[k] to bounds[k + 1] of `image`, `rank` (D,),
    `kind` (A, D), `tp` and `fp` (A, D, T). `weights` (B, I) says how often an image was drawn, `gt` (B, K, A) how much
    ground truth that makes. Source: pycocotools/cocoeval.py, accumulate.
    """
    ranges, dets, thresholds = tp.shape
    varying = np.empty(dets, np.int64)
    copies = np.empty(dets, np.int64)  # of each varying one
    false_before = np.empty(dets, np.int64)  # copies of FALSE detections with a higher score
    right = np.empty(dets, np.float64)  # true positives so far, at each true positive
    best = np.empty(dets, np.float64)  # precision there
    for b in range(len(weights)):
        for k in range(len(bounds) - 1):
            for a in range(ranges):
                total = gt[b, k, a]
                if total == 0:
                    continue
                count = 0
                false = 0
                for det in range(bounds[k], bounds[k + 1]):
                    if kind[a, det] == IGNORED:
                        continue
                    weight = weights[b, image[det]]
                    if kind[a, det] == FALSE:
                        false += weight
                    elif weight:
                        varying[count], copies[count] = det, weight
                        false_before[count] = false
                        count += 1
                for t in range(thresholds):
                    tp_sum = 0
                    fp_sum = 0
                    points = 0
                    for m in range(len(limits)):
                        recall[b, a, k, m, t] = 0.0
                    for i in range(count):
                        det = varying[i]
                        if tp[a, det, t]:
                            tp_sum += copies[i]
                            right[points] = tp_sum
                            found = np.float64(fp_sum + false_before[i]) + np.float64(tp_sum)
                            best[points] = np.float64(tp_sum) / (found + 2.220446049250313e-16)
                            points += 1
                            for m in range(len(limits)):
                                if rank[det] < limits[m]:
                                    recall[b, a, k, m, t] += copies[i]
                        elif fp[a, det, t]:
                            fp_sum += copies[i]
                    for m in range(len(limits)):
                        recall[b, a, k, m, t] /= total
                    for point in range(points - 2, -1, -1):
                        best[point] = max(best[point], best[point + 1])
                    point = 0
                    for level in range(len(levels)):
                        while point < points and right[point] / total < levels[level]:
                            point += 1
                        precision[b, a, k, t, level] = best[point] if point < points else 0.0
