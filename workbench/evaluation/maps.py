"""The intersections of two maps: sides whose segments share no pixel, as panoptic and semantic ones do not.

Every run of an image is put in order, whoever it belongs to, and both sides are walked along once. Compiled; where
numba cannot be imported, NumPy gives the same integers.
"""

from functools import cache
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from workbench import rle
from workbench.evaluation.columns import Segments

_IMAGES_AT_ONCE = 16  # by NumPy: their runs stay in the processor's cache
_BITS = 63
_NO_PAIRS = np.zeros((0, 3), dtype=np.int64)
Rows = NDArray[np.int64]
"""Where the rows of each image begin and end, shape (images, 2)."""


def intersect_maps(
    first: Segments, second: Segments, rows: tuple[Rows, Rows], compiled: ModuleType | None
) -> NDArray[np.int64] | None:
    """Row of the first side, row of the second, pixels > 0 of each pair, ascending: int64 of shape (pairs, 3).

    None where two segments of a side share a pixel, where segments of an image differ in size, or where NumPy cannot
    tell. `rows` names those of the images that both sides have, `compiled` is `map_kernels` or None.
    """
    if not len(rows[0]):
        return _NO_PAIRS
    if not _have_one_size(first, second, rows):
        return None
    pixels = first.height[rows[0][:, 0]].astype(np.int64) * first.width[rows[0][:, 0]]
    if compiled is None:
        return _intersect_with_numpy(first, second, rows, pixels)
    sides = *first.characters(), rows[0], *second.characters(), rows[1]
    pairs, overlapping = compiled.intersect_maps(*sides, pixels)
    return None if overlapping >= 0 else pairs


@cache
def kernels() -> ModuleType | None:
    """`map_kernels.py`, or None where numba cannot be imported. On first use only: numba takes half a second."""
    try:
        from workbench.evaluation import map_kernels
    except ImportError:
        return None
    return map_kernels


def _have_one_size(first: Segments, second: Segments, rows: tuple[Rows, Rows]) -> bool:
    """Whether all segments of an image have the same height and width: the kernels rely on it for where they write."""
    sizes = [(side.height.astype(np.int64) << 32) | side.width for side in (first, second)]
    for side, size in zip((first, second), sizes, strict=True):
        if ((size[1:] != size[:-1]) & (side.image[1:] == side.image[:-1])).any():
            return False
    return np.array_equal(sizes[0][rows[0][:, 0]], sizes[1][rows[1][:, 0]])


def _intersect_with_numpy(
    first: Segments, second: Segments, rows: tuple[Rows, Rows], pixels: NDArray[np.int64]
) -> NDArray[np.int64] | None:
    found = [_NO_PAIRS]
    for start in range(0, len(pixels), _IMAGES_AT_ONCE):
        images = slice(start, start + _IMAGES_AT_ONCE)
        sides = [
            _partition(side, part[images], pixels[images]) for side, part in zip((first, second), rows, strict=True)
        ]
        if sides[0] is None or sides[1] is None:
            return None
        found.append(_shared(sides[0], sides[1], rows[0][images], rows[1][images]))
    return np.concatenate(found)


_Partition = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Ends of the intervals that some images are cut into, one image behind the other; whose each is: a number among the
rows in question, or how many there are for nobody's."""


def _partition(side: Segments, rows: Rows, pixels: NDArray[np.int64]) -> _Partition | None:
    """None where two segments share a pixel, and for images of more than a thousand million pixels."""
    sizes = rows[:, 1] - rows[:, 0]
    n = int(sizes.sum())
    chosen = np.repeat(rows[:, 0], sizes) + _within(sizes)
    counts = side.counts.slice(int(chosen[0]), n) if chosen[-1] - chosen[0] == n - 1 else side.counts.take(chosen)
    runs = rle.parse_runs(counts)
    ones = np.diff(runs.offsets) // 2
    place = 2 * np.arange(ones.sum()) + np.repeat(runs.offsets[:-1] + 1 - 2 * (np.cumsum(ones) - ones), ones)
    lengths = runs.lengths[place]
    # Each mask's runs fill its image, so what the sums have reached before a mask is the pixels of those before it.
    of_mask, before = np.repeat(pixels, sizes), np.repeat(np.cumsum(pixels) - pixels, sizes)
    begins = np.cumsum(runs.lengths)[place] - lengths + np.repeat(before - np.cumsum(of_mask) + of_mask, ones)
    return _in_order(begins, lengths, np.repeat(np.arange(n), ones), n, pixels)


