"""A label map to the COCO RLE, area and box of every label in it: one pass for all of them, not one each.

The bytes are those that pycocotools writes for `label_map == id`. Compiled code does the work; where numba cannot be
imported, NumPy gives the same in two to three times the time.
"""

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

_SMALL_INTEGERS = (np.int8, np.uint8, np.int16, np.uint16, np.int32)


@dataclass(frozen=True)
class LabelMapRle:
    """The labels of one map of shape (height, width), ascending; n of them."""

    ids: NDArray[np.int64]
    """(n,), whatever values occur: 0 and negative ones too."""
    counts: list[bytes]
    """COCO compressed RLE of each, column-major."""
    areas: NDArray[np.int64]
    """(n,), pixels."""
    bboxes: NDArray[np.float64]
    """(n, 4): x, y, w, h in pixels, the smallest box around the label's pixels."""


@dataclass(frozen=True)
class LabelRuns:
    """A label map of shape `size_hw` as runs of equal labels in column-major order."""

    ids: NDArray[np.int64]
    """(n,): the labels, ascending."""
    owners: NDArray[np.int64]
    """(runs,): which of `ids` each run has."""
    starts: NDArray[np.int64]
    """(runs,): its first pixel, counted down the columns."""
    lengths: NDArray[np.int64]
    """(runs,): its pixels."""
    size_hw: tuple[int, int]

    def relabelled(self, labels: NDArray[np.int64]) -> "LabelRuns":
        """The runs of the same map with other labels, one for each run (runs,); neighbours with one label join."""
        kept = np.flatnonzero(np.concatenate([[True], labels[1:] != labels[:-1]]))
        return _runs(self.starts[kept], labels[kept], self.size_hw)


def encode_label_map(label_map: NDArray[np.integer]) -> LabelMapRle:
    """RLE, area and box of every label of an integer array of shape (height, width).

    Raises ValueError for another shape, an empty map, a type that is not an integer, and unsigned 64-bit values that
    int64 cannot hold.
    """
    return encode_runs(label_runs(label_map))


def encode_runs(runs: LabelRuns) -> LabelMapRle:
    """RLE, area and box of every label of a map that is known by its runs."""
    kernels = _kernels()
    return _encode_with_numpy(runs) if kernels is None else _encode_compiled(runs, kernels)


def label_runs(label_map: NDArray[np.integer]) -> LabelRuns:
    """The runs of a label map. Finding its labels this way takes a tenth of sorting its pixels. Raises as above."""
    checked = _as_signed(label_map)
    kernels = _kernels()
    if kernels is not None:
        starts, labels = kernels.find_runs(checked)
    else:
        flat = checked.ravel(order="F")
        starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
        labels = flat[starts].astype(np.int64)
    return _runs(starts, labels, (label_map.shape[0], label_map.shape[1]))


def _runs(starts: NDArray[np.int64], labels: NDArray[np.int64], size_hw: tuple[int, int]) -> LabelRuns:
    ids, owners = np.unique(labels, return_inverse=True)
    return LabelRuns(ids, owners, starts, np.diff(starts, append=size_hw[0] * size_hw[1]), size_hw)


def _as_signed(label_map: NDArray[np.integer]) -> NDArray[np.int32] | NDArray[np.int64]:
    if label_map.ndim != 2 or not label_map.size:
        raise ValueError(f"a label map has the shape (height, width) with at least one pixel, not {label_map.shape}")
    if label_map.dtype == np.bool_ or label_map.dtype in _SMALL_INTEGERS:
        return np.ascontiguousarray(label_map, dtype=np.int32)
    if label_map.dtype.kind not in "iu":
        raise ValueError(f"a label map holds integers, not {label_map.dtype}")
    if label_map.dtype == np.uint64 and label_map.max() > np.iinfo(np.int64).max:
        raise ValueError(f"label {label_map.max()} does not fit into 64 signed bits")
    return np.ascontiguousarray(label_map, dtype=np.int64)


@cache
def _kernels() -> ModuleType | None:
    """The compiled functions. Imported on first use: numba takes half a second, which `--help` must not pay."""
    try:
        from workbench import label_map_kernels
    except ImportError:
        return None
    return label_map_kernels


