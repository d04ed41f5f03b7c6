"""COCO's compressed run-length encoding: bytes <-> run lengths <-> masks, checked before anyone trusts them.

A mask is written column by column as run lengths that start with the zeros. From the fourth run on, each is stored as
its difference from the run two before; each number goes into characters of five bits plus a continuation bit, offset
by 48.
Source: cocodataset/cocoapi, common/maskApi.c (rleToString, rleFrString).
"""

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from types import ModuleType

import numpy as np
import pyarrow as pa
import pycocotools.mask as coco_mask
from numpy.typing import NDArray

_OFFSET, _MORE, _SIGN, _BITS = 48, 0x20, 0x10, 5
_LOW_BITS, _HIGHEST = np.uint8(0x1F), 0x3F
_LONGEST_CODE = 7  # characters that a run of `_MOST_PIXELS`, or a difference of two runs, can need
_MOST_PIXELS = 2**31 - 1  # of an image: the compiled code counts them in 32 bits
_BLOCK = 1 << 17  # characters that are looked at together: their numbers stay in the processor's cache
_WORTH_COMPILING = 200_000  # characters, or runs, from which on NumPy takes longer than numba takes to load


class RleError(ValueError):
    """Run lengths that do not describe a mask of the stated size."""


@dataclass(frozen=True)
class Runs:
    """The run lengths of many masks, one after another.

    `lengths` is int64 (all runs); mask i owns `lengths[offsets[i]:offsets[i + 1]]`, zeros first, column-major.
    """

    lengths: NDArray[np.int64]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def areas(self) -> NDArray[np.int64]:
        """Pixels set in each mask, int64 of shape (n,)."""
        kernels = _kernels(len(self.lengths))
        if kernels is not None:
            areas: NDArray[np.int64] = kernels.sums(self.lengths, self.offsets)[1]
            return areas
        return _sums_of_kinds(self)[1]

    def totals(self) -> NDArray[np.int64]:
        """Pixels in each mask, set or not, int64 of shape (n,): height x width of a valid one."""
        return _segment_sums(self.lengths, self.offsets)


