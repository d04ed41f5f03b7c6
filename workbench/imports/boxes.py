"""Boxes of detections: checked, made into masks, and found around masks, each as pycocotools does."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pycocotools.mask as coco_mask
from numpy.typing import NDArray

from workbench.formats.coco_masks import segmentation_counts

_FARTHEST = 1e6  # pixels; pycocotools walks along a polygon in fifths of a pixel and takes memory for every step


def check_bbox(bbox: Any) -> list[float]:
    """x, y, w, h as floats. Raises ValueError for anything else, and for negative w or h."""
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(_is_coordinate(value) for value in bbox):
        raise ValueError(f"bbox {bbox!r} is not four numbers x, y, width, height of at most {_FARTHEST:.0f}")
    if bbox[2] < 0 or bbox[3] < 0:
        raise ValueError(f"bbox {bbox!r} has a negative width or height. Write it as x, y, width, height.")
    return [float(value) for value in bbox]


def box_counts(bbox: Sequence[float], size_hw: tuple[int, int]) -> bytes:
    """Compressed RLE of the box x, y, w, h in an image of (height, width), rasterised as the polygon of loadRes."""
    x, y, width, height = bbox
    right, bottom = x + width, y + height
    return segmentation_counts([[x, y, x, bottom, right, bottom, right, y]], size_hw)


def bboxes_of(counts: Sequence[bytes], sizes_hw: Sequence[tuple[int, int]]) -> NDArray[np.float64]:
    """The boxes around masks, (n, 4) as x, y, w, h in pixels: pycocotools' toBbox.

    The masks must fill their images: see `rle.check`.
    """
    if not counts:
        return np.zeros((0, 4))
    masks = [{"size": list(size), "counts": mask} for mask, size in zip(counts, sizes_hw, strict=True)]
    return np.asarray(coco_mask.toBbox(masks), dtype=np.float64)


def _is_coordinate(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | float) and abs(value) <= _FARTHEST
