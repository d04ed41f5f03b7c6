"""The compiled loop of sweeping. Importing this module imports numba: do it where the kernel is needed."""

import numpy as np
from numpy.typing import NDArray

from workbench.jit import compiled


@compiled(
    "Tuple((int64[:, ::1], int64[:, ::1], int64[:, :, ::1]))"
    "(int64[::1], int64[::1], int64[::1], int64[::1], int64[::1], int64[::1], int64[::1], int64)"
)
def count_contest(
    gt_lengths: NDArray[np.int64],
    gt_offsets: NDArray[np.int64],
    mask_lengths: NDArray[np.int64],
    mask_offsets: NDArray[np.int64],
    gain_lengths: NDArray[np.int64],
    gain_offsets: NDArray[np.int64],
    stops: NDArray[np.int64],
    pixels: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """What n candidates of one image win after each of `stops` (S,) of them are in: see `contests.py`.

    Run lengths as `rle.Runs`; the offsets are those of this image's masks alone. Returns pixels won (S, n), won and
    inside the own mask (S, n), and of these those shared with each ground truth (S, G, n).
    """
    n, truths = len(mask_offsets) - 1, len(gt_offsets) - 1
    won_then = np.zeros((len(stops), n), np.int64)
    owned_then = np.zeros((len(stops), n), np.int64)
    shared_then = np.zeros((len(stops), truths, n), np.int64)
    won, owned = np.zeros(n, np.int64), np.zeros(n, np.int64)
    shared = np.zeros((truths + 1, n), np.int64)  # one more, of pixels without ground truth
    truth_of = np.full(pixels, truths, np.int32)
    for row in range(truths):
        end = 0
        for run in range(gt_offsets[row], gt_offsets[row + 1]):
            begin, end = end, end + gt_lengths[run]
            if (run - gt_offsets[row]) % 2:
                truth_of[begin:end] = row
    holder, owns, inside = np.full(pixels, -1, np.int32), np.zeros(pixels, np.bool_), np.zeros(pixels, np.bool_)
    stop = 0
    for row in range(n):
        end = 0
        for run in range(mask_offsets[row], mask_offsets[row + 1]):
            begin, end = end, end + mask_lengths[run]
            inside[begin:end] = (run - mask_offsets[row]) % 2 == 1
        end = 0
        for run in range(gain_offsets[row], gain_offsets[row + 1]):
            begin, end = end, end + gain_lengths[run]
            if (run - gain_offsets[row]) % 2 == 0:
                continue
            for pixel in range(begin, end):
                before, truth = holder[pixel], truth_of[pixel]
                if before >= 0:
                    won[before] -= 1
                    if owns[pixel]:
                        owned[before] -= 1
                        shared[truth, before] -= 1
                holder[pixel], owns[pixel] = row, inside[pixel]
                won[row] += 1
                if inside[pixel]:
                    owned[row] += 1
                    shared[truth, row] += 1
        if stop < len(stops) and stops[stop] == row + 1:
            won_then[stop], owned_then[stop], shared_then[stop] = won, owned, shared[:truths]
            stop += 1
    return won_then, owned_then, shared_then