def _encode_compiled(runs: LabelRuns, kernels: ModuleType) -> LabelMapRle:
    runs_per_owner = np.bincount(runs.owners, minlength=len(runs.ids))
    characters, begin_end, areas, extents = kernels.encode_runs(
        runs.starts, runs.lengths, runs.owners, runs_per_owner, runs.size_hw[0]
    )
    text = characters.tobytes()
    begin_end = begin_end.reshape(-1, 2).tolist()
    return LabelMapRle(runs.ids, [text[begin:end] for begin, end in begin_end], areas, _bboxes(extents))


def _encode_with_numpy(runs: LabelRuns) -> LabelMapRle:
    order = np.argsort(runs.owners, kind="stable")
    starts, lengths = runs.starts[order], runs.lengths[order]
    bounds = np.searchsorted(runs.owners[order], np.arange(len(runs.ids) + 1))
    height, width = runs.size_hw
    numbers, offsets = _zeros_and_ones(starts, lengths, bounds, height * width)
    return LabelMapRle(
        runs.ids,
        compress_runs(numbers, offsets),
        np.add.reduceat(lengths, bounds[:-1]),
        _bboxes(_extents(starts, lengths, bounds[:-1], height)),
    )


def compress_runs(lengths: NDArray[np.int64], offsets: NDArray[np.int64]) -> list[bytes]:
    """COCO's compressed counts of many masks: mask i has the runs `lengths[offsets[i]:offsets[i + 1]]`, zeros first.

    The inverse of `rle.parse_runs`.
    """
    position = np.arange(len(lengths)) - np.repeat(offsets[:-1], np.diff(offsets))
    numbers = lengths.astype(np.int64)
    later = np.flatnonzero(position > 2)
    numbers[later] -= lengths[later - 2]
    rounds, remaining, active = [], numbers, np.ones(len(numbers), dtype=np.bool_)
    while active.any():
        bits = remaining & 0x1F
        remaining = remaining >> 5
        more = active & np.where(bits & 0x10, remaining != -1, remaining != 0)
        rounds.append(np.where(active, bits + 48 + np.where(more, 0x20, 0), 0))
        active = more
    table = np.stack(rounds, axis=1).astype(np.uint8) if rounds else np.zeros((0, 1), np.uint8)  # (numbers, characters)
    text = table[table > 0].tobytes()
    ends = np.concatenate([[0], np.cumsum((table > 0).sum(axis=1))])[offsets].tolist()
    return [text[begin:end] for begin, end in pairwise(ends)]


def _zeros_and_ones(
    starts: NDArray[np.int64], lengths: NDArray[np.int64], bounds: NDArray[np.int64], pixels: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Runs grouped by mask -> alternating zeros and ones with each mask's last zeros, and where each mask begins."""
    previous_end = np.concatenate([[0], (starts + lengths)[:-1]])
    previous_end[bounds[:-1]] = 0
    pairs = np.stack([starts - previous_end, lengths], axis=1).ravel()
    tails = pixels - (starts + lengths)[bounds[1:] - 1]
    has_tail = tails > 0
    numbers = np.insert(pairs, 2 * bounds[1:][has_tail], tails[has_tail])
    return numbers, 2 * bounds + np.concatenate([[0], np.cumsum(has_tail)])


def _extents(
    starts: NDArray[np.int64], lengths: NDArray[np.int64], firsts: NDArray[np.int64], height: int
) -> NDArray[np.int64]:
    """(n, 4): first and last column, first and last row of each mask, whose runs begin at `firsts`."""
    ends = starts + lengths - 1
    several = starts // height < ends // height  # a run over a column's end touches the bottom and the top row
    first_rows, last_rows = np.where(several, 0, starts % height), np.where(several, height - 1, ends % height)
    return np.stack(
        [
            np.minimum.reduceat(starts // height, firsts),
            np.maximum.reduceat(ends // height, firsts),
            np.minimum.reduceat(first_rows, firsts),
            np.maximum.reduceat(last_rows, firsts),
        ],
        axis=1,
    )


def _bboxes(extents: NDArray[np.int64]) -> NDArray[np.float64]:
    x, last_x, y, last_y = extents.T
    return np.stack([x, y, last_x - x + 1, last_y - y + 1], axis=1).astype(np.float64)
