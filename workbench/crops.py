"""A mask cut to its box, as annotation tools keep masks: run lengths of a whole image <-> a bool array of the box."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workbench import rle


@dataclass(frozen=True)
class Crop:
    """A mask cut to its box."""

    box: tuple[int, int, int, int]
    """x, y, w, h in pixels; all 0 for an empty mask."""
    mask: NDArray[np.bool_]
    """(h, w)."""


def crop(lengths: NDArray[np.int64], height: int, width: int) -> Crop:
    """The box around a mask and the mask inside it, from its run lengths (column-major, zeros first).

    Only the columns that the mask touches are ever painted.
    """
    ends = np.cumsum(lengths)
    starts, stops = ends[:-1:2], ends[1::2]  # of the runs of ones
    filled = stops > starts
    starts, stops = starts[filled], stops[filled]
    if not len(starts):
        return Crop((0, 0, 0, 0), np.zeros((0, 0), dtype=np.bool_))
    x, last_x = int(starts[0]) // height, (int(stops[-1]) - 1) // height
    columns = last_x + 1 - x
    edges = np.empty(2 * len(starts) + 2, dtype=np.int64)
    edges[0], edges[1:-1:2], edges[2:-1:2], edges[-1] = x * height, starts, stops, (last_x + 1) * height
    ones = np.zeros(len(edges) - 1, dtype=np.bool_)
    ones[1::2] = True
    painted = np.repeat(ones, edges[1:] - edges[:-1]).reshape(columns, height)  # (w, height)
    if (starts // height < (stops - 1) // height).any():  # a run that goes on in the next column has both edge rows
        y, last_y = 0, height - 1
    else:
        y, last_y = int((starts % height).min()), int(((stops - 1) % height).max())
    return Crop((x, y, columns, last_y + 1 - y), np.ascontiguousarray(painted[:, y : last_y + 1].T))


def paste(part: Crop, height: int, width: int) -> bytes:
    """Compressed RLE counts of the mask in an image of that size; what lies outside the image is left out."""
    return rle.encode(paste_mask(part, height, width))


def paste_mask(part: Crop, height: int, width: int) -> NDArray[np.bool_]:
    """The same as a mask of shape (height, width)."""
    full = np.zeros((height, width), dtype=np.bool_)
    x, y, w, h = part.box
    x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + w, width), min(y + h, height)
    if x1 > x0 and y1 > y0:
        full[y0:y1, x0:x1] = part.mask[y0 - y : y1 - y, x0 - x : x1 - x]
    return full
