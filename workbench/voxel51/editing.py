"""A field of pre-labels set up for editing: in the App, and by the annotation tools behind `dataset.annotate`."""

from typing import Any

from workbench.voxel51 import names
from workbench.voxel51.target import Target

WORTH, RANK = "prelabel_worth", "prelabel_rank"
"""The sample fields that say what a look at an image is worth, and its place among the images by that."""
VIEW = "pre-labels: most worth a look first"
_POLYGON_VIEW = "pre-labels as polygons: most worth a look first"
_EDITABLE = ("id", "tags", "iscrowd", "confidence")  # the other attributes are ours, and follow from the mask


def set_up(target: Target, field: str) -> str:
    """Give a field of pre-labels its classes and attributes, and a saved view, whose name is returned."""
    dataset = target.dataset
    schema = dataset.generate_label_schemas(field, scan_samples=False)
    shown = [attribute for attribute in schema["attributes"] if attribute["name"] in _EDITABLE]
    classes = list(target.labels.values())
    dataset.update_label_schema(field, {**schema, "attributes": shown, "classes": classes, "component": "dropdown"})
    active = [other for other in dataset.active_label_schemas if other != field]
    dataset.active_label_schemas = [field, *active]
    for backend, schema in annotate_schemas(field, classes).items():
        target.info.setdefault("annotate", {}).setdefault(backend, {})[field] = schema
    target.save_info()
    view = VIEW if field == names.LABEL_EDITS else _POLYGON_VIEW
    dataset.save_view(view, dataset.exists(names.PRELABELLED_BY[field]).sort_by(RANK), overwrite=True)
    return view


def annotate_schemas(field: str, classes: list[str]) -> dict[str, dict[str, Any]]:
    """Back end -> what `dataset.annotate(.., backend=.., label_schema={field: ..})` asks for: masks, or polygons.

    CVAT's has our one attribute, with the list of values that servers from 2.5 on insist on; FiftyOne's Label Studio
    knows no attributes, and refuses a schema with some.
    """
    label = {"type": "instances" if field == names.LABEL_EDITS else "polygons", "classes": classes}
    crowd = {"type": "checkbox", "values": [True, False], "default": False}
    return {"cvat": {**label, "attributes": {"iscrowd": crowd}}, "labelstudio": label}
