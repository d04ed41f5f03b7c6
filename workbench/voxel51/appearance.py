"""How a dataset looks in the App: each category in its own colour, everywhere, and the new fields switched on."""

from typing import Any

from workbench.formats.base import Category
from workbench.voxel51 import documents, names
from workbench.voxel51.target import Target


def dress(target: Target) -> None:
    """Colour every field that was pushed by category, and show it when the App opens."""
    fo, dataset = target.fo, target.dataset
    object_fields, map_fields = _pushed_fields(target)
    colors = [(target.labels[c.category_id], _hex(c)) for c in target.categories]
    fields = [
        {
            "path": name,
            "colorByAttribute": "label",
            "valueColors": [{"value": label, "color": color} for label, color in colors],
        }
        for name in object_fields
    ]
    fields += [{"path": name, "maskTargetsColors": _mask_colors(target)} for name in map_fields]
    dataset.app_config.color_scheme = fo.ColorScheme(
        color_by="value", fields=fields, default_mask_targets_colors=_mask_colors(target)
    )
    dataset.app_config.active_fields = fo.ActiveFields(paths=[*object_fields, *map_fields])
    dataset.mask_targets = {name: mask_targets(target) for name in map_fields}
    dataset.save()


def _pushed_fields(target: Target) -> tuple[list[str], list[str]]:
    """Those of objects, and those of semantic maps."""
    schema = target.dataset.get_field_schema()
    ours = (*target.info["ground_truth"], *target.info["runs"], *names.PRELABELLED_BY)
    pushed = [name for name in ours if name in schema]
    maps = [name for name in pushed if schema[name].document_type is target.fo.Segmentation]
    return [name for name in pushed if name not in maps], maps


def mask_targets(target: Target) -> dict[int, str]:
    """Pixel value -> label of the semantic maps."""
    values = {index: target.labels[c.category_id] for index, c in enumerate(target.categories, start=1)}
    return {**values, documents.void_value(len(values)): "void"}


def _mask_colors(target: Target) -> list[dict[str, Any]]:
    void = {"intTarget": documents.void_value(len(target.categories)), "color": "#000000"}
    return [*({"intTarget": i, "color": _hex(c)} for i, c in enumerate(target.categories, start=1)), void]


def _hex(category: Category) -> str:
    return "#" + bytes(category.color).hex()
