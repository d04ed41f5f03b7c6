"""Class tables: the CSV beside a definition that says which classes there are, which are things, and their colours."""

import colorsys
import csv
from dataclasses import dataclass
from pathlib import Path

from workbench.errors import DatasetError
from workbench.formats.base import Category

_COLUMNS = {"category_id", "name", "isthing", "color", "label"}
_REQUIRED = {"category_id", "name", "isthing"}
_GOLDEN = 0.618033988749895  # steps of this share of the colour circle keep neighbouring ids apart


@dataclass(frozen=True)
class ClassTable:
    """The classes of a CSV, ascending by `category_id`, and what each is painted with in label maps."""

    categories: tuple[Category, ...]
    labels: dict[int, int]
    """category_id -> value in label maps; the same number where the file has no `label` column."""


def read_class_table(path: Path) -> ClassTable:
    """The class table in a CSV with the columns category_id, name, isthing and, as wanted, color and label.

    `isthing` is 0 or 1, `color` six hexadecimal digits (derived from the id where empty), `label` the value in label
    maps. Raises DatasetError naming the line for anything else, and for ids or labels that occur twice.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = set(reader.fieldnames or ())
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path}: not a readable class table ({error}).") from error
    if not columns >= _REQUIRED or not columns <= _COLUMNS:
        raise DatasetError(
            f"{path}: its columns are {', '.join(sorted(columns)) or 'none'}; a class table has category_id, name, "
            "isthing and, as wanted, color and label."
        )
    parsed = [_parse_row(row, f"{path}, line {line}") for line, row in rows]
    labels = {category.category_id: label for category, label in parsed}
    if len(labels) < len(parsed) or len(set(labels.values())) < len(parsed):
        raise DatasetError(f"{path}: a category_id or a label occurs twice; each class needs its own.")
    return ClassTable(tuple(sorted((category for category, _ in parsed), key=lambda c: c.category_id)), labels)


def derived_color(category_id: int) -> tuple[int, int, int]:
    """An RGB colour for a class whose file names none: the same in every run, neighbouring ids far apart."""
    red, green, blue = colorsys.hsv_to_rgb(category_id * _GOLDEN % 1, 0.65 + 0.35 * (category_id % 3) / 2, 0.95)
    return round(255 * red), round(255 * green), round(255 * blue)


def _parse_row(row: dict[str, str | None], where: str) -> tuple[Category, int]:
    if any(value is None for value in row.values()) or None in row:
        raise DatasetError(f"{where}: the number of cells differs from the header's. Quote names that hold a comma.")
    cells = {key: (value or "").strip() for key, value in row.items()}
    try:
        category_id = int(cells["category_id"])
        label = int(cells.get("label") or category_id)
        isthing = {"0": False, "1": True}[cells["isthing"]]
        color = _parse_color(cells.get("color", "")) or derived_color(category_id)
    except (ValueError, KeyError):
        raise DatasetError(
            f"{where}: {cells} is no class. category_id and label are whole numbers, isthing is 0 or 1, "
            "color is like 6a5acd."
        ) from None
    if not cells["name"]:
        raise DatasetError(f"{where}: category {category_id} has no name.")
    return Category(category_id, cells["name"], isthing, color), label


def _parse_color(text: str) -> tuple[int, int, int] | None:
    if not text:
        return None
    red, green, blue = bytes.fromhex(text.removeprefix("#"))
    return red, green, blue
