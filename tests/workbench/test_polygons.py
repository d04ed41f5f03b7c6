"""Outlines of masks, with all their points and with fewer: exact, within the tolerance, and filled back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

import workbench.polygons
from workbench.outlines import Part, Ring, signed_area, trace
from workbench.polygons import PolygonError, fill, polygons, simplified, simplify, without_holes

MASKS = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(lambda shape: arrays.arrays(np.bool_, shape))
BLOBS = st.tuples(st.integers(0, 10_000), st.floats(0.8, 3), st.floats(0.35, 0.65))
FEW = settings(max_examples=25, deadline=None)  # the slow, obvious versions below take 0.1 s an example
TOLERANCES = st.sampled_from([0.3, 0.5, 1.0, 2.0, 5.0])


def blob(seed: int, smoothness: float, level: float) -> np.ndarray:
    """Shapes as masks have them: parts, holes, thin places."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).random((32, 40)), smoothness)
    return np.asarray(noise > np.quantile(noise, level))


def points_along(ring: Ring, step: float = 0.2) -> np.ndarray:
    """Points of the closed line, no farther apart than `step`."""
    found = []
    for a, b in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        share = np.linspace(0, 1, 1 + int(np.ceil(np.linalg.norm(b - a) / step)), endpoint=False)
        found.append(a + share[:, None] * (b - a))
    return np.concatenate(found)


def distance_to(points: np.ndarray, ring: Ring) -> np.ndarray:
    """Of each point from the closed line, edge by edge."""
    nearest = np.full(len(points), np.inf)
    for a, b in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        share = np.clip((points - a) @ (b - a) / max(float((b - a) @ (b - a)), 1e-12), 0, 1)
        nearest = np.minimum(nearest, np.linalg.norm(points - (a + share[:, None] * (b - a)), axis=1))
    return nearest


def rings_of(parts: list[Part]) -> list[Ring]:
    return [ring for part in parts for ring in (part.outer, *part.holes)]


def fill_by_loops(rings: list[Ring], height: int, width: int) -> np.ndarray:
    """Count, for each pixel's centre, the edges that a ray to the left crosses."""
    found = np.zeros((height, width), dtype=np.bool_)
    for row in range(height):
        for column in range(width):
            x, y = column + 0.5, row + 0.5
            crossings = 0
            for ring in rings:
                for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
                    if min(y0, y1) <= y < max(y0, y1) and x0 + (y - y0) * (x1 - x0) / (y1 - y0) <= x:
                        crossings += 1
            found[row, column] = crossings % 2 == 1
    return found


def test_the_outline_of_a_square_with_a_hole():
    mask = np.ones((3, 3), dtype=np.bool_)
    mask[1, 1] = False
    (part,) = trace(mask)
    assert part.outer.tolist() == [[0, 0], [3, 0], [3, 3], [0, 3]]
    assert part.holes[0].tolist() == [[2, 1], [1, 1], [1, 2], [2, 2]]


def test_pixels_that_share_a_corner_are_one_part():
    (part,) = trace(np.eye(3, dtype=np.bool_))
    assert signed_area(part.outer) == 3


@given(MASKS)
def test_parts_are_those_of_eight_neighbours_and_have_the_mask_s_area(mask):
    parts = trace(mask)
    assert len(parts) == ndimage.label(mask, np.ones((3, 3)))[1]
    assert sum(signed_area(ring) for ring in rings_of(parts)) == mask.sum()
    assert all(signed_area(part.outer) > 0 and all(signed_area(hole) < 0 for hole in part.holes) for part in parts)


@given(MASKS)
def test_an_outline_lies_exactly_where_a_set_pixel_meets_another(mask):
    padded = np.pad(mask, 1)
    edges = np.count_nonzero(padded[1:] != padded[:-1]) + np.count_nonzero(padded[:, 1:] != padded[:, :-1])
    lengths = [np.abs(ring - np.roll(ring, 1, axis=0)).sum() for ring in rings_of(trace(mask))]
    assert sum(lengths) == edges


@given(MASKS)
def test_without_tolerance_the_mask_comes_back_bit_by_bit(mask):
    assert np.array_equal(fill(polygons(mask, 0), *mask.shape), mask)


