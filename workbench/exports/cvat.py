"""Segment tables -> "CVAT for images 1.1": an XML file of masks or polygons, and the labels that its task needs.

Source of the format: CVAT's documentation, "XML annotation format", and its own writer
(cvat/apps/dataset_manager/formats/cvat.py), whose masks are run lengths of the box, row by row, zeros first.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO
from xml.sax.saxutils import escape, quoteattr

from workbench.exports.annotation import AnnotationOptions, Shape, images_with_size, run_lengths, shapes_of
from workbench.exports.tables import Chunks
from workbench.exports.values import class_labels, xml_text
from workbench.formats.base import Category
from workbench.outlines import Ring

ANNOTATIONS, LABELS = "annotations.xml", "labels.json"


def write_cvat(
    chunks: Chunks, categories: Sequence[Category], folder: Path, name: str, images: int, options: AnnotationOptions
) -> tuple[str, ...]:
    """Write annotations.xml and labels.json into `folder`, which exists; returns the images left out, without a size.

    `name` is the task's, `images` how many images the chunks hold. labels.json is what the "Raw" field of CVAT's label
    editor takes: a task must have those labels and attributes before it takes the annotations. Raises TransferError for
    a name with control characters.
    """
    labels = class_labels(categories)
    kind = "mask" if options.polygons is None else "polygon"
    specs = [_label(labels[category.category_id], category, kind) for category in categories]
    (folder / LABELS).write_text(json.dumps(specs, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    left_out: list[str] = []
    with (folder / ANNOTATIONS).open("w", encoding="utf-8") as file:
        file.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n')
        _write_meta(file, name, images, specs)
        for number, (image, (height, width)) in enumerate(images_with_size(chunks, left_out)):
            size = f'width="{width}" height="{height}"'
            file.write(f'  <image id="{number}" name={quoteattr(xml_text(image.file_name))} {size}>\n')
            for group, shape in enumerate(shapes_of(image, options.min_score), start=1):
                _write_shape(file, shape, labels[shape.row["category_id"]], group, options.polygons)
            file.write("  </image>\n")
        file.write("</annotations>\n")
    return tuple(left_out)


def _label(name: str, category: Category, kind: str) -> dict[str, Any]:
    score = {"name": "score", "mutable": False, "input_type": "text", "default_value": "", "values": [""]}
    crowd = {"name": "iscrowd", "mutable": False, "input_type": "checkbox", "default_value": "false"}
    attributes = [score, {**crowd, "values": ["false"]}]
    return {"name": name, "color": "#" + bytes(category.color).hex(), "type": kind, "attributes": attributes}


def _write_meta(file: TextIO, name: str, images: int, specs: Sequence[dict[str, Any]]) -> None:
    file.write(f"  <meta>\n    <task>\n      <name>{escape(xml_text(name))}</name>\n      <size>{images}</size>\n")
    file.write("      <mode>annotation</mode>\n      <labels>\n")
    for spec in specs:
        file.write(f"        <label>\n          <name>{escape(xml_text(spec['name']))}</name>\n")
        file.write(f"          <color>{spec['color']}</color>\n          <type>{spec['type']}</type>\n")
        file.write("          <attributes>\n")
        for attribute in spec["attributes"]:
            values = escape("\n".join(attribute["values"]))
            file.write(
                f"            <attribute><name>{attribute['name']}</name><mutable>False</mutable>"
                f"<input_type>{attribute['input_type']}</input_type>"
                f"<default_value>{attribute['default_value']}</default_value><values>{values}</values></attribute>\n"
            )
        file.write("          </attributes>\n        </label>\n")
    file.write("      </labels>\n    </task>\n  </meta>\n")


def _write_shape(file: TextIO, shape: Shape, label: str, group: int, tolerance: float | None) -> None:
    """A mask, or a polygon for each part; the parts of one segment share a `group_id`."""
    common = f'label={quoteattr(label)} source="auto" occluded="0" z_order="0"'
    if tolerance is None:
        places = [("mask", _mask_attributes(shape))]
    else:
        places = [("polygon", f'points="{_points(ring)}"') for ring in shape.rings(tolerance)]
    if len(places) > 1:
        common += f' group_id="{group}"'
    for element, place in places:
        file.write(f"    <{element} {common} {place}>\n")
        if shape.row["score"] is not None:
            file.write(f'      <attribute name="score">{shape.row["score"]:.4g}</attribute>\n')
        file.write(f'      <attribute name="iscrowd">{str(shape.row["iscrowd"]).lower()}</attribute>\n')
        file.write(f"    </{element}>\n")


def _mask_attributes(shape: Shape) -> str:
    left, top, width, height = shape.crop.box
    counts = ", ".join(map(str, run_lengths(shape.crop.mask).tolist()))
    return f'rle="{counts}" left="{left}" top="{top}" width="{width}" height="{height}"'


def _points(ring: Ring) -> str:
    return ";".join(f"{x:.2f},{y:.2f}" for x, y in ring.tolist())
