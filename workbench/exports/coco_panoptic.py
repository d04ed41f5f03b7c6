"""Segment tables -> a COCO panoptic JSON and its folder of PNGs that panopticapi reads."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from workbench.errors import TransferError
from workbench.exports.tables import Chunks, ImageSegments, OverlapError, by_image, paint
from workbench.exports.values import PngNames, json_image_id, json_number
from workbench.formats.base import Category

_VOID_ID = 0
_LARGEST_ID = 256**3 - 1


def write_coco_panoptic(
    chunks: Chunks, categories: Sequence[Category], path: Path, png_folder: Path, category_id_offset: int = 0
) -> tuple[str, ...]:
    """Write the JSON to `path` and a PNG for each image into `png_folder`, which exists; returns the images left out.

    Segment ids are those of the source where the table knows them and a PNG can hold them (1 to 256^3 - 1), else
    `segment_id`. An image of unknown size (it could not be read) is left out. `category_id_offset` is the dataset
    definition's. Raises TransferError for segments that overlap, and for images whose PNGs would have the same name.
    """
    images, annotations, left_out = [], [], []
    names = PngNames()
    for image in by_image(chunks):
        if image.size_hw is None:
            left_out.append(image.image_id)
            continue
        name = names.of(image)
        ids = _segment_ids(image)
        _write_ids(png_folder / name, _painted(image, ids, image.size_hw))
        image_id = json_image_id(image.image_id)
        height, width = image.size_hw
        images.append({"id": image_id, "file_name": image.file_name, "height": height, "width": width})
        infos = _segments_info(image, ids, category_id_offset)
        annotations.append({"image_id": image_id, "file_name": name, "segments_info": infos})
    classes = [_category(category, category_id_offset) for category in categories]
    content = {"images": images, "annotations": annotations, "categories": classes}
    with path.open("w", encoding="utf-8") as file:
        json.dump(content, file, ensure_ascii=False, allow_nan=False)
        file.write("\n")
    return tuple(left_out)


def _segment_ids(image: ImageSegments) -> list[int]:
    """The id that each row's pixels get: the source's where a PNG can hold all of the image's, else `segment_id`."""
    source_ids: list[int | None] = image.rows["source_id"].to_pylist()
    usable = [i for i in source_ids if i is not None and _VOID_ID < i <= _LARGEST_ID]
    if len(set(usable)) == len(source_ids):
        return usable
    segment_ids: list[int] = image.rows["segment_id"].to_pylist()
    return segment_ids


def _painted(image: ImageSegments, ids: Sequence[int], size_hw: tuple[int, int]) -> NDArray[np.int64]:
    try:
        return paint(image.rows, ids, size_hw, _VOID_ID)
    except OverlapError as error:
        raise TransferError(
            f"image {image.image_id} ({image.file_name}): segments {ids[error.first]} and {ids[error.second]} overlap, "
            "and a panoptic PNG holds one segment a pixel. Export as coco-results, or predict with --task panoptic."
        ) from error


def _write_ids(path: Path, ids: NDArray[np.int64]) -> None:
    pixels = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)  # (height, width, 3)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def _segments_info(image: ImageSegments, ids: Sequence[int], category_id_offset: int) -> list[dict[str, Any]]:
    infos = []
    for segment_id, row in zip(ids, image.rows.to_pylist(), strict=True):
        info = {
            "id": segment_id,
            "category_id": row["category_id"] - category_id_offset,
            "isthing": int(row["isthing"]),
            "iscrowd": int(row["iscrowd"]),
            "area": row["area"] if row["declared_area"] is None else json_number(row["declared_area"]),
            "bbox": [json_number(value) for value in row["bbox"]],
        }
        infos.append(info if row["score"] is None else {**info, "score": row["score"]})
    return infos


def _category(category: Category, category_id_offset: int) -> dict[str, Any]:
    return {
        "id": category.category_id - category_id_offset,
        "name": category.name,
        "isthing": int(category.isthing),
        "color": list(category.color),
    }
