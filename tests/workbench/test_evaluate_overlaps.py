"""The intersection table must hold what counting pixels of painted masks gives, compiled or not."""

import subprocess
import sys
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from tests.reference.scenes import box_of
from workbench import rle
from workbench.errors import SegmentTableError
from workbench.evaluation import overlaps
from workbench.evaluation.columns import Segments, segments_of
from workbench.evaluation.overlaps import Overlaps, find_overlap, intersect
from workbench.segments import SEGMENT_SCHEMA, segment_table

Masks = list[tuple[str, NDArray[np.bool_]]]
COLUMNS = tuple(field.name for field in SEGMENT_SCHEMA if not field.nullable)


def table_of(masks: Masks) -> pa.Table:
    """Masks, possibly overlapping, numbered within their image."""
    columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    for image_id in dict.fromkeys(name for name, _ in masks):
        for number, mask in enumerate((m for name, m in masks if name == image_id), start=1):
            row = (
                image_id,
                number,
                number - 1,
                1,
                True,
                False,
                mask.sum(),
                box_of(mask),
                *mask.shape,
                rle.encode(mask),
            )
            for name, value in zip(COLUMNS, row, strict=True):
                columns[name].append(value)
    return segment_table(columns)


def by_counting_pixels(first: Masks, second: Masks) -> list[tuple[int, int, int]]:
    """(row, row, pixels) of every pair of one image that shares a pixel; masks must be grouped by image."""
    return [
        (i, j, int((a & b).sum()))
        for i, (image, a) in enumerate(first)
        for j, (other, b) in enumerate(second)
        if image == other and (a & b).any()
    ]


def rows_of(found: Overlaps) -> list[tuple[int, ...]]:
    return [tuple(row) for row in np.stack([found.first, found.second, found.pixels], axis=1).tolist()]


@st.composite
def two_sides(draw: st.DrawFn) -> tuple[Masks, Masks]:
    sides: tuple[Masks, Masks] = ([], [])
    for image_id in ("0", "1", "2")[: draw(st.integers(1, 3))]:
        shape = (draw(st.integers(1, 9)), draw(st.integers(1, 9)))
        mask = arrays.arrays(np.bool_, shape, fill=st.booleans())
        for side in sides:
            side.extend((image_id, drawn) for drawn in draw(st.lists(mask, max_size=4)))
    return sides


IMPLEMENTATIONS = {
    "compiled": lambda a, b: overlaps._intersect_compiled(a, b, overlaps.compiled_kernels()),
    "pycocotools": overlaps._intersect_with_pycocotools,
    "chosen": intersect,
}


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@settings(deadline=None)
@given(sides=two_sides())
def test_pixels_are_those_of_painted_masks(implementation, sides):
    first, second = (segments_of(table_of(side), ["0", "1", "2"]) for side in sides)
    assert rows_of(IMPLEMENTATIONS[implementation](first, second)) == by_counting_pixels(*sides)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_masks_of_real_size_with_long_runs_and_noise(implementation):
    rng = np.random.default_rng(0)
    shape = (1080, 1920)
    masks = [rng.random(shape) < share for share in (0.001, 0.5, 0.999)] + [np.ones(shape, bool), np.zeros(shape, bool)]
    side = [("0", mask) for mask in masks]
    segments = segments_of(table_of(side), ["0"])
    assert rows_of(IMPLEMENTATIONS[implementation](segments, segments)) == by_counting_pixels(side, side)


def test_the_order_of_rows_does_not_matter():
    rng = np.random.default_rng(1)
    side = [(str(i), rng.random((8, 5)) < 0.5) for i in range(3) for _ in range(4)]
    table = table_of(side)
    shuffled = table.take(pa.array(rng.permutation(len(table))))
    a, b = segments_of(table, ["0", "1", "2"]), segments_of(shuffled, ["0", "1", "2"])
    assert rows_of(intersect(a, a)) == rows_of(intersect(b, b))


def test_a_subset_of_rows_intersects_as_those_rows():
    """`take` leaves an Arrow array that begins in the middle of its buffer only if it slices: both must work."""
    side = [("0", np.eye(4, dtype=bool) if i % 2 else np.ones((4, 4), bool)) for i in range(6)]
    whole = segments_of(table_of(side).slice(2, 3), ["0"])
    assert rows_of(intersect(whole, whole)) == by_counting_pixels(side[2:5], side[2:5])
    assert len(intersect(whole, whole.take(np.array([False, False, False])))) == 0


def test_an_overlap_within_one_side_is_found():
    left = np.array([[True, True, False]])
    right = np.array([[False, False, True]])
    middle = np.array([[False, True, False]])
    assert find_overlap(segments_of(table_of([("0", left), ("0", right)]), ["0"])) is None
    assert find_overlap(segments_of(table_of([("0", left), ("0", right), ("0", middle)]), ["0"])) == (0, 2)


def test_a_segment_id_used_twice_in_an_image_is_refused():
    table = table_of([("7", np.ones((1, 1), bool))])
    with pytest.raises(SegmentTableError, match="image 7: segment id 1 is used more than once"):
        segments_of(pa.concat_tables([table, table]), ["7"])


def test_an_image_outside_the_list_is_refused():
    with pytest.raises(SegmentTableError, match="image 7: has segments but is not among"):
        segments_of(table_of([("7", np.ones((1, 1), bool))]), ["8"])


def test_importing_the_scoring_costs_neither_numba_nor_torch():
    code = (
        "import sys, workbench.evaluation.overlaps, workbench.evaluation.panoptic;"
        "print([name for name in ('numba', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_numba_the_same_table_comes_out(monkeypatch):
    side = [("0", np.eye(5, dtype=bool)), ("0", np.ones((5, 5), bool))]
    segments: Segments = segments_of(table_of(side), ["0"])
    expected = rows_of(intersect(segments, segments))
    monkeypatch.setattr(overlaps, "compiled_kernels", lambda: None)
    assert rows_of(intersect(segments, segments)) == expected
