"""The RLE codec equals pycocotools, and refuses what would hang pycocotools or make it read uninitialised memory."""

import numpy as np
import pyarrow as pa
import pycocotools.mask as coco_mask
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from workbench import rle

masks = hnp.arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12)))


def run_lengths(mask: NDArray[np.bool_]) -> list[int]:
    """Column-major run lengths, zeros first, one pixel at a time."""
    lengths, value = [0], False
    for pixel in mask.T.ravel():
        if pixel != value:
            lengths.append(0)
            value = pixel
        lengths[-1] += 1
    return lengths


def lists(runs: rle.Runs) -> list[list[int]]:
    return [runs.lengths[a:b].tolist() for a, b in zip(runs.offsets[:-1], runs.offsets[1:], strict=True)]


@settings(deadline=None)
@given(masks)
def test_a_mask_survives(mask: NDArray[np.bool_]) -> None:
    decoded = rle.decode(rle.encode(mask), *mask.shape)
    assert decoded.dtype == np.bool_
    assert np.array_equal(decoded, mask)


@settings(deadline=None)
@given(st.lists(masks, max_size=5))
def test_parsed_runs_are_those_of_the_pixels(some: list[NDArray[np.bool_]]) -> None:
    runs = rle.parse_runs([rle.encode(mask) for mask in some])
    assert len(runs) == len(some)
    assert lists(runs) == [run_lengths(mask) for mask in some]
    assert runs.areas().tolist() == [int(mask.sum()) for mask in some]
    assert runs.totals().tolist() == [mask.size for mask in some]


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**31), min_size=1, max_size=8))
def test_long_runs_are_read_as_pycocotools_writes_them(lengths: list[int]) -> None:
    # pycocotools holds runs in 32 bits; its own compression of a list of counts is the reference.
    compressed = coco_mask.frPyObjects({"size": [sum(lengths), 1], "counts": lengths}, sum(lengths), 1)["counts"]
    assert lists(rle.parse_runs([compressed])) == [lengths]


def test_every_kind_of_column_is_read_alike() -> None:
    counts = [rle.encode(np.eye(3, dtype=np.bool_)), rle.encode(np.ones((2, 2), dtype=np.bool_))]
    array = pa.array(counts, pa.binary())
    expected = lists(rle.parse_runs(counts))
    assert lists(rle.parse_runs(array)) == expected
    assert lists(rle.parse_runs(pa.chunked_array([array[:1], array[1:]]))) == expected
    assert lists(rle.parse_runs(pa.chunked_array([array]))) == expected
    assert lists(rle.parse_runs(array[1:])) == expected[1:]


def test_no_rows_have_no_runs() -> None:
    for empty in ([], pa.array([], pa.binary()), pa.chunked_array([], pa.binary())):
        runs = rle.parse_runs(empty)
        assert len(runs) == 0
        assert runs.areas().tolist() == []
        rle.check(runs, np.zeros(0, np.int64))


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (b"\x00", "row 1: RLE counts hold a character outside the code"),
        (b"p", "row 1: RLE counts hold a character outside the code"),
        (b"P", "row 1: RLE counts end in the middle of a number"),
        (b"P" * 7 + b"0", "row 1: RLE counts hold a number of more than 7 characters"),
    ],
)
def test_broken_counts_name_their_row(counts: bytes, message: str) -> None:
    with pytest.raises(rle.RleError, match=message):
        rle.parse_runs([b"4", counts])


def test_null_counts_are_refused() -> None:
    with pytest.raises(rle.RleError, match="null"):
        rle.parse_runs(pa.array([b"4", None], pa.binary()))


def test_counts_that_do_not_fill_the_image_name_their_row() -> None:
    runs = rle.parse_runs([b"4", b"4"])
    with pytest.raises(rle.RleError, match="row 1: RLE counts sum to 4, not height x width = 9"):
        rle.check(runs, np.array([4, 9]))


def test_a_negative_run_names_its_row() -> None:
    runs = rle.parse_runs([b"4", b"1O4"])  # 1, -1, 4: sums to 4
    with pytest.raises(rle.RleError, match="row 1: RLE counts hold a negative run"):
        rle.check(runs, np.array([4, 4]))


def test_decoding_checks_before_pycocotools_sees_the_counts() -> None:
    with pytest.raises(rle.RleError):
        rle.decode(b"4", 3, 3)


@settings(deadline=None)
@given(masks, st.data())
def test_random_damage_is_noticed_or_harmless(mask: NDArray[np.bool_], data: st.DataObject) -> None:
    damaged = bytearray(rle.encode(mask))
    damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        decoded = rle.decode(bytes(damaged), *mask.shape)
    except rle.RleError:
        return
    runs = rle.parse_runs([bytes(damaged)])
    assert int(decoded.sum()) == int(runs.areas()[0])


def compressed(lengths: list[int]) -> bytes:
    """Run lengths in the compressed code, each number signed and of any size: what a crafted file may hold."""
    characters = []
    for place, length in enumerate(lengths):
        number = length - lengths[place - 2] if place > 2 else length
        while True:
            low, number = number & 0x1F, number >> 5
            more = number != (-1 if low & 0x10 else 0)
            characters.append(low + 48 + (0x20 if more else 0))
            if not more:
                break
    return bytes(characters)


@pytest.mark.parametrize("excess", [1_000, 10_000_000])
def test_runs_whose_sum_wraps_around_to_the_right_number_are_refused(excess: int) -> None:
    pixels = 16
    long = 2**62 + excess
    last = (pixels - 3 * long) % 2**64
    assert (3 * long + last) % 2**64 == pixels
    with pytest.raises(rle.RleError, match="row 0"):
        rle.check(rle.parse_runs([compressed([long, long, long, last])]), np.array([pixels]))


def test_a_run_longer_than_its_image_is_refused_before_it_is_summed() -> None:
    runs = rle.Runs(np.array([2**62, 2**62, 2**62, 2**62 + 16]), np.array([0, 4]))  # the sum wraps around to 16
    with pytest.raises(rle.RleError, match=r"row 0.*4611686018427387904.*16 pixels"):
        rle.check(runs, np.array([16]))


def test_an_image_too_large_for_the_code_is_refused() -> None:
    with pytest.raises(rle.RleError, match=r"row 0.*4294967296"):
        rle.check(rle.parse_runs([compressed([2**31, 2**31])]), np.array([2**32]))
