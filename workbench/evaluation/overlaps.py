"""One table of intersections between two segment tables: the source of PQ, of the confusion matrix and of matches.

Maps, whose segments are disjoint, are intersected all at once (`maps.py`), other masks two by two by merging their
runs: no mask is ever painted. The merge is compiled; where numba cannot be imported, pycocotools does it.
"""

from dataclasses import dataclass
from functools import cache
from types import ModuleType

import numpy as np
import pycocotools.mask as coco_mask
from numpy.typing import NDArray

from workbench.evaluation import maps
from workbench.evaluation.columns import Segments


@dataclass(frozen=True)
class Overlaps:
    """Every pair of segments of one image that share a pixel, ascending by `first`, then by `second`; all (pairs,)."""

    first: NDArray[np.int64]
    """Row of the first segment table: ground truth, void rows included."""
    second: NDArray[np.int64]
    """Row of the second segment table: predictions."""
    pixels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.pixels)


def intersect(first: Segments, second: Segments) -> Overlaps:
    """The intersections of segments of the same image. Segments of one side may overlap each other.

    An image must have the same size on both sides (see `agreement.check_sizes`).
    """
    of_maps = intersect_maps(first, second)
    if of_maps is not None:
        return of_maps
    kernels = compiled_kernels()
    if kernels is None:
        return _intersect_with_pycocotools(first, second)
    return _intersect_compiled(first, second, kernels)


def intersect_maps(first: Segments, second: Segments) -> Overlaps | None:
    """The same where no two segments of a side share a pixel, of the images that both sides have; else None."""
    rows = _rows_of_shared_images(first, second)
    pairs = maps.intersect_maps(first, second, rows, None if compiled_kernels() is None else maps.kernels())
    return None if pairs is None else Overlaps(pairs[:, 0], pairs[:, 1], pairs[:, 2])


def find_overlap(segments: Segments) -> tuple[int, int] | None:
    """Two rows of one image that share a pixel, or None where all are disjoint, as those of a panoptic map must be."""
    pairs = intersect(segments, segments)
    found = np.flatnonzero(pairs.first != pairs.second)
    return (int(pairs.first[found[0]]), int(pairs.second[found[0]])) if len(found) else None


@cache
def compiled_kernels() -> ModuleType | None:
    """`kernels.py`, or None where numba cannot be imported. On first use only: numba takes half a second to import."""
    try:
        from workbench.evaluation import kernels
    except ImportError:
        return None
    return kernels


def _intersect_compiled(first: Segments, second: Segments, kernels: ModuleType) -> Overlaps:
    rows_first, rows_second = _rows_of_shared_images(first, second)
    pairs = kernels.intersect_runs(
        *kernels.decode_runs(*first.characters()),
        rows_first,
        *kernels.decode_runs(*second.characters()),
        rows_second,
    )
    return Overlaps(pairs[:, 0], pairs[:, 1], pairs[:, 2])


def _intersect_with_pycocotools(first: Segments, second: Segments) -> Overlaps:
    found = [np.zeros((0, 3), dtype=np.int64)]
    first_rles, second_rles = first.rles(), second.rles()
    for rows_first, rows_second in zip(*_rows_of_shared_images(first, second), strict=True):
        (a, a_end), (b, b_end) = rows_first, rows_second
        # With iscrowd, pycocotools divides the intersection by the area of its first argument.
        share = coco_mask.iou(second_rles[b:b_end], first_rles[a:a_end], [1] * int(a_end - a))  # (second, first)
        pixels = np.rint(share * second.area[b:b_end, None]).astype(np.int64).T  # (first, second)
        i, j = np.nonzero(pixels)
        found.append(np.stack([a + i, b + j, pixels[i, j]], axis=1))
    pairs = np.concatenate(found)
    return Overlaps(pairs[:, 0], pairs[:, 1], pairs[:, 2])


def _rows_of_shared_images(first: Segments, second: Segments) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where the rows of each image that both sides have begin and end: two arrays of shape (images, 2)."""
    images = np.intersect1d(first.image, second.image)
    begin_end = [
        np.stack([np.searchsorted(side.image, images, "left"), np.searchsorted(side.image, images, "right")], axis=1)
        for side in (first, second)
    ]
    return begin_end[0], begin_end[1]
