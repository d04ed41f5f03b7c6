"""Segment tables -> a COCO results JSON that pycocotools' loadRes reads."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workbench.errors import TransferError
from workbench.exports.tables import Chunks, ImageSegments, by_image
from workbench.exports.values import json_image_id


def write_coco_results(chunks: Chunks, path: Path, masks: bool = True, category_id_offset: int = 0) -> None:
    """Write one record a segment: image by image, within an image by `ordinal`, since ties in score go by file order.

    A record has a `bbox` only where its source had one (`declared_area` is set): a box makes pycocotools take the
    detection's area from it, in segm AP too, and without one it takes the box from the mask. With `masks` False the
    masks, which then stand in for boxes, are left out. `category_id_offset` is the dataset definition's. Raises
    TransferError for a segment without a score.
    """
    with path.open("w", encoding="utf-8") as file:
        file.write("[")
        separator = "\n"
        for image in by_image(chunks):
            for record in _records(image, masks, category_id_offset):
                file.write(separator + json.dumps(record, ensure_ascii=False, allow_nan=False))
                separator = ",\n"
        file.write("\n]\n")


def _records(image: ImageSegments, masks: bool, category_id_offset: int) -> Iterator[dict[str, Any]]:
    image_id = json_image_id(image.image_id)
    for row in image.rows.to_pylist():
        if row["score"] is None:
            raise TransferError(
                f"image {image.image_id}, segment {row['segment_id']}: it has no score, and COCO results need one. "
                "Export as coco-panoptic or index-png, or predict with a model that scores its segments."
            )
        record: dict[str, Any] = {"image_id": image_id, "category_id": row["category_id"] - category_id_offset}
        if masks:
            size = [row["height"], row["width"]]
            record["segmentation"] = {"size": size, "counts": row["counts"].decode("ascii")}
        if row["declared_area"] is not None:
            record["bbox"] = row["bbox"]
        yield {**record, "score": row["score"]}
