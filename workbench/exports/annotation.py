"""Segment tables -> pre-annotations for an annotation tool: what CVAT's and Label Studio's files have in common."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from workbench import crops, rle
from workbench.errors import OptionError
from workbench.exports.tables import Chunks, ImageSegments, by_image
from workbench.outlines import Ring
from workbench.polygons import polygons

LOCAL_FILES = "/data/local-files/?d="
"""Where Label Studio serves the files of a local storage."""


@dataclass(frozen=True)
class AnnotationOptions:
    """How pre-annotations are written."""

    polygons: float | None = None
    """Polygons instead of masks, simplified with that tolerance in pixels."""
    min_score: float = 0.0
    """Segments that score less are left out; those without a score stay."""
    image_prefix: str = LOCAL_FILES
    """What Label Studio finds before an image's file name."""

    def __post_init__(self) -> None:
        """Raises OptionError for numbers outside their range, not-a-number among them."""
        if self.polygons is not None and not (math.isfinite(self.polygons) and self.polygons >= 0):
            raise OptionError(f"polygons {self.polygons}: a tolerance in pixels, 0 or more.")
        if not 0 <= self.min_score <= 1:
            raise OptionError(f"min_score {self.min_score}: a score from 0 to 1.")


@dataclass(frozen=True)
class Shape:
    """One segment as an annotation tool is to show it."""

    row: dict[str, Any]
    """Of the segment table, without `counts`."""
    crop: crops.Crop
    """Its pixels."""

    def rings(self, tolerance: float) -> list[Ring]:
        """Polygons in pixels of the image, one a part, holes cut open."""
        return [ring + self.crop.box[:2] for ring in polygons(self.crop.mask, tolerance)]


def images_with_size(chunks: Chunks, left_out: list[str]) -> Iterator[tuple[ImageSegments, tuple[int, int]]]:
    """Every image and its (height, width); those of unknown size go to `left_out` instead."""
    for image in by_image(chunks):
        if image.size_hw is None:
            left_out.append(image.image_id)
        else:
            yield image, image.size_hw


def shapes_of(image: ImageSegments, min_score: float) -> Iterator[Shape]:
    """The image's segments by `ordinal`; low scores and masks without a pixel are left out."""
    rows = image.rows.filter(pc.fill_null(pc.greater_equal(image.rows["score"], min_score), True))
    if not len(rows):
        return
    runs = rle.parse_runs(rows["counts"])
    for index, row in enumerate(rows.drop_columns("counts").to_pylist()):
        crop = crops.crop(runs.lengths[runs.offsets[index] : runs.offsets[index + 1]], row["height"], row["width"])
        if crop.mask.size:
            yield Shape(row, crop)


def run_lengths(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Row by row, zeros first (of which there may be none): the runs of a mask of shape (height, width)."""
    flat = np.concatenate([[False], mask.ravel()])
    bounds = np.flatnonzero(flat[1:] != flat[:-1])
    return np.diff(np.concatenate([[0], bounds, [mask.size]]))
