"""Polygons that people and tools can edit: a mask's outline with fewer points, and the pixels inside a polygon again.

Fewer points: Douglas and Peucker 1973, on each closed line of the exact outline, starting from three of its corners.
What is left out lies within the tolerance of the line that replaces it, and that line within the tolerance of what is
left out: the Hausdorff distance of a ring before and after is at most the tolerance. With tolerance 0 every corner
stays, and `fill` gives the mask back bit by bit.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from workbench.errors import WorkbenchError
from workbench.outlines import Part, Ring, trace

_FARTHEST = 1e8
"""Pixels from the image's corner: what is farther is no place in a picture, and sums of it lose whole pixels."""


class PolygonError(WorkbenchError):
    """A polygon with a point that is no place: not a number, infinite, or far outside of any image."""


def polygons(mask: NDArray[np.bool_], tolerance: float) -> list[Ring]:
    """One closed line a part of the mask (height, width), in pixels, its holes cut open (`without_holes`)."""
    return [without_holes(simplified(part, tolerance)) for part in trace(mask)]


def simplified(part: Part, tolerance: float) -> Part:
    """The part with each ring simplified; rings keep at least three points, and their sense.

    Rings are simplified one by one: where a mask is thinner than the tolerance, lines may come to cross.
    """
    return Part(simplify(part.outer, tolerance), tuple(simplify(hole, tolerance) for hole in part.holes))


def simplify(ring: Ring, tolerance: float) -> Ring:
    """Some of the ring's points: no point of either line is farther than `tolerance` (pixels) from the other line."""
    if tolerance <= 0 or len(ring) <= 3:
        return ring
    first = 0
    second = int(np.argmax(_squared_distance(ring, ring[first], ring[first])))
    third = int(np.argmax(_squared_distance(ring, ring[first], ring[second])))
    corners = sorted({first, second, third})
    kept = np.zeros(len(ring) + 1, dtype=np.bool_)  # the first point once more at the end
    kept[corners] = True
    closed = np.vstack([ring, ring[:1]])
    arcs = list(zip(corners, [*corners[1:], len(ring)], strict=True))
    while arcs:
        begin, end = arcs.pop()
        if end - begin < 2:
            continue
        squared = _squared_distance(closed[begin + 1 : end], closed[begin], closed[end])
        farthest = int(np.argmax(squared))
        if squared[farthest] > tolerance**2:
            middle = begin + 1 + farthest
            kept[middle] = True
            arcs += [(begin, middle), (middle, end)]
    return ring[kept[:-1]]


def _squared_distance(points: Ring, a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """From the segment a-b, not from the line through it: what makes the tolerance a bound."""
    direction = b - a
    length = float(direction @ direction)
    from_a = points - a
    if not length:
        return np.asarray((from_a**2).sum(axis=1))
    share = np.clip(from_a @ direction / length, 0, 1)
    return np.asarray(((from_a - share[:, None] * direction) ** 2).sum(axis=1))


def without_holes(part: Part) -> Ring:
    """One closed line around the part that enters its holes and leaves them on the same way: a cut without width.

    Tools have no holes in polygons. Each cut joins the two points of the outer line and of the hole that are nearest to
    each other; where it crosses another hole, no pixel changes, since it is walked both ways.
    """
    if not part.holes:
        return part.outer
    tree = cKDTree(part.outer)
    detours: dict[int, list[Ring]] = {}
    for hole in sorted(part.holes, key=lambda ring: ring[:, 0].min()):
        distances, nearest = tree.query(hole)
        start = int(np.lexsort((nearest, distances))[0])  # of equally near ones the first of the outer line
        at, around = int(nearest[start]), np.roll(hole, -start, axis=0)
        detours.setdefault(at, []).append(np.concatenate([around, around[:1], part.outer[at : at + 1]]))
    pieces, begin = [], 0
    for at in sorted(detours):
        pieces += [part.outer[begin : at + 1], *detours[at]]
        begin = at + 1
    return np.concatenate([*pieces, part.outer[begin:]])


def fill(rings: Iterable[Ring], height: int, width: int) -> NDArray[np.bool_]:
    """The pixels whose centre lies inside an odd number of the rings' turns, bool of shape (height, width).

    A centre on the line itself counts as inside on the left and upper side of a polygon, and as outside on the others.
    Raises PolygonError for a point that is no place.
    """
    flips = np.zeros(height * (width + 1), dtype=np.int64)
    for ring in rings:
        rows, columns = _crossings(_places(ring), height)
        np.add.at(flips, rows * (width + 1) + np.clip(columns, 0, width), 1)
    crossed = flips.reshape(height, width + 1)[:, :width].cumsum(axis=1)
    return np.asarray(crossed % 2 == 1)


def _places(ring: Ring) -> Ring:
    points = np.asarray(ring, dtype=np.float64)
    wrong = np.flatnonzero(~(np.abs(points) <= _FARTHEST).all(axis=1))  # NaN is not
    if len(wrong):
        number = int(wrong[0])
        x, y = points[number].tolist()
        raise PolygonError(f"point {number + 1} of a polygon of {len(points)} is at x = {x:g}, y = {y:g} pixels")
    return points


def _crossings(ring: Ring, height: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where the ring crosses lines through pixel centres: the row, and the first column that is behind."""
    a, b = ring, np.roll(ring, -1, axis=0)
    swap = a[:, 1] > b[:, 1]
    low, high = np.where(swap[:, None], b, a), np.where(swap[:, None], a, b)
    first = np.clip(np.ceil(low[:, 1] - 0.5), 0, height).astype(np.int64)
    stop = np.clip(np.ceil(high[:, 1] - 0.5), 0, height).astype(np.int64)
    counts = np.maximum(stop - first, 0)
    edge = np.repeat(np.arange(len(ring)), counts)
    rows = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
    slope = (high[edge, 0] - low[edge, 0]) / (high[edge, 1] - low[edge, 1])
    x = low[edge, 0] + (rows + 0.5 - low[edge, 1]) * slope
    return rows, np.ceil(x - 0.5).astype(np.int64)
