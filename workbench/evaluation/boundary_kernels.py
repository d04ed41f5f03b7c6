"""The compiled loops of boundaries. Importing this module imports numba: do it where a kernel is needed."""

import numpy as np
from numpy.typing import NDArray

from workbench.jit import compiled


@compiled("int32[::1](int32[::1], int64, int64)")
def with_room(array: NDArray[np.int32], used: int, more: int) -> NDArray[np.int32]:
    """The array, or a larger one with the same beginning where `more` numbers do not fit behind the `used` ones."""
    if used + more <= len(array):
        return array
    larger = np.empty(2 * (used + more), np.int32)
    larger[:used] = array[:used]
    return larger


@compiled("Tuple((int32[::1], int64[::1]))(int32[::1], int64[::1], int32[::1], int32[::1])")
def outline_runs(
    ends: NDArray[np.int32], offsets: NDArray[np.int64], heights: NDArray[np.int32], distances: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The pixels of each mask within its distance d (in rows or columns) of a pixel outside it, as runs.

    Where d is negative, the mask itself. Masks come and go as `kernels.decode_runs` gives them; outside the image
    nothing is mask. A pixel is no outline where the 2d + 1 pixels of its column around it are mask, and so in 2d + 1
    columns: two erosions by a line are one by a square. Columns are visited once to note since when each row is inside,
    and once more, d columns later, to write.
    """
    tallest, most = 1, 1
    for mask in range(len(heights)):
        tallest = max(tallest, heights[mask])
        if offsets[mask + 1] > offsets[mask]:
            columns = ends[offsets[mask + 1] - 1] // heights[mask] + 1
            most = max(most, offsets[mask + 1] - offsets[mask] + columns)
    since = np.empty(tallest, np.int64)  # first column of the stretch that each row is in
    until = np.empty(tallest, np.int64)  # last column of it so far
    pieces = np.empty((most, 2), np.int64)  # the mask's runs, cut where columns end: first pixel, pixel after the last
    written = np.empty(4 * most + 1024, np.int32)
    out_offsets = np.zeros(len(heights) + 1, np.int64)
    n = 0
    for mask in range(len(heights)):
        height, d = heights[mask], distances[mask]
        first = n
        if d < 0:
            for run in range(offsets[mask], offsets[mask + 1]):
                written = with_room(written, n, 1)
                written[n] = ends[run]
                n += 1
            out_offsets[mask + 1] = n
            continue
        count = 0
        run = offsets[mask]
        while run + 1 < offsets[mask + 1]:
            begin, end = ends[run], ends[run + 1]
            run += 2
            while run + 1 < offsets[mask + 1] and ends[run] == end:  # runs of ones with no zeros between them
                end = ends[run + 1]
                run += 2
            while begin < end:
                stop = min(end, (begin // height + 1) * height)
                pieces[count, 0], pieces[count, 1] = begin, stop
                count += 1
                begin = stop
        until[:height] = -2
        ahead = 0
        for piece in range(count):
            column = pieces[piece, 0] // height
            while ahead < count and pieces[ahead, 0] // height <= column + d:
                here = pieces[ahead, 0] // height
                top = pieces[ahead, 0] - here * height
                for row in range(top + d, pieces[ahead, 1] - here * height - d):
                    if until[row] != here - 1:
                        since[row] = here
                    until[row] = here
                ahead += 1
            base = column * height
            top, bottom = pieces[piece, 0] - base, pieces[piece, 1] - base
            row = top
            while row < bottom:
                start = row
                while row < bottom and not (
                    top + d <= row < bottom - d and since[row] <= column - d and until[row] >= column + d
                ):
                    row += 1
                if row > start:
                    written = with_room(written, n, 2)
                    if n > first and written[n - 1] == base + start:
                        written[n - 1] = base + row
                    else:
                        written[n], written[n + 1] = base + start, base + row
                        n += 2
                while row < bottom and (
                    top + d <= row < bottom - d and since[row] <= column - d and until[row] >= column + d
                ):
                    row += 1
        if offsets[mask + 1] > offsets[mask]:
            pixels = ends[offsets[mask + 1] - 1]
            if n == first or written[n - 1] != pixels:
                written = with_room(written, n, 1)
                written[n] = pixels
                n += 1
        out_offsets[mask + 1] = n
    return written[:n].copy(), out_offsets


@compiled("Tuple((uint8[::1], int64[::1]))(int32[::1], int64[::1])")
def encode_runs(ends: NDArray[np.int32], offsets: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The inverse of `kernels.decode_runs`: COCO's compressed counts, and where each mask's begin."""
    characters = np.empty(7 * len(ends), np.uint8)  # 7 characters hold 35 bits, a difference of two runs needs 33
    starts = np.zeros(len(offsets), np.int64)
    n = 0
    for mask in range(len(offsets) - 1):
        begin = offsets[mask]
        for run in range(begin, offsets[mask + 1]):
            number = np.int64(ends[run]) - (ends[run - 1] if run > begin else 0)
            if run > begin + 2:  # stored as the difference from the run two before
                number -= ends[run - 2] - (ends[run - 3] if run - 2 > begin else 0)
            more = True
            while more:
                bits = number & 0x1F
                number >>= 5
                more = number != -1 if bits & 0x10 else number != 0
                characters[n] = bits + (48 + 0x20 if more else 48)
                n += 1
        starts[mask + 1] = n
    return characters[:n].copy(), starts
