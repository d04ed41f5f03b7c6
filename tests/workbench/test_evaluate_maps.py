"""Maps are intersected as painted, compiled or not; sides that overlap themselves are left to others."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from tests.reference.scenes import Listed, PanopticImage, table_of
from workbench.evaluation import maps
from workbench.evaluation.columns import Segments, segments_of
from workbench.evaluation.overlaps import _rows_of_shared_images, intersect

Intersect = Callable[[Segments, Segments], NDArray[np.int64] | None]


def intersection(compiled: bool) -> Intersect:
    return lambda a, b: maps.intersect_maps(a, b, _rows_of_shared_images(a, b), maps.kernels() if compiled else None)


@pytest.fixture(params=[True, False], ids=["compiled", "numpy"])
def intersect_maps(request: pytest.FixtureRequest) -> Intersect:
    return intersection(request.param)


@st.composite
def two_maps(draw: st.DrawFn) -> tuple[list[PanopticImage], list[PanopticImage]]:
    """Images that only one side has, unlabelled pixels, void rows or none, labels without pixels."""
    sides: tuple[list[PanopticImage], list[PanopticImage]] = ([], [])
    for number in range(draw(st.integers(1, 4))):
        shape = (draw(st.integers(1, 9)), draw(st.integers(1, 9)))
        for side in sides:
            if draw(st.integers(0, 5)):
                label_map = draw(arrays.arrays(np.int64, shape, elements=st.integers(0, 4)))
                listed = tuple(Listed(label, 1) for label in range(1, 5) if draw(st.integers(0, 4)))
                side.append(PanopticImage(str(number), label_map, listed))
    return sides


def as_segments(images: list[PanopticImage], score: float | None) -> Segments:
    return segments_of(table_of(images, score), [str(number) for number in range(4)])


def by_painting(
    gt: list[PanopticImage], pred: list[PanopticImage], truth: Segments, guess: Segments
) -> list[list[int]]:
    """Counts pixels of every pair of rows; a row's source id is its label."""
    pictures = [{image.image_id: image.label_map for image in side} for side in (gt, pred)]
    found = []
    for a in range(len(truth)):
        for b in range(len(guess)):
            if truth.image[a] == guess.image[b]:
                of_gt, of_pred = (picture[str(truth.image[a])] for picture in pictures)
                pixels = int(((of_gt == truth.source_id[a]) & (of_pred == guess.source_id[b])).sum())
                found += [[a, b, pixels]] if pixels else []
    return found


@settings(deadline=None, max_examples=150)
@given(two_maps())
def test_pixels_are_those_of_painted_maps(pair):
    truth, guess = as_segments(pair[0], None), as_segments(pair[1], 0.5)
    expected = by_painting(*pair, truth, guess)
    for compiled in (True, False):
        found = intersection(compiled)(truth, guess)
        assert found is not None
        assert found.tolist() == expected


def test_maps_of_real_size_and_noise(intersect_maps):
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 9, size=(700, 1100)) * (rng.random((700, 1100)) < 0.7) for _ in range(2)]
    sides = [[PanopticImage("0", picture, tuple(Listed(i, 1) for i in range(1, 9)))] for picture in pictures]
    truth, guess = as_segments(sides[0], None), as_segments(sides[1], 0.5)
    table = np.zeros((9, 9), np.int64)
    np.add.at(table, tuple(pictures), 1)
    found = intersect_maps(truth, guess)
    assert found[:, 2].tolist() == table[:, 1:].ravel().tolist()


def test_sides_that_overlap_themselves_are_refused_and_still_intersected(intersect_maps):
    whole = PanopticImage("0", np.ones((3, 4), np.int64), (Listed(1, 1),))
    once = as_segments([whole], 0.5)
    twice = once.take(np.array([0, 0]))
    assert intersect_maps(once, twice) is None
    assert intersect_maps(twice, once) is None
    assert intersect(once, twice).pixels.tolist() == [12, 12]


def test_many_runs_that_overlap_are_refused_before_they_are_sorted(intersect_maps):
    comb = PanopticImage("0", np.indices((600, 2))[0] % 2, (Listed(1, 1),))
    side = as_segments([comb], 0.5).take(np.zeros(40, np.int64))
    assert intersect_maps(side, side) is None


def test_images_of_one_side_alone_are_skipped(intersect_maps):
    images = [PanopticImage(str(number), np.full((2, 2), 7), (Listed(7, 1),)) for number in range(4)]
    truth = as_segments([images[0], images[1], images[3]], 0.5)
    guess = as_segments([images[1], images[2], images[3]], 0.5)
    assert intersect_maps(truth, guess).tolist() == [[1, 0, 4], [2, 2, 4]]
    assert len(intersect_maps(truth, as_segments([images[2]], 0.5))) == 0


def test_segments_of_one_image_that_differ_in_size_are_left_to_others(intersect_maps):
    small, large, turned = (np.full(shape, 1) for shape in ((2, 3), (400, 300), (3, 2)))
    sides = [as_segments([PanopticImage("0", each, (Listed(1, 1),))], 0.5) for each in (small, large, turned)]
    assert intersect_maps(sides[0], sides[1]) is None
    assert intersect_maps(sides[1], sides[0]) is None
    assert intersect_maps(sides[0], sides[2]) is None
