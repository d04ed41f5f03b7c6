"""Segment tables -> a COCO instances JSON with the masks as RLE, which keeps every bit of them."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from workbench.exports.tables import Chunks, ImageSegments, by_image
from workbench.exports.values import json_image_id, json_number
from workbench.formats.base import Category


def write_coco_instances(
    chunks: Chunks, categories: Sequence[Category], path: Path, category_id_offset: int = 0
) -> tuple[str, ...]:
    """Write ground truth to `path`; returns the images left out, whose size nobody knows.

    Annotation ids are those of the source, as far as the table knows them and none comes twice, else they count on from
    the largest. `area` and `bbox` are the declared ones where there are any. `category_id_offset` is the dataset
    definition's.
    """
    images: list[dict[str, Any]] = []
    left_out: list[str] = []
    ids = _Ids()
    with path.open("w", encoding="utf-8") as file:
        file.write('{"annotations": [')
        separator = "\n"
        for image in by_image(chunks):
            if image.size_hw is None:
                left_out.append(image.image_id)
                continue
            height, width = image.size_hw
            image_id = json_image_id(image.image_id)
            images.append({"id": image_id, "file_name": image.file_name, "height": height, "width": width})
            for record in _records(image, ids, category_id_offset):
                file.write(separator + json.dumps(record, ensure_ascii=False, allow_nan=False))
                separator = ",\n"
        file.write("\n],\n")
        for key, values in (("images", images), ("categories", [_category(c, category_id_offset) for c in categories])):
            end = "}\n" if key == "categories" else ",\n"
            file.write(f'"{key}": {json.dumps(values, ensure_ascii=False, allow_nan=False)}{end}')
    return tuple(left_out)


class _Ids:
    """Hands out annotation ids, each once."""

    def __init__(self) -> None:
        self._taken: set[int] = set()
        self._largest = 0

    def take(self, wanted: int | None) -> int:
        """`wanted`, or the next free one."""
        given = wanted if wanted is not None and wanted > 0 and wanted not in self._taken else self._largest + 1
        self._taken.add(given)
        self._largest = max(self._largest, given)
        return given


def _records(image: ImageSegments, ids: _Ids, category_id_offset: int) -> Iterator[dict[str, Any]]:
    for row in image.rows.to_pylist():
        area = row["area"] if row["declared_area"] is None else json_number(row["declared_area"])
        size = [row["height"], row["width"]]
        yield {
            "id": ids.take(row["source_id"]),
            "image_id": json_image_id(image.image_id),
            "category_id": row["category_id"] - category_id_offset,
            "segmentation": {"size": size, "counts": row["counts"].decode("ascii")},
            "area": area,
            "bbox": [json_number(value) for value in row["bbox"]],
            "iscrowd": int(row["iscrowd"]),
        }


def _category(category: Category, category_id_offset: int) -> dict[str, Any]:
    return {
        "id": category.category_id - category_id_offset,
        "name": category.name,
        "isthing": int(category.isthing),
        "color": list(category.color),
    }
