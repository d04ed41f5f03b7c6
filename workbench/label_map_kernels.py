"""The compiled half of `label_map_rle`: one pass over the pixels, one over the runs."""

import numpy as np
from numpy.typing import NDArray

from workbench.jit import compiled


@compiled("Tuple((int64[::1], int64[::1]))(int32[:, ::1])", "Tuple((int64[::1], int64[::1]))(int64[:, ::1])")
def find_runs(label_map: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each run of equal labels starts in column-major order, and its label: two int64 arrays of shape (runs,)."""
    height, width = label_map.shape
    starts = np.empty(height * width, np.int64)
    labels = np.empty(height * width, np.int64)
    count = 0
    previous = label_map[0, 0] - 1  # differs from the first pixel: a wrap-around differs too
    for column in range(width):
        for row in range(height):
            label = label_map[row, column]
            if label != previous:
                starts[count] = column * height + row
                labels[count] = label
                count += 1
                previous = label
    return starts[:count].copy(), labels[:count].copy()


@compiled(
    "Tuple((uint8[::1], int64[::1], int64[::1], int64[:, ::1]))(int64[::1], int64[::1], int64[::1], int64[::1], int64)"
)
def encode_runs(
    starts: NDArray[np.int64],
    lengths: NDArray[np.int64],
    owners: NDArray[np.int64],
    runs_per_owner: NDArray[np.int64],
    height: int,
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Compressed counts of every owner's mask, from all runs of one label map in column-major order.

    Returns (characters uint8, offsets (2, n) flattened to begin/end pairs, areas (n,), extents (n, 4)) with extents as
    first and last column, first and last row. `owners` index 0..n-1; the runs cover the label map without a gap.
    """
    n = len(runs_per_owner)
    pixels = starts[-1] + lengths[-1]
    begin_end = np.zeros(2 * n, np.int64)
    room = 0
    for owner in range(n):
        begin_end[2 * owner] = begin_end[2 * owner + 1] = room
        room += 7 * (2 * runs_per_owner[owner] + 1)  # 7 characters hold 35 bits, a difference of two runs needs 33
    characters = np.empty(room, np.uint8)
    areas = np.zeros(n, np.int64)
    extents = np.empty((n, 4), np.int64)
    covered = np.zeros(n, np.int64)  # pixels of the image that the owner's counts describe so far
    written = np.zeros(n, np.int64)  # numbers written so far
    last = np.zeros((n, 2), np.int64)  # the owner's last run of zeros and of ones
    for run in range(len(starts) + n):
        if run < len(starts):
            owner, start, length = owners[run], starts[run], lengths[run]
        else:  # after the last run: the zeros that end each mask
            owner, start, length = run - len(starts), pixels, 0
            if covered[owner] == pixels:
                continue
        for kind in range(2 if length else 1):
            value = length if kind else start - covered[owner]
            number = value - last[owner, kind] if written[owner] > 2 else value
            last[owner, kind] = value
            written[owner] += 1
            more = True
            while more:
                bits = number & 0x1F
                number >>= 5
                more = number != -1 if bits & 0x10 else number != 0
                characters[begin_end[2 * owner + 1]] = bits + (48 + 0x20 if more else 48)
                begin_end[2 * owner + 1] += 1
        covered[owner] = start + length
        if not length:
            continue
        first_column, first_row = start // height, start % height
        last_column, last_row = (start + length - 1) // height, (start + length - 1) % height
        if last_column > first_column:
            first_row, last_row = 0, height - 1
        if areas[owner] == 0:
            extents[owner, 0], extents[owner, 2], extents[owner, 3] = first_column, first_row, last_row
        extents[owner, 1] = last_column
        extents[owner, 2] = min(extents[owner, 2], first_row)
        extents[owner, 3] = max(extents[owner, 3], last_row)
        areas[owner] += length
    return characters, begin_end, areas, extents
