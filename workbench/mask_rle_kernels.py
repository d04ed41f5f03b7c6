"""The compiled half of `mask_rle`: from the rows of a mask, as it lies in memory, to runs down its columns."""

import numpy as np
from numpy.typing import NDArray

from workbench.jit import compiled, inlined

_BLOCK = 128  # pixels that are passed over together where none of them changes


@inlined
def _changes(mask: NDArray[np.uint8], columns: NDArray[np.int32], rows: NDArray[np.int32]) -> int:
    """Where a mask (height, width) changes down its columns, row by row; returns how often.

    The pixel before a column's first is the last one of the column before; before the first column there is a 0.
    """
    height, width = mask.shape
    count = 0
    before = np.uint8(0)
    for x in range(width):
        if mask[0, x] != before:
            columns[count], rows[count] = x, 0
            count += 1
        before = mask[height - 1, x]
    for y in range(1, height):
        for start in range(0, width, _BLOCK):
            line, above = mask[y, start : start + _BLOCK], mask[y - 1, start : start + _BLOCK]
            here = 0
            for x in range(len(line)):  # a sum of comparisons becomes vector instructions
                here += line[x] != above[x]
            if here:
                for x in range(len(line)):
                    if line[x] != above[x]:
                        columns[count], rows[count] = start + x, y
                        count += 1
    return count


@inlined
def _in_column_order(
    columns: NDArray[np.int32],
    rows: NDArray[np.int32],
    count: int,
    height: int,
    width: int,
    positions: NDArray[np.int64],
) -> None:
    """Positions x * height + y in ascending order, of places that are in the order of their rows."""
    next_of_column = np.zeros(width + 1, np.int64)
    for i in range(count):
        next_of_column[columns[i] + 1] += 1
    for x in range(width):
        next_of_column[x + 1] += next_of_column[x]
    for i in range(count):
        x = columns[i]
        positions[next_of_column[x]] = x * height + rows[i]
        next_of_column[x] += 1


@compiled("Tuple((uint8[::1], int64[::1], int64[::1], int64[:, ::1]))(uint8[:, :, ::1])")
def encode(
    masks: NDArray[np.uint8],
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Compressed counts of masks (n, height, width) of 0 and 1.

    Returns all characters uint8, where those of each mask end (n,), areas (n,), and extents (n, 4): first and last
    column, first and last row; of an empty mask 0, -1, 0, -1.
    """
    n, height, width = masks.shape
    pixels = height * width
    columns, rows, positions = np.empty(pixels, np.int32), np.empty(pixels, np.int32), np.empty(pixels + 1, np.int64)
    characters, used = np.empty(1 << 16, np.uint8), 0
    ends, areas, extents = np.empty(n, np.int64), np.zeros(n, np.int64), np.empty((n, 4), np.int64)
    for i in range(n):
        changes = _changes(masks[i], columns, rows)
        _in_column_order(columns, rows, changes, height, width, positions)
        positions[changes] = pixels
        runs = changes + 1 if changes == 0 or positions[changes - 1] < pixels else changes
        if used + 7 * runs > len(characters):  # 7 characters hold 35 bits, a difference of two runs needs 33
            longer = np.empty(2 * (used + 7 * runs), np.uint8)
            longer[:used] = characters[:used]
            characters = longer
        first_column, last_column, first_row, last_row = width, -1, height, -1
        start = 0
        before, last = np.int64(0), np.int64(0)  # the last run but one, and the last
        for run in range(runs):
            stop = positions[run]
            length = stop - start
            number = length - before if run > 2 else length
            before, last = last, length
            more = True
            while more:
                bits = number & 0x1F
                number >>= 5
                more = number != -1 if bits & 0x10 else number != 0
                characters[used] = bits + (48 + 0x20 if more else 48)
                used += 1
            if run % 2 == 1:
                areas[i] += length
                top, bottom = start % height, (stop - 1) % height
                left, right = start // height, (stop - 1) // height
                if left < right:  # it touches the bottom of one column and the top of the next
                    top, bottom = 0, height - 1
                first_column, last_column = min(first_column, left), max(last_column, right)
                first_row, last_row = min(first_row, top), max(last_row, bottom)
            start = stop
        ends[i] = used
        if areas[i] == 0:
            first_column, first_row = 0, 0
        extents[i, 0], extents[i, 1], extents[i, 2], extents[i, 3] = first_column, last_column, first_row, last_row
    return characters[:used].copy(), ends, areas, extents
