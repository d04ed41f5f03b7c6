"""The exact outline of a mask: the closed lines along the edges of its pixels, part by part, holes apart.

Points are corners of pixels, (x, y) with the origin at the image's top left corner: pixel (column c, row r) is the
square from (c, r) to (c + 1, r + 1). A part is what hangs together through sides or corners of pixels (8 neighbours).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Ring = NDArray[np.float64]
"""(n, 2): the x and y of the points of a closed line, the first point not repeated."""


@dataclass(frozen=True)
class Part:
    """One connected part of a mask."""

    outer: Ring
    """Clockwise as one sees it."""
    holes: tuple[Ring, ...]
    """Counter-clockwise."""


def trace(mask: NDArray[np.bool_]) -> list[Part]:
    """The parts of a mask of shape (height, width), from the top down; rings have their corners only.

    A ring may touch itself, or another one, in a point: where pixels meet at a corner.
    """
    rights, downs = _sides(mask), _sides(mask.T)
    across, along = _next_side(rights, downs, mask.shape[1] + 1)
    labels, _ = ndimage.label(mask, structure=np.ones((3, 3)))
    outers: dict[int, Ring] = {}
    holes: dict[int, list[Ring]] = {}
    for sides in _cycles(along[across]):
        ring = np.empty((2 * len(sides), 2))
        ring[::2] = rights.start[sides]
        ring[1::2] = rights.end[sides]
        line, column = rights.inside[sides[0]].tolist()
        part = int(labels[line, column])
        if signed_area(ring) > 0:
            outers[part] = ring
        else:
            holes.setdefault(part, []).append(ring)
    return [Part(outers[part], tuple(holes.get(part, ()))) for part in sorted(outers)]


def signed_area(ring: Ring) -> float:
    """Pixels inside a ring; negative where it runs counter-clockwise."""
    x, y = ring.T
    return float(np.dot(x, np.roll(y, -1)) - np.dot(np.roll(x, -1), y)) / 2


@dataclass(frozen=True)
class _Sides:
    """Straight pieces of the outline along the rows of an image (or, transposed, its columns), mask to the right."""

    start: NDArray[np.int64]
    """(n, 2): x, y."""
    end: NDArray[np.int64]
    forward: NDArray[np.bool_]
    """Whether it runs towards larger x."""
    inside: NDArray[np.int64]
    """(n, 2): line and column of a pixel of the mask that the piece runs along."""


def _sides(mask: NDArray[np.bool_]) -> _Sides:
    """The horizontal pieces: between pixels of which one is set, as long as it is the same one, above or below."""
    width = mask.shape[1]
    step = np.zeros((mask.shape[0] + 1, width + 2), dtype=np.int8)  # a column of zeros on both sides
    step[:-1, 1:-1] = mask
    step[1:, 1:-1] -= mask
    lines, begins = np.nonzero((step[:, 1:] != step[:, :-1]) & (step[:, 1:] != 0))
    ends = np.nonzero((step[:, 1:] != step[:, :-1]) & (step[:, :-1] != 0))[1]
    forward = step[lines, begins + 1] > 0  # the pixel below is set
    low, high = np.stack([begins, lines], axis=1), np.stack([ends, lines], axis=1)
    inside = np.stack([np.where(forward, lines, lines - 1), begins], axis=1)
    return _Sides(np.where(forward[:, None], low, high), np.where(forward[:, None], high, low), forward, inside)


def _next_side(rights: _Sides, downs: _Sides, columns: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each horizontal piece the vertical one that follows, and for each vertical one the horizontal one.

    Where four pieces meet the line turns left, so that pixels which share a corner stay in one part.
    """
    # Seen along the columns the mask is on the left: a vertical piece starts where its transposed one ends.
    down = ~downs.forward
    h_start, h_end = _place(rights.start, columns), _place(rights.end, columns)
    v_start, v_end = _place(downs.end[:, ::-1], columns), _place(downs.start[:, ::-1], columns)
    across = _follow(h_end, ~rights.forward, v_start, down)
    along = _follow(v_end, down, h_start, rights.forward)
    return across, along


def _place(points: NDArray[np.int64], columns: int) -> NDArray[np.int64]:
    return np.asarray(points[:, 1] * columns + points[:, 0])


def _follow(
    ends: NDArray[np.int64], takes_second: NDArray[np.bool_], starts: NDArray[np.int64], is_second: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """For each end the piece that starts there; of two the one that `is_second` where the end `takes_second`."""
    order = np.argsort(2 * starts + is_second, kind="stable")
    found = starts[order]
    first = np.searchsorted(found, ends, side="left")
    choices = np.searchsorted(found, ends, side="right") - first
    return np.asarray(order[first + (takes_second & (choices == 2))])


def _cycles(following: NDArray[np.int64]) -> list[list[int]]:
    """The cycles of a permutation."""
    nexts = following.tolist()
    seen = [False] * len(nexts)
    found = []
    for begin in range(len(nexts)):
        if seen[begin]:
            continue
        cycle, at = [], begin
        while not seen[at]:
            seen[at] = True
            cycle.append(at)
            at = nexts[at]
        found.append(cycle)
    return found
