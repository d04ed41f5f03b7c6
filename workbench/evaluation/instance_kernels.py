"""The compiled loops of average precision. Importing this module imports numba: do it where a kernel is needed."""

import numpy as np
from numpy.typing import NDArray

from workbench.evaluation import matching
from workbench.jit import compiled

match_detections = compiled(
    "int32[:, :, ::1](int64[::1], int64[::1], float64[::1], boolean[:, ::1], boolean[::1], float64[::1])"
)(matching.match_detections)


@compiled("int64(uint8[::1], int64, int64, int32[::1], int64)")
def _decode(characters: NDArray[np.uint8], at: int, stop: int, ends: NDArray[np.int32], first: int) -> int:
    """Write where the runs of one mask end into `ends[first:]`; returns where its last run of ones ends there.

    Its checked compressed counts (see `workbench.rle`) are `characters[at:stop]`.
    """
    run = first
    end = last = last_but_one = 0
    while at < stop:
        number = shift = code = 0
        more = True
        while more:
            code = int(characters[at]) - 48
            number |= (code & 0x1F) << shift
            more = code & 0x20 != 0
            shift += 5
            at += 1
        if code & 0x10:
            number |= -1 << shift
        if run - first > 2:  # stored as the difference from the run two before
            number += last_but_one
        last_but_one, last = last, number
        end += number
        ends[run] = end
        run += 1
    return first + (run - first) // 2 * 2


@compiled("int64(int32[::1], int64, int64)")
def _area(ends: NDArray[np.int32], begin: int, stop: int) -> int:
    area = 0
    for run in range(begin, stop, 2):
        area += ends[run + 1] - ends[run]
    return area


@compiled("int64(int32[::1], int64, int64, int32[::1], int64, int64)")
def _shared(first: NDArray[np.int32], i: int, i_stop: int, second: NDArray[np.int32], j: int, j_stop: int) -> int:
    """Pixels that two masks share, each given by the ends of its runs up to its last run of ones."""
    if i == i_stop or j == j_stop or first[i] >= second[j_stop - 1] or second[j] >= first[i_stop - 1]:
        return 0
    pixels = 0
    while i < i_stop and j < j_stop:
        pixels += max(0, min(first[i + 1], second[j + 1]) - max(first[i], second[j]))
        if first[i + 1] < second[j + 1]:
            i += 2
        else:
            j += 2
    return pixels


