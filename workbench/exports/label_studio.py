"""Segment tables -> Label Studio: a JSON file of tasks with predictions, and the labelling configuration for them.

Source of the format: Label Studio's documentation, "Import pre-annotated data", "BrushLabels" and "PolygonLabels".
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from workbench import crops
from workbench.exports import brush_rle
from workbench.exports.annotation import AnnotationOptions, Shape, images_with_size, shapes_of
from workbench.exports.tables import Chunks, ImageSegments
from workbench.exports.values import class_labels, xml_text
from workbench.formats.base import Category

TASKS, CONFIG = "tasks.json", "config.xml"
_IMAGE, _LABEL = "image", "label"  # the names of the configuration's tags


def write_label_studio(
    chunks: Chunks, categories: Sequence[Category], folder: Path, name: str, options: AnnotationOptions
) -> tuple[str, ...]:
    """Write tasks.json and config.xml into `folder`, which exists; returns the images left out, without a size.

    A task's `image` is `options.image_prefix` and the image's file name. `name` is the predictions' model version, and
    a prediction's score the mean of its segments'. Raises TransferError for a class name with control characters.
    """
    (folder / CONFIG).write_text(_config(categories, options.polygons is not None), encoding="utf-8")
    labels = class_labels(categories)
    left_out: list[str] = []
    with (folder / TASKS).open("w", encoding="utf-8") as file:
        file.write("[")
        separator = "\n"
        for image, size_hw in images_with_size(chunks, left_out):
            task = _task(image, size_hw, labels, name, options)
            file.write(separator + json.dumps(task, ensure_ascii=False, allow_nan=False, separators=(",", ":")))
            separator = ",\n"
        file.write("\n]\n")
    return tuple(left_out)


def _config(categories: Sequence[Category], as_polygons: bool) -> str:
    tag = "PolygonLabels" if as_polygons else "BrushLabels"
    names = {key: quoteattr(xml_text(label)) for key, label in class_labels(categories).items()}
    lines = [
        f'    <Label value={names[category.category_id]} background="#{bytes(category.color).hex()}"/>\n'
        for category in categories
    ]
    image = f'  <Image name="{_IMAGE}" value="${_IMAGE}" zoom="true"/>\n'
    return f'<View>\n{image}  <{tag} name="{_LABEL}" toName="{_IMAGE}">\n{"".join(lines)}  </{tag}>\n</View>\n'


def _task(
    image: ImageSegments, size_hw: tuple[int, int], labels: dict[int, str], name: str, options: AnnotationOptions
) -> dict[str, Any]:
    shapes = list(shapes_of(image, options.min_score))
    scores = [shape.row["score"] for shape in shapes if shape.row["score"] is not None]
    results = [result for shape in shapes for result in _results(shape, size_hw, labels, options.polygons)]
    prediction: dict[str, Any] = {"model_version": name, "result": results}
    if scores:
        prediction["score"] = sum(scores) / len(scores)
    address = options.image_prefix + quote(image.file_name)
    return {"data": {_IMAGE: address, "image_id": image.image_id}, "predictions": [prediction]}


def _results(
    shape: Shape, size_hw: tuple[int, int], labels: dict[int, str], tolerance: float | None
) -> Iterator[dict[str, Any]]:
    """One region of a mask, or one for each part of the outline."""
    height, width = size_hw
    kind = "brushlabels" if tolerance is None else "polygonlabels"
    common: dict[str, Any] = {"type": kind, "from_name": _LABEL, "to_name": _IMAGE}
    common |= {"original_width": width, "original_height": height, "image_rotation": 0}
    if shape.row["score"] is not None:
        common["score"] = shape.row["score"]
    label = {kind: [labels[shape.row["category_id"]]]}
    number = f"segment_{shape.row['segment_id']}"
    if tolerance is None:
        mask = crops.paste_mask(shape.crop, height, width)
        yield {"id": number, **common, "value": {"format": "rle", "rle": brush_rle.encode(mask), **label}}
        return
    for part, ring in enumerate(shape.rings(tolerance), start=1):
        points = (ring * 100 / (width, height)).tolist()  # percent of the image's size
        yield {"id": f"{number}_{part}", **common, "value": {"points": points, "closed": True, **label}}
