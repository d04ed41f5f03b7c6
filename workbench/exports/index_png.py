"""Segment tables -> a folder of label maps, one PNG an image, whose pixels hold their class's label value."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from workbench.errors import TransferError
from workbench.exports.tables import Chunks, ImageSegments, OverlapError, by_image, paint
from workbench.exports.values import PngNames
from workbench.formats.label_values import LabelValues

_UNPAINTED = -1


def write_index_png(chunks: Chunks, labels: LabelValues, folder: Path) -> tuple[str, ...]:
    """Write a PNG for each image into `folder`, which exists; returns the images left out.

    Each has one channel, 8 bits a pixel, or 16 where the dataset's label values need them. Pixels without a segment get
    the first void value. An image of unknown size (it could not be read) is left out. Raises TransferError for segments
    of different classes that overlap, for a value that 16 bits cannot hold, for such pixels without a void value, and
    for images whose PNGs would have the same name.
    """
    dtype = _dtype(labels)
    left_out = []
    names = PngNames()
    for image in by_image(chunks):
        if image.size_hw is None:
            left_out.append(image.image_id)
            continue
        label_map = _painted(image, labels, image.size_hw)
        path = folder / names.of(image)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(label_map.astype(dtype)).save(path)
    return tuple(left_out)


def _dtype(labels: LabelValues) -> type[np.uint8] | type[np.uint16]:
    values = [*labels.label_of.values(), *labels.void]
    if min(values, default=0) < 0 or max(values, default=0) > np.iinfo(np.uint16).max:
        raise TransferError(f"label values {min(values)} to {max(values)} do not fit into a PNG's 16 bits.")
    return np.uint8 if max(values, default=0) <= np.iinfo(np.uint8).max else np.uint16


def _painted(image: ImageSegments, labels: LabelValues, size_hw: tuple[int, int]) -> NDArray[np.int64]:
    values = [labels.label_of[category_id] for category_id in image.rows["category_id"].to_pylist()]
    try:
        label_map = paint(image.rows, values, size_hw, _UNPAINTED)
    except OverlapError as error:
        first, second = (image.rows["segment_id"][row].as_py() for row in (error.first, error.second))
        raise TransferError(
            f"image {image.image_id} ({image.file_name}): segments {first} and {second} overlap and differ in class, "
            "and a label map holds one class a pixel. Export as coco-results, or predict with --task semantic."
        ) from error
    if (unpainted := label_map == _UNPAINTED).any():
        if not labels.void:
            raise TransferError(
                f"image {image.image_id} ({image.file_name}): {int(unpainted.sum())} pixels belong to no segment, and "
                "the dataset names no void value for them. Add one to its definition (void = [...])."
            )
        label_map[unpainted] = labels.void[0]
    return label_map