@FEW
@given(BLOBS)
def test_without_tolerance_masks_with_parts_and_holes_come_back_too(made):
    mask = blob(*made)
    assert np.array_equal(fill(polygons(mask, 0), *mask.shape), mask)


@FEW
@given(BLOBS, TOLERANCES)
def test_no_point_of_either_line_is_farther_from_the_other_than_the_tolerance(made, tolerance):
    for part in trace(blob(*made)):
        less = simplified(part, tolerance)
        for exact, simple in zip(rings_of([part]), rings_of([less]), strict=True):
            assert distance_to(points_along(simple), exact).max() <= tolerance + 1e-9
            assert distance_to(points_along(exact), simple).max() <= tolerance + 1e-9
            assert len(simple) >= 3
            assert {tuple(point) for point in simple} <= {tuple(point) for point in exact}


@FEW
@given(BLOBS, TOLERANCES)
def test_pixels_change_only_near_the_outline(made, tolerance):
    mask = blob(*made)
    changed = np.argwhere(fill(polygons(mask, tolerance), *mask.shape) != mask)[:, ::-1] + 0.5
    if len(changed):
        exact = np.concatenate([points_along(ring) for ring in rings_of(trace(mask))])
        assert cdist(changed, exact).min(axis=1).max() <= tolerance + 0.2


def test_a_large_tolerance_leaves_far_fewer_points():
    y, x = np.ogrid[:200, :200]
    (part,) = trace(np.asarray((y - 100) ** 2 + (x - 100) ** 2 < 90**2))
    assert len(simplify(part.outer, 1.0)) < len(part.outer) / 5


def test_a_single_pixel_stays_a_polygon_whatever_the_tolerance():
    (part,) = trace(np.ones((1, 1), dtype=np.bool_))
    assert len(simplify(part.outer, 50.0)) == 3


@FEW
@given(BLOBS, TOLERANCES)
def test_a_cut_into_holes_changes_no_pixel(made, tolerance):
    mask = blob(*made)
    for part in trace(mask):
        less = simplified(part, tolerance)
        cut = fill([without_holes(less)], *mask.shape)
        assert np.array_equal(cut, fill([less.outer, *less.holes], *mask.shape))


def test_thousands_of_holes_take_one_search_tree(monkeypatch):
    made = []
    monkeypatch.setattr(workbench.polygons, "cKDTree", lambda points: made.append(1) or cKDTree(points))
    mask = np.random.default_rng(0).random((200, 200)) < 0.7
    mask[[0, -1]] = mask[:, [0, -1]] = True
    mask = ndimage.label(mask, np.ones((3, 3)))[0] == 1
    (ring,) = polygons(mask, 0)
    assert len(trace(mask)[0].holes) > 4000
    assert len(made) == 1
    assert np.array_equal(fill([ring], *mask.shape), mask)


@pytest.mark.parametrize("seed", range(40))
def test_filling_agrees_with_counting_crossings_pixel_by_pixel(seed):
    generator = np.random.default_rng(seed)
    rings = [generator.uniform(-3, 12, size=(generator.integers(3, 8), 2)) for _ in range(generator.integers(1, 3))]
    assert np.array_equal(fill(rings, 8, 10), fill_by_loops(rings, 8, 10))


@pytest.mark.parametrize("ring", [np.zeros((0, 2)), np.array([[2.0, 2.0]]), np.array([[0.0, 0.0], [5.0, 5.0]])])
def test_what_is_no_polygon_has_no_pixel(ring):
    assert not fill([ring], 6, 6).any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_a_point_that_is_no_place_is_refused(value):
    with pytest.raises(PolygonError, match="point 2 of a polygon of 3 is at x = 5, y = "):
        fill([np.array([[0.0, 0.0], [5.0, value], [2.0, 5.0]])], 6, 6)


def test_a_polygon_that_leaves_the_image_is_no_error():
    assert fill([np.array([[-1e7, -1e7], [1e7, -1e7], [1e7, 1e7], [-1e7, 1e7]])], 6, 6).all()
