"""A COCO JSON file, panoptic or instances: its images, categories and annotations, with what is wrong in them."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from workbench.catalog.class_tables import derived_color
from workbench.errors import DatasetError
from workbench.formats.base import Category, ImageRecord
from workbench.formats.paths import Folder, UnsafeNameError
from workbench.formats.problems import Problem

LARGEST_ID = 2**31 - 1  # the segment table's category_id is int32
_MOST_DIGITS = 1000  # of an id that is a number; Python reads no text of thousands as one
_FLAGS = ("iscrowd", "isthing")


@dataclass
class CocoFile:
    """A COCO JSON file, read. Records that cannot be used are left out and named in `problems`."""

    path: Path
    images: dict[str, ImageRecord] = field(default_factory=dict)
    """By image id, ascending; `ordinal` counts in that order."""
    categories: dict[int, Category] = field(default_factory=dict)
    annotations: list[Any] = field(default_factory=list)
    """As they stand in the file."""
    problems: list[Problem] = field(default_factory=list)


def read_coco_file(path: Path, images: Folder, known: Mapping[int, Category], category_id_offset: int = 0) -> CocoFile:
    """Read a COCO JSON file; `info` and `licenses` may be missing.

    `images` is the folder that its file names start from; `known` fills in what a category record leaves out (isthing,
    colour); without either, categories are things and get a colour derived from their id. Raises DatasetError for a
    file that is no JSON object with the three lists.
    """
    raw = _load(path)
    file = CocoFile(path, annotations=raw["annotations"])
    file.categories = _categories(raw["categories"], known, category_id_offset, file)
    file.images = _images(raw["images"], images, file)
    return file


def image_order(image_id: str) -> tuple[int, int, str]:
    """Sorts numeric ids by their value, before all others."""
    number = image_id.removeprefix("-")
    is_number = number.isascii() and number.isdigit() and len(number) <= _MOST_DIGITS
    return (0, int(image_id), "") if is_number else (1, 0, image_id)


def _load(path: Path) -> dict[str, list[Any]]:
    try:
        with path.open("rb") as file:
            raw = json.load(file)
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such annotation file.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: not readable as JSON ({error}).") from error
    for key in ("images", "annotations", "categories"):
        if not isinstance(raw, dict) or not isinstance(raw.get(key), list):
            raise DatasetError(f"{path}: no COCO file: it has no list {key!r}. Check which file the definition names.")
    return dict(raw)


def _categories(
    records: Iterable[Any], known: Mapping[int, Category], offset: int, file: CocoFile
) -> dict[int, Category]:
    categories: dict[int, Category] = {}
    for position, record in enumerate(records):
        where = f"{file.path.name}, categories[{position}]"
        number = record.get("id") if isinstance(record, dict) else None
        if not _is_id(number) or not isinstance(record.get("name"), str) or not 0 <= number + offset <= LARGEST_ID:
            file.problems.append(
                Problem("bad_record", where, f"{record!r} is no category with a whole `id` and a `name`")
            )
        elif number + offset in categories:
            file.problems.append(Problem("duplicate_category", where, f"category {number} is there already"))
        elif wrong := wrong_value(record, ("isthing",)):
            file.problems.append(Problem("bad_record", where, f"category {number} has {wrong}"))
        else:
            category_id = number + offset
            categories[category_id] = _category(category_id, record, known.get(category_id))
    return dict(sorted(categories.items()))


def _category(category_id: int, record: Mapping[str, Any], known: Category | None) -> Category:
    isthing = bool(record.get("isthing", known.isthing if known else True))
    color = record.get("color")
    if not (isinstance(color, list) and len(color) == 3 and all(_is_id(value) and value <= 255 for value in color)):
        color = known.color if known else derived_color(category_id)
    return Category(category_id, record["name"].strip(), isthing, (color[0], color[1], color[2]))


def _images(records: Iterable[Any], folder: Folder, file: CocoFile) -> dict[str, ImageRecord]:
    images: dict[str, ImageRecord] = {}
    for position, record in enumerate(records):
        where = f"{file.path.name}, images[{position}]"
        image_id = identifier(record.get("id")) if isinstance(record, dict) else None
        if image_id is None or not isinstance(record.get("file_name"), str):
            file.problems.append(Problem("bad_record", where, f"{record!r} is no image with `id` and `file_name`"))
            continue
        if image_id in images:
            file.problems.append(Problem("duplicate_image", where, f"image {image_id} is there already"))
            continue
        try:
            path = folder.file(record["file_name"])
        except UnsafeNameError as error:
            file.problems.append(Problem("unsafe_name", where, str(error)))
            continue
        images[image_id] = ImageRecord(image_id, record["file_name"], path, 0, _size_hw(record))
    return in_order(images.values())


def in_order(images: Iterable[ImageRecord]) -> dict[str, ImageRecord]:
    """The images by id, ascending (numerically where ids are numbers), their ordinals counted anew."""
    ordered = sorted(images, key=lambda image: image_order(image.image_id))
    return {
        image.image_id: ImageRecord(image.image_id, image.file_name, image.path, ordinal, image.size_hw)
        for ordinal, image in enumerate(ordered)
    }


def identifier(value: Any) -> str | None:
    """An image id as the key of our tables: COCO's in decimal, a text as it is; None for anything else."""
    if isinstance(value, str):
        return value or None
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def wrong_value(record: Mapping[str, Any], keys: Sequence[str] = ("iscrowd", "isthing", "bbox", "area")) -> str | None:
    """The first of `keys` in a record whose value cannot be what it says, with that value; None where all are sound.

    Each may be missing. `iscrowd` and `isthing` are 0, 1, true or false; `bbox` and `area` may be null.
    """
    for key in keys:
        value = record.get(key, 0) if key in _FLAGS else record.get(key)
        if key in _FLAGS and not (isinstance(value, int) and value in (0, 1)):
            return f"`{key}` {value!r}, not 0, 1, true or false"
        if key == "area" and value is not None and not _is_number(value):
            return f"`{key}` {value!r}, not a number of pixels"
        if key == "bbox" and value is not None and declared_bbox(record) is None:
            return f"`{key}` {value!r}, not a list of four numbers"
    return None


def declared_area(record: Mapping[str, Any]) -> float | None:
    """The record's `area`, None where it has none that is a number (see `wrong_value`)."""
    area = record.get("area")
    return float(area) if _is_number(area) else None


def declared_bbox(record: Mapping[str, Any]) -> tuple[float, float, float, float] | None:
    """The record's `bbox` (x, y, w, h in pixels), None where it has none of four numbers."""
    bbox = record.get("bbox")
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(_is_number(value) for value in bbox):
        return None
    return float(bbox[0]), float(bbox[1]), float(bbox[2]), float(bbox[3])


def is_source_id(value: object) -> TypeGuard[int]:
    """Whether a value can be an annotation's or a category's id: a whole number of 64 bits."""
    return type(value) is int and -(2**63) <= value < 2**63


def _size_hw(record: Mapping[str, Any]) -> tuple[int, int] | None:
    height, width = record.get("height"), record.get("width")
    return (height, width) if _is_id(height) and _is_id(width) and height > 0 and width > 0 else None


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _is_id(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
