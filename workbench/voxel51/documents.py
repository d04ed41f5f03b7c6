"""Segment tables -> the documents in which FiftyOne stores labels, as its database holds them.

Converting `fo.Detection` objects one by one is what makes the documented way slow. The form is FiftyOne's own and not
documented: a test compares it with objects that were stored the documented way.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from bson import Binary, ObjectId

from workbench import crops, polygons, rle
from workbench.errors import FiftyOneError
from workbench.exports.tables import ImageSegments, OverlapError, paint
from workbench.segments import void_mask
from workbench.voxel51 import masks

Document = dict[str, Any]

VOID_VALUE = 255
"""Of a semantic map's unlabelled pixels, unless there are so many classes that 16 bits are needed."""
_MOST_CLASSES_IN_BYTE = VOID_VALUE - 1
_VOID_VALUE_16 = 65535


def object_id(field: str, image_id: str, segment_id: int) -> ObjectId:
    """The id of a segment's label: the same at every push, so that pushing again updates, and matches can name it."""
    return ObjectId(hashlib.sha1(f"{field}|{image_id}|{segment_id}".encode()).digest()[:12])


def detections(
    table: pa.Table, image_ids: Sequence[str], field: str, labels: Mapping[int, str]
) -> list[list[Document]]:
    """For each image its segments as `Detection` documents, by `ordinal`; void rows are left out."""
    return _objects(table, image_ids, field, labels, _detection)


def polylines(
    table: pa.Table, image_ids: Sequence[str], field: str, labels: Mapping[int, str], tolerance: float
) -> list[list[Document]]:
    """For each image its segments as `Polyline` documents, closed and filled, one shape a part of the mask.

    Outlines are simplified with that `tolerance` in pixels (see `polygons`); holes are cut open, since the App fills
    each shape by itself.
    """
    return _objects(table, image_ids, field, labels, partial(_polyline, tolerance=tolerance))


def _detection(part: crops.Crop, height: int, width: int) -> Document:
    document = {"_cls": "Detection", "bounding_box": masks.relative_box(part.box, height, width)}
    if part.mask.size:  # what has no value is left out, as FiftyOne does
        document["mask"] = Binary(masks.pack(part.mask))
    return document


def _polyline(part: crops.Crop, height: int, width: int, *, tolerance: float) -> Document:
    shapes = [ring + part.box[:2] for ring in polygons.polygons(part.mask, tolerance)] if part.mask.size else []
    points = [(shape / (width, height)).tolist() for shape in shapes]
    return {"_cls": "Polyline", "points": points, "closed": True, "filled": True}


def _objects(
    table: pa.Table,
    image_ids: Sequence[str],
    field: str,
    labels: Mapping[int, str],
    place: Callable[[crops.Crop, int, int], Document],
) -> list[list[Document]]:
    table = table.filter(~void_mask(table)).sort_by([("image_id", "ascending"), ("ordinal", "ascending")])
    runs = rle.parse_runs(table["counts"]) if len(table) else None
    of_image: dict[str, list[Document]] = {image_id: [] for image_id in image_ids}
    columns = [name for name in table.column_names if name not in ("counts", "bbox", "declared_area", "source_id")]
    for row, values in enumerate(table.select(columns).to_pylist()):
        assert runs is not None
        height, width = values["height"], values["width"]
        part = crops.crop(runs.lengths[runs.offsets[row] : runs.offsets[row + 1]], height, width)
        document = {
            "_id": object_id(field, values["image_id"], values["segment_id"]),
            **place(part, height, width),
            "attributes": {},
            "tags": [],
            "label": labels[values["category_id"]],
            "segment_id": values["segment_id"],
            "is_thing": values["isthing"],
            "iscrowd": values["iscrowd"],
            "area": values["area"],
        }
        if values["score"] is not None:
            document["confidence"] = values["score"]
        of_image[values["image_id"]].append(document)
    return list(of_image.values())


def void_value(classes: int) -> int:
    """The value of unlabelled pixels in the semantic maps of a dataset with so many classes."""
    return VOID_VALUE if classes <= _MOST_CLASSES_IN_BYTE else _VOID_VALUE_16


def segmentation(image: ImageSegments, void: pa.Table, field: str, values: Mapping[int, int]) -> Document:
    """An image's semantic map as a `Segmentation` document.

    `values` gives each category_id its pixel value, counted from 1: FiftyOne never shows 0, which pixels without a
    segment get. `void` holds the image's void rows. Raises FiftyOneError for classes that overlap.
    """
    assert image.size_hw is not None
    rows = pa.concat_tables([image.rows, void.select(image.rows.column_names)])
    unlabelled = void_value(len(values))
    painted_as = [*(values[category] for category in image.rows["category_id"].to_pylist()), *[unlabelled] * len(void)]
    try:
        label_map = paint(rows, painted_as, image.size_hw, 0)
    except OverlapError as error:
        raise FiftyOneError(
            f"image {image.image_id}: segments of different classes overlap, and a semantic map holds one class a "
            "pixel. Predict with --task panoptic or semantic."
        ) from error
    dtype = np.uint8 if unlabelled == VOID_VALUE else np.uint16
    return {
        "_id": object_id(field, image.image_id, 0),
        "_cls": "Segmentation",
        "tags": [],
        "mask": Binary(masks.pack(label_map.astype(dtype))),
    }


def keep_what_users_added(new: Sequence[Document], old: Sequence[Document]) -> None:
    """Give `new` documents the tags, and whatever else it has and they do not, of the `old` one of the same id."""
    known = {document["_id"]: document for document in old}
    for document in new:
        if (before := known.get(document["_id"])) is not None:
            document["tags"] = before.get("tags", [])
            for name in before.keys() - document.keys():
                document[name] = before[name]
