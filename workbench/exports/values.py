"""How ids and numbers of the tables are written in other people's files."""

import re
from collections.abc import Collection
from pathlib import PurePosixPath

from workbench.errors import TransferError
from workbench.exports.tables import ImageSegments
from workbench.formats.base import Category

_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def json_image_id(image_id: str) -> int | str:
    """An integer for an id that is one, as COCO's files have it, else the text: "285" is 285, "0285" stays."""
    return int(image_id) if re.fullmatch(r"0|-?[1-9][0-9]*", image_id) else image_id


def json_number(value: float) -> int | float:
    """An integer for a value without a fraction, as COCO's own files write pixels."""
    return int(value) if value.is_integer() else value


def xml_text(text: str) -> str:
    """The text, which an XML file can hold. Raises TransferError for control characters, which none can in any way."""
    if _NOT_IN_XML.search(text):
        raise TransferError(f"the name {text!r} has characters that XML cannot hold: rename it.")
    return text


def png_name(file_name: str) -> str:
    """The name of an image's PNG: its own, folders and all, with the suffix `.png`.

    Raises TransferError for a name that leads out of the folder.
    """
    path = PurePosixPath(file_name)
    if path.is_absolute() or ".." in path.parts:
        raise TransferError(f"image file name {file_name!r} leads out of the folder: correct it in the dataset.")
    return path.with_suffix(".png").as_posix()


class PngNames:
    """The PNG names of one export, no two alike."""

    def __init__(self) -> None:
        self._owners: dict[str, str] = {}

    def of(self, image: ImageSegments) -> str:
        """`png_name` of the image. Raises TransferError where another image has it already, and as `png_name`."""
        name = png_name(image.file_name)
        owner = f"{image.image_id} ({image.file_name})"
        if (first := self._owners.setdefault(name, owner)) != owner:
            raise TransferError(
                f"images {first} and {owner} would both be written to {name}. Give their files names that differ in "
                "more than the suffix, or export as coco-results."
            )
        return name


def class_labels(categories: Collection[Category]) -> dict[int, str]:
    """category_id -> label: the name, with the id behind it where several categories share one."""
    names = [category.name for category in categories]
    return {
        category.category_id: f"{category.name} ({category.category_id})"
        if names.count(category.name) > 1
        else category.name
        for category in categories
    }
