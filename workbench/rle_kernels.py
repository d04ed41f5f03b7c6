"""The compiled half of `rle`. Importing this module imports numba."""

import numpy as np
from numpy.typing import NDArray

from workbench.jit import compiled


@compiled("Tuple((int64[::1], int64[::1], boolean))(uint8[::1], int64[::1], int64)")
def parse(
    characters: NDArray[np.uint8], starts: NDArray[np.int64], longest: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], bool]:
    """`rle.parse_runs` for compressed counts `characters[starts[i]:starts[i + 1]]`, as (lengths, offsets, valid).

    Where `valid` is False (characters outside the code, a number cut short or of more than `longest` characters) the
    rest means nothing.
    """
    offsets = np.zeros(len(starts), np.int64)
    for row in range(len(starts) - 1):
        runs = size = 0
        for at in range(starts[row], starts[row + 1]):
            code = int(characters[at]) - 48
            size += 1
            if code < 0 or code > 0x3F or size > longest:
                return offsets, offsets, False
            if code & 0x20 == 0:
                runs, size = runs + 1, 0
        if size:
            return offsets, offsets, False
        offsets[row + 1] = offsets[row] + runs
    lengths = np.empty(offsets[-1], np.int64)
    for row in range(len(starts) - 1):
        at = starts[row]
        for run in range(offsets[row], offsets[row + 1]):
            number = shift = code = 0
            more = True
            while more:
                code = int(characters[at]) - 48
                number |= (code & 0x1F) << shift
                more = code & 0x20 != 0
                shift += 5
                at += 1
            if code & 0x10:
                number |= -1 << min(shift, 63)
            if run - offsets[row] > 2:  # stored as the difference from the run two before
                number += lengths[run - 2]
            lengths[run] = number
    return lengths, offsets, True


@compiled("int64[:, ::1](int64[::1], int64[::1])")
def sums(lengths: NDArray[np.int64], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Pixels of zeros and of ones of each mask, (2, n)."""
    total = np.zeros((2, len(offsets) - 1), np.int64)
    for row in range(len(offsets) - 1):
        for run in range(offsets[row], offsets[row + 1]):
            total[(run - offsets[row]) % 2, row] += lengths[run]
    return total


@compiled("boolean(uint8[::1], int64[::1], int64[::1], int64[::1], int64, int64)")
def fit(
    characters: NDArray[np.uint8],
    starts: NDArray[np.int64],
    pixels: NDArray[np.int64],
    areas: NDArray[np.int64],
    longest: int,
    most: int,
) -> bool:
    """`rle.fit`: whether `parse`, `rle.check` and the areas are all right, without keeping a run."""
    for row in range(len(starts) - 1):
        if pixels[row] > most:
            return False
        at, stop = starts[row], starts[row + 1]
        zeros = ones = zeros_before = ones_before = run = 0
        while at < stop:
            code = int(characters[at]) - 48
            at += 1
            if code < 0 or code > 0x3F:
                return False
            number, size = code & 0x1F, 1
            while code & 0x20:
                if at == stop or size == longest:
                    return False
                code = int(characters[at]) - 48
                at += 1
                if code < 0 or code > 0x3F:
                    return False
                number |= (code & 0x1F) << (5 * size)
                size += 1
            if code & 0x10:
                number |= -1 << (5 * size)
            if run % 2 == 0:
                if run > 2:
                    number += zeros_before
                zeros_before = number
                zeros += number
            else:
                if run > 2:
                    number += ones_before
                ones_before = number
                ones += number
            if number < 0 or number > pixels[row]:
                return False
            run += 1
        if zeros + ones != pixels[row] or ones != areas[row]:
            return False
    return True