@compiled(
    "float64[::1]"
    "(uint8[::1], int64[::1], int64[::1], int64[:, ::1],"
    " uint8[::1], int64[::1], int64[::1], int64[:, ::1], boolean[::1])"
)
def mask_ious(
    det_characters: NDArray[np.uint8],
    det_starts: NDArray[np.int64],
    det_rows: NDArray[np.int64],
    dets: NDArray[np.int64],
    gt_characters: NDArray[np.uint8],
    gt_starts: NDArray[np.int64],
    gt_rows: NDArray[np.int64],
    gts: NDArray[np.int64],
    iscrowd: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """IoU of every detection of each group with the group's ground truth, one detection after another.

    Mask i of a side has the compressed counts `characters[starts[i]:starts[i + 1]]`; group g consists of the masks
    `rows[begin:end]` with `begin, end = dets[g]` or `gts[g]` (groups, 2), and `iscrowd` belongs to `gt_rows`. With a
    crowd, the detection's own pixels stand for the union. Source: cocodataset/cocoapi, common/maskApi.c, rleIou.
    """
    total = most_runs = longest = 0
    for group in range(len(dets)):
        total += (dets[group, 1] - dets[group, 0]) * (gts[group, 1] - gts[group, 0])
        runs = 0
        for gt in range(gts[group, 0], gts[group, 1]):
            runs += 1 + gt_starts[gt_rows[gt] + 1] - gt_starts[gt_rows[gt]]  # a place stays free behind even runs
        most_runs = max(most_runs, runs)
        for det in range(dets[group, 0], dets[group, 1]):
            longest = max(longest, det_starts[det_rows[det] + 1] - det_starts[det_rows[det]])
    ious = np.empty(total, np.float64)
    gt_ends, det_ends = np.empty(most_runs, np.int32), np.empty(longest, np.int32)  # a run has a character or more
    at = 0
    for group in range(len(dets)):
        size = gts[group, 1] - gts[group, 0]
        spans, gt_areas = np.empty((size, 2), np.int64), np.empty(size, np.int64)
        begin = 0
        for gt in range(size):
            row = gt_rows[gts[group, 0] + gt]
            spans[gt, 0] = begin
            spans[gt, 1] = _decode(gt_characters, gt_starts[row], gt_starts[row + 1], gt_ends, begin)
            gt_areas[gt] = _area(gt_ends, begin, spans[gt, 1])
            begin = spans[gt, 1] + 1  # behind the zeros that may end the mask
        for det in range(dets[group, 0], dets[group, 1]):
            row = det_rows[det]
            stop = _decode(det_characters, det_starts[row], det_starts[row + 1], det_ends, 0)
            area = _area(det_ends, 0, stop)
            for gt in range(size):
                shared = _shared(det_ends, 0, stop, gt_ends, spans[gt, 0], spans[gt, 1])
                union = area if iscrowd[gts[group, 0] + gt] else area + gt_areas[gt] - shared
                ious[at] = np.float64(shared) / np.float64(union) if shared else 0.0
                at += 1
    return ious


@compiled("float64[::1](float64[:, ::1], int64[:, ::1], float64[:, ::1], int64[:, ::1], boolean[::1])")
def box_ious(
    det_boxes: NDArray[np.float64],
    dets: NDArray[np.int64],
    gt_boxes: NDArray[np.float64],
    gts: NDArray[np.int64],
    iscrowd: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """`mask_ious` for boxes (n, 4) as x, y, w, h. Source: cocodataset/cocoapi, common/maskApi.c, bbIou."""
    total = 0
    for group in range(len(dets)):
        total += (dets[group, 1] - dets[group, 0]) * (gts[group, 1] - gts[group, 0])
    ious = np.zeros(total, np.float64)
    at = 0
    for group in range(len(dets)):
        for det in range(dets[group, 0], dets[group, 1]):
            dx, dy, dw, dh = det_boxes[det]
            for gt in range(gts[group, 0], gts[group, 1]):
                x, y, w, h = gt_boxes[gt]
                width, height = min(dw + dx, w + x) - max(dx, x), min(dh + dy, h + y) - max(dy, y)
                if width > 0 and height > 0:
                    shared = width * height
                    ious[at] = shared / (dw * dh if iscrowd[gt] else dw * dh + w * h - shared)
                at += 1
    return ious


@compiled(
    "Tuple((int64, int64, float64))(int64[::1], uint8[::1], float64[::1], uint8[:, ::1], uint8[:, ::1], int64, int64,"
    " float64[::1], float64[::1], float64[::1])"
)
def _true_positives(
    sequence: NDArray[np.int64],
    rank: NDArray[np.uint8],
    score: NDArray[np.float64],
    tp: NDArray[np.uint8],
    fp: NDArray[np.uint8],
    limit: int,
    bit: int,
    found: NDArray[np.float64],
    precision: NDArray[np.float64],
    scores: NDArray[np.float64],
) -> tuple[int, int, float]:
    """Fill how many are found, precision and score at each true positive; returns detections, points, first score."""
    place, mask = bit // 8, 128 >> (bit % 8)
    detections = true = false = 0
    first = 0.0
    for det in sequence:
        if rank[det] >= limit:
            continue
        if detections == 0:
            first = score[det]
        detections += 1
        if tp[det, place] & mask:
            found[true], scores[true] = true + 1, score[det]
            precision[true] = found[true] / (np.float64(false) + found[true] + 2.220446049250313e-16)
            true += 1
        elif fp[det, place] & mask:
            false += 1
    for point in range(true - 2, -1, -1):
        precision[point] = max(precision[point], precision[point + 1])
    return detections, true, first


@compiled(
    "void(int64[::1], int64[::1], uint8[::1], float64[::1], uint8[:, ::1], uint8[:, ::1], int64[:, ::1],"
    " float64[::1], int64[::1], float64[:, :, :, :, ::1], float64[:, :, :, ::1], float64[:, :, :, :, ::1])"
)
def fill_curves(
    sequence: NDArray[np.int64],
    bounds: NDArray[np.int64],
    rank: NDArray[np.uint8],
    score: NDArray[np.float64],
    tp: NDArray[np.uint8],
    fp: NDArray[np.uint8],
    gt: NDArray[np.int64],
    levels: NDArray[np.float64],
    limits: NDArray[np.int64],
    precision: NDArray[np.float64],
    recall: NDArray[np.float64],
    scores: NDArray[np.float64],
) -> None:
    """Fill `precision` (T, R, K, A, M), `recall` (T, K, A, M) and `scores` where there is ground truth, `gt` (K, A).

    Category k has the detections `sequence[bounds[k]:bounds[k + 1]]`, by falling score; `rank`, `score`, `tp`, `fp` are
    those of `InstanceTally`. Only a true positive raises recall or begins a fall of precision, so no other detection is
    a point of a curve. Source: pycocotools/cocoeval.py, accumulate.
    """
    longest = np.diff(bounds).max()
    found, best, at_score = np.empty(longest), np.empty(longest), np.empty(longest)
    for k, a, m, t in np.ndindex(len(gt), gt.shape[1], len(limits), len(recall)):
        if gt[k, a] == 0:
            continue
        detections, points, first = _true_positives(
            sequence[bounds[k] : bounds[k + 1]],
            rank,
            score,
            tp,
            fp,
            int(limits[m]),
            a * len(recall) + t,
            found,
            best,
            at_score,
        )
        recall[t, k, a, m] = points / gt[k, a]
        point = 0
        for level in range(len(levels)):
            while point < points and found[point] / gt[k, a] < levels[level]:
                point += 1
            precision[t, level, k, a, m] = best[point] if point < points else 0.0
            scores[t, level, k, a, m] = at_score[point] if point < points else 0.0
        if detections:  # recall 0 is reached at once, whatever the first detection is
            scores[t, 0, k, a, m] = first
