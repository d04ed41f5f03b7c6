"""COCO's compressed run-length encoding: bytes <-> run lengths <-> masks, checked before anyone trusts them.

A mask is written column by column as run lengths that start with the zeros. From the fourth run on, each is stored as
its difference from the run two before; each number goes into characters of five bits plus a continuation bit, offset
by 48.
Source: cocodataset/cocoapi, common/maskApi.c (rleToString, rleFrString).
"""

from dataclasses import dataclass
from functools import cache
from types import ModuleType

import numpy as np
import pyarrow as pa
import pycocotools.mask as coco_mask
from numpy.typing import NDArray

_OFFSET, _MORE, _SIGN, _BITS = 48, 0x20, 0x10, 5
_LONGEST_CODE = 7  # characters that a run of `_MOST_PIXELS`, or a difference of two runs, can need
_MOST_PIXELS = 2**31 - 1  # of an image: the compiled code counts them in 32 bits
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
        ones = self.lengths.copy()
        position = np.arange(len(ones)) - np.repeat(self.offsets[:-1], np.diff(self.offsets))
        ones[position % 2 == 0] = 0
        return _segment_sums(ones, self.offsets)

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
    code = raw.astype(np.int64) - _OFFSET
    if len(code) and (code.min() < 0 or code.max() > 0x3F):
        row = int(np.searchsorted(starts, np.flatnonzero((code < 0) | (code > 0x3F))[0], side="right") - 1)
        raise RleError(f"row {row}: RLE counts hold a character outside the code (0x30 to 0x6f)")
    ends = np.flatnonzero((code & _MORE) == 0)  # last character of each number
    filled = np.diff(starts) > 0
    if not np.isin(starts[1:][filled] - 1, ends, assume_unique=True).all():
        row = int(np.flatnonzero(filled)[~np.isin(starts[1:][filled] - 1, ends)][0])
        raise RleError(f"row {row}: RLE counts end in the middle of a number")
    offsets = np.searchsorted(ends, starts, side="left").astype(np.int64)
    numbers = _read_numbers(code, ends, offsets)
    return Runs(_undo_differences(numbers, offsets), offsets)


def check(runs: Runs, pixels: NDArray[np.int64]) -> None:
    """Raise RleError (naming the first row) unless every run is >= 0 and each mask's runs sum to its `pixels`.

    Counts that do not hang pycocotools.mask.iou or make its decode read uninitialised memory. Each run is held against
    its image before any are added: a crafted sum could wrap around to the right number.
    """
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


def _read_numbers(code: NDArray[np.int64], ends: NDArray[np.int64], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    begins = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
    sizes = ends - begins + 1
    if len(sizes) and sizes.max() > _LONGEST_CODE:
        row = int(np.searchsorted(offsets, int(np.argmax(sizes)), side="right") - 1)
        raise RleError(f"row {row}: RLE counts hold a number of more than {_LONGEST_CODE} characters")
    numbers = np.zeros(len(ends), dtype=np.int64)
    for place in range(int(sizes.max()) if len(sizes) else 0):
        has = sizes > place
        numbers[has] |= (code[begins[has] + place] & 0x1F) << (_BITS * place)
    negative = (code[ends] & _SIGN) != 0
    shift = np.minimum(_BITS * sizes, 63)
    numbers[negative] |= np.int64(-1) << shift[negative]
    return numbers


def _undo_differences(numbers: NDArray[np.int64], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Runs 3, 4, 5, ... are stored as differences from the run two before: sum odd and even places separately."""
    position = np.arange(len(numbers)) - np.repeat(offsets[:-1], np.diff(offsets))
    lengths = numbers.copy()
    for parity in (0, 1):
        # Run 0 is not the base of run 2: the even chain starts at run 2, the odd one at run 1.
        places = np.flatnonzero((position % 2 == parity) & (position > 0))
        if not len(places):
            continue
        sums = np.cumsum(numbers[places])
        starts = np.flatnonzero(position[places] == (1 if parity else 2))
        base = np.where(starts > 0, sums[np.maximum(starts - 1, 0)], 0)
        lengths[places] = sums - np.repeat(base, np.diff(np.append(starts, len(places))))
    return lengths


def _segment_sums(values: NDArray[np.int64], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    sums = np.concatenate([[0], np.cumsum(values)])
    return np.asarray(sums[offsets[1:]] - sums[offsets[:-1]], dtype=np.int64)
