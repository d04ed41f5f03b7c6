"""The compiled loops of scoring. Importing this module imports numba: do it where a kernel is needed."""

import numpy as np
from numpy.typing import NDArray

from workbench.evaluation import tide_matching
from workbench.jit import compiled

type_detections = compiled(
    "Tuple((int64[::1], int64[::1]))(int64[::1], int64[::1], float64[::1], boolean[::1], int64)"
)(tide_matching.type_detections)


@compiled("Tuple((int32[::1], int64[::1]))(uint8[::1], int64[::1])")
def decode_runs(
    characters: NDArray[np.uint8], starts: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """COCO's compressed counts (see `workbench.rle`), already checked, to the positions at which runs end.

    Mask i has the characters `characters[starts[i]:starts[i + 1]]`. Returns (ends int32, offsets int64): its runs,
    zeros and ones in turn, end before the column-major pixels `ends[offsets[i]:offsets[i + 1]]`.
    """
    offsets = np.zeros(len(starts), np.int64)
    for row in range(len(starts) - 1):
        runs = 0
        for at in range(starts[row], starts[row + 1]):
            if (characters[at] - 48) & 0x20 == 0:
                runs += 1
        offsets[row + 1] = offsets[row] + runs
    ends = np.empty(offsets[-1], np.int32)
    for row in range(len(starts) - 1):
        at = starts[row]
        end = last = last_but_one = 0
        for run in range(offsets[row + 1] - offsets[row]):
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
            if run > 2:  # stored as the difference from the run two before
                number += last_but_one
            last_but_one, last = last, number
            end += number
            ends[offsets[row] + run] = end
    return ends, offsets


@compiled("int64[:, ::1](int32[::1], int64[::1], int64[:, ::1], int32[::1], int64[::1], int64[:, ::1])")
def intersect_runs(
    first: NDArray[np.int32],
    first_offsets: NDArray[np.int64],
    first_rows: NDArray[np.int64],
    second: NDArray[np.int32],
    second_offsets: NDArray[np.int64],
    second_rows: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Pixels shared by each mask of one side with each of the other, as (pairs, 3): row, row, pixels > 0.

    `first`, `first_offsets` come from `decode_runs`; `first_rows` (images, 2) is where each image begins and ends.
    """
    most = 0
    for image in range(len(first_rows)):
        most += (first_rows[image, 1] - first_rows[image, 0]) * (second_rows[image, 1] - second_rows[image, 0])
    pairs = np.empty((most, 3), np.int64)
    found = 0
    for image in range(len(first_rows)):
        for a in range(first_rows[image, 0], first_rows[image, 1]):
            a_begin = first_offsets[a]
            a_stop = a_begin + (first_offsets[a + 1] - a_begin) // 2 * 2  # without the zeros that end the mask
            for b in range(second_rows[image, 0], second_rows[image, 1]):
                b_begin = second_offsets[b]
                b_stop = b_begin + (second_offsets[b + 1] - b_begin) // 2 * 2
                if a_begin == a_stop or b_begin == b_stop:
                    continue  # an empty mask
                if first[a_begin] >= second[b_stop - 1] or second[b_begin] >= first[a_stop - 1]:
                    continue  # one mask ends before the other begins
                i, j, pixels = a_begin, b_begin, 0
                while i < a_stop and j < b_stop:
                    pixels += max(0, min(first[i + 1], second[j + 1]) - max(first[i], second[j]))
                    if first[i + 1] < second[j + 1]:
                        i += 2
                    else:
                        j += 2
                if pixels > 0:
                    pairs[found, 0], pairs[found, 1], pairs[found, 2] = a, b, pixels
                    found += 1
    return pairs[:found].copy()
