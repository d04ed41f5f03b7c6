"""Where an object of FiftyOne lies in its image: masks and polygons as run lengths again.

A mask is resized to the pixels of its box with the nearest neighbour. A polygon's pixels are those whose centre lies
inside an odd number of the turns of one of its shapes (`polygons.fill`); several shapes are put together.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from eomt.image_modes import FILE_FORMATS
from workbench import crops, polygons, rle
from workbench.voxel51 import masks
from workbench.voxel51.documents import Document


def is_untouched(document: Document, offered: Document) -> bool:
    """Whether an object's place is stored as it was offered, to the bit."""
    if document.get("_cls") == "Polyline":
        return bool(document.get("points") == offered.get("points") and is_area(document))
    return bool(
        document.get("mask") == offered.get("mask")
        and document.get("mask_path") is None
        and document.get("bounding_box") == offered.get("bounding_box")
    )


def is_area(polyline: Document) -> bool:
    """Whether a `Polyline` is a polygon, and not an open line."""
    return bool(polyline.get("closed") or polyline.get("filled"))


def counts(document: Document, size_hw: tuple[int, int]) -> bytes | None:
    """An object's pixels as RLE counts; None where it has no area: a box without a mask, an open line.

    Raises PolygonError for a polygon that is none.
    """
    height, width = size_hw
    if document.get("_cls") == "Polyline":
        return _of_polygon(document, height, width) if is_area(document) else None
    mask = _mask(document)
    if mask is None:
        return None
    x, y, w, h = masks.pixel_box(document["bounding_box"], height, width)
    if mask.shape != (h, w):
        if w <= 0 or h <= 0:
            return crops.paste(crops.Crop((0, 0, 0, 0), np.zeros((0, 0), np.bool_)), height, width)
        resized = Image.fromarray(mask.astype(np.uint8)).resize((w, h), Image.Resampling.NEAREST)
        mask = np.asarray(resized, dtype=np.bool_)
    return crops.paste(crops.Crop((x, y, w, h), mask), height, width)


def array(document: Document) -> NDArray[np.generic] | None:
    """The array that a label keeps in the database, or in a file of its own; None where it has none."""
    if document.get("mask") is not None:
        return masks.unpack(document["mask"])
    if document.get("mask_path"):
        with Image.open(Path(document["mask_path"]), formats=FILE_FORMATS) as picture:
            return np.asarray(picture)
    return None


def _of_polygon(document: Document, height: int, width: int) -> bytes:
    inside = np.zeros((height, width), dtype=np.bool_)
    for shape in document.get("points") or []:
        inside |= polygons.fill([_points(shape) * (width, height)], height, width)
    return rle.encode(inside)


def _points(shape: Any) -> NDArray[np.float64]:
    """(points, 2): x, y as shares of the image's width and height."""
    try:
        return np.array(shape, dtype=np.float64).reshape(-1, 2)
    except (TypeError, ValueError) as error:  # None, texts, a number too many
        raise polygons.PolygonError(f"a polygon's points are no pairs of numbers ({error})") from error


def _mask(document: Document) -> NDArray[np.bool_] | None:
    values = array(document)
    if values is None:
        return None
    flat = values.any(axis=2) if values.ndim == 3 else values  # a picture of several channels
    return np.asarray(flat, dtype=np.float64) > 0