def _in_order(
    begins: NDArray[np.int64],
    lengths: NDArray[np.int64],
    owner: NDArray[np.int64],
    nobody: int,
    pixels: NDArray[np.int64],
) -> _Partition | None:
    """Sorts runs by where they begin, all three columns in one number, if they fit into one."""
    total = int(pixels.sum())
    length_bits, owner_bits = int(pixels.max()).bit_length(), nobody.bit_length()
    if total.bit_length() + length_bits + owner_bits > _BITS:
        return None
    keys = (((begins << owner_bits) | owner) << length_bits) | lengths
    if lengths.min(initial=1) == 0:
        keys = keys[lengths > 0]
    keys = np.sort(keys, kind="stable")  # each mask's are in order: quick for a sort that merges
    lengths, keys = keys & ((1 << length_bits) - 1), keys >> length_bits
    begins, owner = keys >> owner_bits, keys & ((1 << owner_bits) - 1)
    stops = begins + lengths
    if (begins[1:] < stops[:-1]).any():
        return None
    return _without_gaps(begins, stops, owner, nobody, total)


def _without_gaps(
    begins: NDArray[np.int64], stops: NDArray[np.int64], owner: NDArray[np.int64], nobody: int, total: int
) -> _Partition:
    begins, stops = np.append(begins, total), np.append(stops, total)
    owner = np.append(owner, nobody)
    gap = begins > np.concatenate([[0], stops[:-1]])
    if not gap.any():
        return stops, owner
    place = np.arange(len(stops)) + np.cumsum(gap)
    ends, owners = np.empty(int(place[-1]) + 1, np.int64), np.full(int(place[-1]) + 1, nobody)
    ends[place], owners[place] = stops, owner
    ends[place[gap] - 1] = begins[gap]
    return ends, owners


def _shared(a: _Partition, b: _Partition, a_rows: Rows, b_rows: Rows) -> NDArray[np.int64]:
    """Pairs as `intersect_maps` gives them: every piece between two ends, counted into a table of its image."""
    height, width = a_rows[:, 1] - a_rows[:, 0], b_rows[:, 1] - b_rows[:, 0]
    before = np.cumsum(height * width) - height * width
    cells = int((height * width).sum())
    a_cell = np.append(np.repeat(before, height) + _within(height) * np.repeat(width, height), cells)
    b_cell = np.append(_within(width), cells)
    keys = np.sort(np.concatenate([2 * a[0], 2 * b[0] + 1]), kind="stable")  # two sorted halves: a merge
    is_b = keys & 1
    j = np.cumsum(is_b) - is_b
    i = np.minimum(np.arange(len(keys)) - j, len(a[0]) - 1)
    cell = a_cell[a[1]][i] + b_cell[b[1]][j]
    pieces = np.diff(keys >> 1, prepend=0)
    shared = np.bincount(cell, weights=pieces, minlength=cells)[:cells]  # sums of integers below 2^53: exact
    found = np.flatnonzero(shared)
    image = np.searchsorted(before, found, side="right") - 1
    row, column = np.divmod(found - before[image], width[image])
    pixels = shared[found].astype(np.int64)
    return np.stack([a_rows[image, 0] + row, b_rows[image, 0] + column, pixels], axis=1)


def _within(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """0, 1, ... anew for each of the sizes."""
    return np.asarray(np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes))
