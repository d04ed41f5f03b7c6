"""Compiled or not, the same runs are read and the same columns refused."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from workbench import rle

MASKS = st.lists(arrays.arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9))), max_size=4)


def with_threshold(characters: float, read: Callable[[], rle.Runs]) -> rle.Runs | str:
    """What is read, or why not, with compiled code used from so many characters on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rle, "_WORTH_COMPILING", characters)
        try:
            return read()
        except rle.RleError as error:
            return str(error)


def assert_same(column: list[bytes]) -> None:
    compiled, plain = (with_threshold(size, lambda: rle.parse_runs(column)) for size in (0, np.inf))
    if isinstance(plain, str):
        assert compiled == plain
        return
    assert isinstance(compiled, rle.Runs)
    assert compiled.lengths.tolist() == plain.lengths.tolist()
    assert compiled.offsets.tolist() == plain.offsets.tolist()


@settings(deadline=None)
@given(MASKS)
def test_masks_are_read_alike(masks):
    assert_same([rle.encode(mask) for mask in masks])


@settings(deadline=None, max_examples=300)
@given(st.lists(st.binary(max_size=20), max_size=4))
def test_any_bytes_are_read_or_refused_alike(column):
    assert_same(column)


@settings(deadline=None, max_examples=300)
@given(st.lists(st.lists(st.integers(48, 111), max_size=30).map(bytes), max_size=4))
def test_any_characters_of_the_code_are_read_or_refused_alike(column):
    assert_same(column)


def fits(column: list[bytes], pixels: list[int], areas: list[int], characters: float) -> bool:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rle, "_WORTH_COMPILING", characters)
        return rle.fit(pa.array(column, pa.binary()), np.array(pixels, np.int64), np.array(areas, np.int64))


@settings(deadline=None)
@given(MASKS, st.integers(0, 3), st.sampled_from([(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)]), st.integers(1, 40))
def test_masks_fit_their_pixels_and_areas_and_no_others(masks, row, off, block):
    column = [rle.encode(mask) for mask in masks]
    pixels, areas = [mask.size for mask in masks], [int(mask.sum()) for mask in masks]
    right = off == (0, 0) or row >= len(masks)
    if not right:
        pixels[row], areas[row] = pixels[row] + off[0], areas[row] + off[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rle, "_BLOCK", block)
        assert fits(column, pixels, areas, 0) == fits(column, pixels, areas, np.inf) == right


@settings(deadline=None, max_examples=300)
@given(st.lists(st.lists(st.integers(48, 111), max_size=12).map(bytes), min_size=1, max_size=3))
def test_what_fits_is_what_can_be_read_and_checked(column):
    try:
        runs = rle.parse_runs(column)
        pixels, areas = runs.totals(), runs.areas()
        rle.check(runs, pixels)
        readable = True
    except rle.RleError:
        pixels = areas = np.full(len(column), 4)
        readable = False
    assert fits(column, pixels, areas, 0) == fits(column, pixels, areas, np.inf) == readable


@settings(deadline=None)
@given(MASKS)
def test_areas_are_counted_alike(masks):
    runs = rle.parse_runs([rle.encode(mask) for mask in masks])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rle, "_WORTH_COMPILING", 0)
        assert runs.areas().tolist() == [int(mask.sum()) for mask in masks]


def test_without_numba_large_columns_are_read_too(monkeypatch):
    monkeypatch.setattr(rle, "_compiled", lambda: None)
    masks = [np.random.default_rng(0).random((500, 500)) < 0.5]
    assert rle.parse_runs([rle.encode(mask) for mask in masks]).areas().tolist() == [int(masks[0].sum())]
