"""The compiled intersection of two maps, whose segments are disjoint. Importing this module imports numba.

Each side's runs are put in the order of the image, whoever they belong to; one walk along both finds every pair of
segments. Merging the runs of each pair instead would visit them once for each segment of the other side.
"""

import numpy as np
from numpy.typing import NDArray

from workbench.jit import compiled

_BIN_BITS = 8
"""Runs are sorted in bins of 256 pixels: counted into them, then put in order, which few are not."""


@compiled("int64(uint8[::1], int64[::1], int64, int64, int32[:, ::1])")
def runs_of_ones(
    characters: NDArray[np.uint8], starts: NDArray[np.int64], first: int, stop: int, runs: NDArray[np.int32]
) -> int:
    """Write the runs of ones of the rows first..stop - 1 as (begin, end, row - first); returns how many there are.

    Row i has the compressed counts `characters[starts[i]:starts[i + 1]]`, already checked (see `workbench.rle`). A run
    covers the pixels begin..end - 1.
    """
    n = 0
    for row in range(first, stop):
        at, last = starts[row], starts[row + 1]
        end = zeros = ones = 0  # where the run before ends; the last run of zeros, and of ones
        count = 0
        while at < last:
            code = int(characters[at]) - 48
            at += 1
            number, shift = code & 0x1F, 5
            while code & 0x20:
                code = int(characters[at]) - 48
                at += 1
                number |= (code & 0x1F) << shift
                shift += 5
            if code & 0x10:
                number |= -1 << shift
            if count % 2 == 0:
                zeros = number + zeros if count > 2 else number  # stored as the difference from the run two before
                end += zeros
            else:
                ones = number + ones if count > 2 else number
                if ones > 0:
                    runs[n, 0], runs[n, 1], runs[n, 2] = end, end + ones, row - first
                    n += 1
                end += ones
            count += 1
    return n


@compiled("boolean(int64, int32[:, ::1], int32[:, ::1], int32[::1])")
def sort_runs(n: int, runs: NDArray[np.int32], in_order: NDArray[np.int32], bins: NDArray[np.int32]) -> bool:
    """Sort n runs by where they begin; False where two of them share a pixel. `bins` has room for each bin and one."""
    bins[:] = 0
    for i in range(n):
        bins[(runs[i, 0] >> _BIN_BITS) + 1] += 1
    for k in range(1, len(bins)):
        if bins[k] > 1 << _BIN_BITS:
            return False  # more runs than pixels
        bins[k] += bins[k - 1]
    for i in range(n):
        k = runs[i, 0] >> _BIN_BITS
        place = bins[k]
        bins[k] = place + 1
        in_order[place, 0], in_order[place, 1], in_order[place, 2] = runs[i, 0], runs[i, 1], runs[i, 2]
    for i in range(1, n):
        begin = in_order[i, 0]
        if in_order[i - 1, 0] > begin:
            end, owner = in_order[i, 1], in_order[i, 2]
            at = i
            while at > 0 and in_order[at - 1, 0] > begin:
                in_order[at, 0], in_order[at, 1] = in_order[at - 1, 0], in_order[at - 1, 1]
                in_order[at, 2] = in_order[at - 1, 2]
                at -= 1
            in_order[at, 0], in_order[at, 1], in_order[at, 2] = begin, end, owner
    disjoint = True
    for i in range(1, n):
        disjoint &= in_order[i, 0] >= in_order[i - 1, 1]
    return disjoint


@compiled(
    "Tuple((int64[:, ::1], int64))"
    "(uint8[::1], int64[::1], int64[:, ::1], uint8[::1], int64[::1], int64[:, ::1], int64[::1])"
)
def intersect_maps(
    first: NDArray[np.uint8],
    first_starts: NDArray[np.int64],
    first_rows: NDArray[np.int64],
    second: NDArray[np.uint8],
    second_starts: NDArray[np.int64],
    second_rows: NDArray[np.int64],
    pixels: NDArray[np.int64],
) -> tuple[NDArray[np.int64], int]:
    """Pixels shared by each segment of one side with each of the other, as (pairs, 3): row, row, pixels > 0.

    `first`, `first_starts` are compressed counts as in `runs_of_ones`; `first_rows` (images, 2) is where the rows of
    each image begin and end, `pixels` (images,) height x width, the same for all its rows on both sides. The number
    returned says which side, 0 or 1, has two segments of an image that share a pixel: then there are no pairs. It is -1
    where all are disjoint.
    """
    most_runs, most_pairs, most_pixels = np.zeros(2, np.int64), 1, 0
    for image in range(len(pixels)):
        a, a_stop, b, b_stop = first_rows[image, 0], first_rows[image, 1], second_rows[image, 0], second_rows[image, 1]
        most_runs[0] = max(most_runs[0], (first_starts[a_stop] - first_starts[a]) // 2 + 1)
        most_runs[1] = max(most_runs[1], (second_starts[b_stop] - second_starts[b]) // 2 + 1)
        most_pairs = max(most_pairs, (a_stop - a) * (b_stop - b))
        most_pixels = max(most_pixels, pixels[image])
    drawn = np.empty((most_runs.max(), 3), np.int32)
    sides = np.empty((most_runs[0], 3), np.int32), np.empty((most_runs[1], 3), np.int32)
    bins = np.empty((most_pixels >> _BIN_BITS) + 2, np.int32)
    shared = np.empty(most_pairs, np.int64)
    pairs = np.empty((256, 3), np.int64)
    found = 0
    for image in range(len(pixels)):
        a, a_stop, b, b_stop = first_rows[image, 0], first_rows[image, 1], second_rows[image, 0], second_rows[image, 1]
        used = bins[: (pixels[image] >> _BIN_BITS) + 2]
        n = runs_of_ones(first, first_starts, a, a_stop, drawn)
        if not sort_runs(n, drawn, sides[0], used):
            return pairs[:0].copy(), 0
        m = runs_of_ones(second, second_starts, b, b_stop, drawn)
        if not sort_runs(m, drawn, sides[1], used):
            return pairs[:0].copy(), 1
        width = b_stop - b
        table = shared[: (a_stop - a) * width]
        table[:] = 0
        left, right = sides
        i = j = 0
        while i < n and j < m:
            begin, end = max(left[i, 0], right[j, 0]), min(left[i, 1], right[j, 1])
            table[left[i, 2] * width + right[j, 2]] += max(0, end - begin)  # no branch that cannot be foreseen
            left_ends = int(left[i, 1] < right[j, 1])
            i, j = i + left_ends, j + 1 - left_ends
        more = 0
        for cell in range(len(table)):
            more += int(table[cell] > 0)
        if found + more > len(pairs):
            larger = np.empty((2 * (found + more), 3), np.int64)
            larger[:found] = pairs[:found]
            pairs = larger
        for cell in range(len(table)):
            if table[cell] > 0:
                pairs[found, 0], pairs[found, 1], pairs[found, 2] = a + cell // width, b + cell % width, table[cell]
                found += 1
    return pairs[:found].copy(), -1
