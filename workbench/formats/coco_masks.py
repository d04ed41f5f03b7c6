"""COCO segmentations of every form (polygons, compressed and uncompressed RLE) to compressed RLE counts.

Source: cocodataset/cocoapi, PythonAPI/pycocotools/coco.py (annToRLE) and mask.py; polygons are rasterised by
pycocotools itself.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pycocotools.mask as coco_mask

from workbench import rle
from workbench.label_map_rle import compress_runs

_LONGEST = 5e6  # pixels along a polygon; pycocotools takes memory for every fifth of one: here about 250 MB


class MaskError(ValueError):
    """A segmentation that describes no mask of its image. `code` is a problem of `formats.problems`."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


def segmentation_counts(segmentation: Any, size_hw: tuple[int, int]) -> bytes:
    """Compressed counts of one annotation's `segmentation` in an image of (height, width).

    Compressed counts come back as they are, unchecked: `mask_areas` checks many at once. Raises MaskError.
    """
    if isinstance(segmentation, list) and segmentation:
        return _polygon_counts(segmentation, size_hw)
    if not isinstance(segmentation, dict):
        raise MaskError("no_mask", f"segmentation is {segmentation!r}")
    if segmentation.get("size") != list(size_hw):
        raise MaskError("bad_mask", f"its RLE has the size {segmentation.get('size')}, the image {list(size_hw)}")
    counts = segmentation.get("counts")
    if isinstance(counts, str) and counts.isascii():
        return counts.encode("ascii")
    if isinstance(counts, list) and all(type(run) is int and 0 <= run < 1 << 32 for run in counts):
        return compress_runs(np.array(counts, dtype=np.int64), np.array([0, len(counts)]))[0]
    raise MaskError("bad_mask", "its RLE has neither a text nor a list of whole numbers as `counts`")


def is_odd_polygon(segmentation: Any) -> bool:
    """Whether a list of polygons holds one that is no area: fewer than 3 points, or half a point too many."""
    return isinstance(segmentation, list) and any(len(polygon) < 6 or len(polygon) % 2 for polygon in segmentation)


def mask_areas(counts: Sequence[bytes], size_hw: tuple[int, int]) -> list[int | MaskError]:
    """The pixels of each mask of one image, or what is wrong with it: runs must fill the image."""
    try:
        return _areas(counts, size_hw)
    except rle.RleError:
        return [_area_or_error(one, size_hw) for one in counts]


def _areas(counts: Sequence[bytes], size_hw: tuple[int, int]) -> list[int | MaskError]:
    runs = rle.parse_runs(list(counts))
    rle.check(runs, np.full(len(counts), size_hw[0] * size_hw[1]))
    return list(runs.areas().tolist())


def _area_or_error(counts: bytes, size_hw: tuple[int, int]) -> int | MaskError:
    try:
        return _areas([counts], size_hw)[0]
    except rle.RleError as error:
        return MaskError("bad_mask", str(error).removeprefix("row 0: "))


def _polygon_counts(polygons: list[Any], size_hw: tuple[int, int]) -> bytes:
    for polygon in polygons:
        if not isinstance(polygon, list) or not polygon or not all(_is_coordinate(value) for value in polygon):
            raise MaskError("bad_mask", "a polygon is no list of numbers")
        if (length := _length(polygon)) > _LONGEST:
            raise MaskError("bad_mask", f"a polygon is {length:,.0f} pixels long, more than {_LONGEST:,.0f}")
    try:
        parts = coco_mask.frPyObjects(polygons, *size_hw)
    except Exception as error:  # pycocotools raises bare Exceptions
        raise MaskError("bad_mask", f"pycocotools refuses its polygons ({error})") from error
    return bytes(coco_mask.merge(parts)["counts"])


def _length(polygon: Sequence[float]) -> float:
    """Pixels along a polygon as pycocotools walks it: the longer of the ways across and down, edge by edge."""
    if len(polygon) == 4:  # which pycocotools takes for a box x, y, width, height
        return 2 * (abs(polygon[2]) + abs(polygon[3]))
    if len(polygon) * 2 * max(map(abs, polygon)) <= _LONGEST:
        return 0.0  # nearly always, and it need not be known
    points = np.array(polygon[: len(polygon) // 2 * 2], dtype=np.float64).reshape(-1, 2)
    return float(np.abs(points - np.roll(points, 1, axis=0)).max(axis=1, initial=0).sum())


def _is_coordinate(value: Any) -> bool:
    # The C code turns 5 x the coordinate into an int: anything larger overflows it.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e8  # NaN is not
