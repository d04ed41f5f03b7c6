"""A folder of label maps, one PNG an image: each pixel holds its class's label value, or a void value."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import ClassVar

import numpy as np
import pyarrow as pa

from workbench.errors import TransferError
from workbench.formats.base import Dataset, ImageRecord, Task
from workbench.formats.label_values import LabelValues
from workbench.formats.pictures import PictureError, read_label_png
from workbench.imports.base import missing_note
from workbench.imports.painted import PaintedSource, check_size, painted_rows
from workbench.label_map_rle import encode_label_map

_NOT_A_LABEL_MAP = (
    "A label map has one channel whose values are the classes' labels. Convert the colours to label values; a panoptic "
    "PNG of segment ids is imported with its JSON and --format coco-panoptic."
)


class IndexPng(PaintedSource):
    """A folder of label maps, matched to a dataset's images by file name without suffix."""

    task: ClassVar[Task] = "semantic"

    def __init__(self, folder: Path, dataset: Dataset) -> None:
        if not folder.is_dir():
            raise TransferError(f"{folder}: no such folder. Name the folder that holds the label maps.")
        self._dataset = dataset
        self._labels = LabelValues.of(dataset.definition, dataset.categories)
        self._isthing = {category.category_id: category.isthing for category in dataset.categories}
        records = dataset.images()
        self._maps = _matched(folder, records, dataset)
        self.notes = missing_note(records, self._maps, "label map")

    def files(self) -> Sequence[Path]:
        """The label maps, in the order of the images."""
        return list(self._maps.values())

    def is_painted(self, record: ImageRecord) -> bool:
        """Whether the image has a label map."""
        return record.image_id in self._maps

    def read_image(self, record: ImageRecord, size_hw: tuple[int, int] | None) -> tuple[pa.Table, tuple[int, int]]:
        """One row a class, ascending label value, which is also its `source_id`; void values make no row."""
        path = self._maps[record.image_id]
        try:
            label_map = read_label_png(path, str(path))
        except PictureError as error:
            raise TransferError(f"{error}. {_NOT_A_LABEL_MAP}") from error
        found_hw = label_map.shape[0], label_map.shape[1]
        check_size(path, found_hw, record, size_hw)
        masks = encode_label_map(label_map)
        chosen = np.flatnonzero(~np.isin(masks.ids, self._labels.void))
        categories = [self._category(label, path) for label in masks.ids[chosen].tolist()]
        isthing = [self._isthing[category_id] for category_id in categories]
        ordinals = np.arange(len(chosen))
        return painted_rows(
            record, masks, chosen, found_hw, ordinal=ordinals, category_id=categories, isthing=isthing
        ), found_hw

    def _category(self, label: int, path: Path) -> int:
        category_id = self._labels.category_of.get(label)
        if category_id is None:
            raise TransferError(f"{path}: {self._labels.describe_unknown(label, self._dataset.definition.name)}")
        return category_id


def _matched(folder: Path, records: Sequence[ImageRecord], dataset: Dataset) -> dict[str, Path]:
    """Each image's label map by image id. Raises TransferError for one without an image, and for a name used twice."""
    maps = {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.png"))}
    if not maps:
        raise TransferError(f"{folder}: holds no .png file. Name the folder that holds the label maps.")
    names = _names_of_images(records)
    matched: dict[str, Path] = {}
    for name, path in maps.items():
        images = names.get(name) or names.get(PurePosixPath(name).name) or []
        if len(images) != 1 or images[0] in matched:
            raise TransferError(_no_match(path, images, dataset))
        matched[images[0]] = path
    return {record.image_id: matched[record.image_id] for record in records if record.image_id in matched}


def _names_of_images(records: Sequence[ImageRecord]) -> dict[str, list[str]]:
    """Image ids by every name that a label map may have: the image's path without suffix, and its stem alone."""
    names: dict[str, list[str]] = {}
    for record in records:
        path = PurePosixPath(record.file_name).with_suffix("")
        for name in {path.as_posix(), path.name}:
            names.setdefault(name, []).append(record.image_id)
    return names


def _no_match(path: Path, images: Sequence[str], dataset: Dataset) -> str:
    if not images:
        return (
            f"{path}: no image of dataset {dataset.definition.name} is called {path.stem!r}. Name each label map after "
            "its image, leave this one out, or name the dataset that has the image."
        )
    if len(images) > 1:
        return (
            f"{path}: images {', '.join(images[:3])} are all called {path.stem!r}. Put the label maps into folders "
            "like the images'."
        )
    return f"{path}: image {images[0]} has another label map in this folder already. Leave one of them out."