def encode(mask: NDArray[np.bool_]) -> bytes:
    """Compressed counts of one mask of shape (height, width)."""
    return bytes(coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"])


def decode(counts: bytes, height: int, width: int) -> NDArray[np.bool_]:
    """The mask, bool of shape (height, width). Raises RleError where the counts do not fill that size."""
    runs = parse_runs([counts])
    check(runs, np.array([height * width]))
    ones = np.arange(len(runs.lengths)) % 2 == 1
    return np.repeat(ones, runs.lengths).reshape(width, height).T


def parse_runs(column: pa.Array | pa.ChunkedArray | list[bytes]) -> Runs:
    """The run lengths behind a column of compressed counts; a large one is read by compiled code where numba is there.

    Raises RleError (naming the first row) for null rows, characters outside the code, and numbers that are cut short.
    """
    raw, starts = _concatenated(column)
    kernels = _kernels(len(raw))
    if kernels is not None:
        lengths, offsets, valid = kernels.parse(raw.copy(), starts, _LONGEST_CODE)
        if valid:  # else the slow path says what is wrong, and where
            return Runs(lengths, offsets)
    return _parse_with_numpy(raw, starts)


def _parse_with_numpy(raw: NDArray[np.uint8], starts: NDArray[np.int64]) -> Runs:
    code = raw - np.uint8(_OFFSET)  # what lies below the offset wraps around to the largest values
    if len(code) and code.max() > _HIGHEST:
        row = int(np.searchsorted(starts, np.flatnonzero(code > _HIGHEST)[0], side="right") - 1)
        raise RleError(f"row {row}: RLE counts hold a character outside the code (0x30 to 0x6f)")
    is_last = code < _MORE  # of its number
    cut = np.flatnonzero((np.diff(starts) > 0) & ~is_last[starts[1:] - 1]) if len(code) else starts[:0]
    if len(cut):
        raise RleError(f"row {int(cut[0])}: RLE counts end in the middle of a number")
    ends = np.flatnonzero(is_last)
    offsets = np.searchsorted(ends, starts, side="left").astype(np.int64)
    numbers = _read_numbers(code, is_last, ends, offsets)
    return Runs(_undo_differences(numbers, offsets), offsets)


def check(runs: Runs, pixels: NDArray[np.int64]) -> None:
    """Raise RleError (naming the first row) unless every run is >= 0 and each mask's runs sum to its `pixels`.

    Counts that do not hang pycocotools.mask.iou or make its decode read uninitialised memory. Each run is held against
    its image before any are added: a crafted sum could wrap around to the right number.
    """
    if _runs_fit(runs, pixels) and np.array_equal(runs.totals(), pixels):
        return
    large = np.flatnonzero(pixels > _MOST_PIXELS)
    if len(large):
        row = int(large[0])
        raise RleError(f"row {row}: an image of {int(pixels[row])} pixels; at most {_MOST_PIXELS} can be encoded")
    outside = np.flatnonzero((runs.lengths < 0) | (runs.lengths > np.repeat(pixels, np.diff(runs.offsets))))
    if len(outside):
        row, length = int(np.searchsorted(runs.offsets, outside[0], side="right") - 1), int(runs.lengths[outside[0]])
        what = "a negative run" if length < 0 else f"a run of {length} in an image of {int(pixels[row])} pixels"
        raise RleError(f"row {row}: RLE counts hold {what}")
    wrong = np.flatnonzero(runs.totals() != pixels)
    if len(wrong):
        row = int(wrong[0])
        raise RleError(
            f"row {row}: RLE counts sum to {int(runs.totals()[row])}, not height x width = {int(pixels[row])}"
        )


def fit(column: pa.Array | pa.ChunkedArray, pixels: NDArray[np.int64], areas: NDArray[np.int64]) -> bool:
    """Whether each row can be read, fills its `pixels` and has its `areas` set: all checks at once, without reasons."""
    raw, starts = _concatenated(column)
    kernels = _kernels(len(raw))
    if kernels is not None:
        return bool(kernels.fit(raw.copy(), starts.copy(), pixels, areas.copy(), _LONGEST_CODE, _MOST_PIXELS))
    # From 0 even where there is no character: rows of empty counts are checked like all others.
    blocks = np.unique(np.searchsorted(starts, np.arange(0, max(len(raw), 1), _BLOCK), side="left")).tolist()
    return all(
        _block_fits(raw[starts[a] : starts[b]], starts[a : b + 1] - starts[a], pixels[a:b], areas[a:b])
        for a, b in pairwise([*blocks, len(pixels)])
    )


def _block_fits(
    raw: NDArray[np.uint8], starts: NDArray[np.int64], pixels: NDArray[np.int64], areas: NDArray[np.int64]
) -> bool:
    try:
        runs = _parse_with_numpy(raw, starts)
    except RleError:
        return False
    if not _runs_fit(runs, pixels):
        return False
    zeros, ones = _sums_of_kinds(runs)
    return np.array_equal(zeros + ones, pixels) and np.array_equal(ones, areas)


def _runs_fit(runs: Runs, pixels: NDArray[np.int64]) -> bool:
    """Whether no run is negative or so long that the sums could wrap around."""
    return bool(
        pixels.max(initial=0) <= _MOST_PIXELS
        and runs.lengths.min(initial=0) >= 0
        and runs.lengths.max(initial=0) <= pixels.max(initial=0)
    )


def _kernels(size: int) -> ModuleType | None:
    """The compiled functions, if the work is worth loading numba for and numba can be imported."""
    return _compiled() if size >= _WORTH_COMPILING else None


@cache
def _compiled() -> ModuleType | None:
    try:
        from workbench import rle_kernels
    except ImportError:
        return None
    return rle_kernels


def _concatenated(
    column: pa.Array | pa.ChunkedArray | list[bytes],
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    if isinstance(column, pa.Array):
        if column.null_count:
            raise RleError("a row has no RLE counts (null)")
        array = column.cast(pa.large_binary())
        _, offsets_buffer, data = array.buffers()
        offsets = np.frombuffer(offsets_buffer, dtype=np.int64)[array.offset : array.offset + len(array) + 1]
        raw = np.frombuffer(data, dtype=np.uint8)[offsets[0] : offsets[-1]] if data else np.zeros(0, np.uint8)
        return raw, offsets - offsets[0]
    raw = np.frombuffer(b"".join(column), dtype=np.uint8)
    return raw, np.concatenate([[0], np.cumsum([len(counts) for counts in column], dtype=np.int64)]).astype(np.int64)


def _read_numbers(
    code: NDArray[np.uint8], is_last: NDArray[np.bool_], ends: NDArray[np.int64], offsets: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The numbers whose last characters are at `ends`. Nearly all have one or two, which every character is read as."""
    low = (code & _LOW_BITS).astype(np.int16)
    highest = (low ^ _SIGN) - _SIGN  # of a number's last character, with its sign
    two = highest.copy()
    with_lower = (highest[1:] << _BITS) | low[:-1]
    two[1:] += (with_lower - highest[1:]) * ~is_last[:-1]  # several times as fast as numpy.where
    numbers = two[ends].astype(np.int64)
    third = np.flatnonzero(~is_last[:-2] & ~is_last[1:-1] & is_last[2:]) + 2  # last of three or more
    which = np.searchsorted(ends, third)
    sizes = third - np.where(which > 0, ends[which - 1], -1)
    if sizes.max(initial=0) > _LONGEST_CODE:
        row = int(np.searchsorted(offsets, which[int(np.argmax(sizes))], side="right") - 1)
        raise RleError(f"row {row}: RLE counts hold a number of more than {_LONGEST_CODE} characters")
    values = highest[third].astype(np.int64)
    for place in range(1, _LONGEST_CODE):
        has = sizes > place
        values[has] = (values[has] << _BITS) | low[third[has] - place]
    numbers[which] = values
    return numbers


def _undo_differences(numbers: NDArray[np.int64], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Runs 3, 4, 5, ... are stored as differences from the run two before: sum every second number.

    The sums go through all masks; what they had reached before a mask's chain is taken off again. Its even chain begins
    at run 2, as run 0 is not the base of run 2; its odd one at run 1.
    """
    lengths = np.empty_like(numbers)
    begins, stops = offsets[:-1], offsets[1:]
    for parity in (0, 1):
        of_mask = (stops + 1 - parity) // 2 - (begins + 1 - parity) // 2  # how many of these places each mask has
        sums = np.cumsum(numbers[parity::2])
        is_even_chain = begins % 2 == parity
        before = (begins + is_even_chain + 1 - parity) // 2 - 1  # run 0, or the last number of the mask before
        reached = np.where(before >= 0, np.take(sums, before, mode="clip"), 0) if len(sums) else before
        lengths[parity::2] = sums - np.repeat(reached, of_mask)
    first = begins[stops > begins]
    lengths[first] = numbers[first]
    return lengths


def _segment_sums(values: NDArray[np.int64], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    sums = np.concatenate([[0], np.cumsum(values)])
    return np.asarray(sums[offsets[1:]] - sums[offsets[:-1]], dtype=np.int64)


def _sums_of_kinds(runs: Runs) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pixels of zeros and of ones of each mask: every second run."""
    begins, stops = runs.offsets[:-1], runs.offsets[1:]
    sums = [np.concatenate([[0], np.cumsum(runs.lengths[parity::2])]) for parity in (0, 1)]
    even, odd = (each[(stops + 1 - parity) // 2] - each[(begins + 1 - parity) // 2] for parity, each in enumerate(sums))
    starts_even = begins % 2 == 0
    return np.where(starts_even, even, odd), np.where(starts_even, odd, even)
