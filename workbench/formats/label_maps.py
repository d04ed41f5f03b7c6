"""Label maps as ground truth: index PNGs (a value is a class) and instance-id PNGs (a value is an instance)."""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from workbench.catalog.definitions import DatasetDefinition
from workbench.errors import DatasetError
from workbench.formats.base import Category, ImageRecord
from workbench.formats.label_map_segments import read_map_segments
from workbench.formats.paths import Folder, UnsafeNameError
from workbench.formats.pictures import PictureError, read_label_png
from workbench.formats.problems import Problem
from workbench.formats.rows import Converted, Entry, Segment, void_row
from workbench.storage import is_folder

InstanceMap = Mapping[int, int]
"""Instance id -> category id."""


class LabelMapSource:
    """Label maps of a folder, one for each image: its id and `suffix` make the file's name.

    `category_of(image_id, value)` gives a value's category, None for an unknown one.
    """

    def __init__(
        self,
        images: Sequence[ImageRecord],
        maps: Folder,
        suffix: str,
        category_of: Callable[[str, int], Category | None],
        void: Collection[int],
        unknown_code: str = "unknown_label",
    ) -> None:
        self._maps = maps
        self._suffix = suffix
        self._category_of = category_of
        self._void = frozenset(void)
        self._unknown_code = unknown_code
        self.entries = [Entry(image, image.ordinal) for image in images]
        self.problems = self._orphans() if is_folder(maps.path) else []

    def _orphans(self) -> list[Problem]:
        expected = {entry.record.image_id + self._suffix for entry in self.entries}
        found = (name for name in self._maps.images() if name.endswith(self._suffix))
        return [Problem("map_of_no_image", name, "no image has this name") for name in found if name not in expected]

    def pictures(self) -> Iterator[Path]:
        """The label maps, existing or not."""
        return (self._maps.file(entry.record.image_id + self._suffix) for entry in self.entries)

    def convert(self, entry: Entry) -> Converted:
        """The image's segments, ascending by value, and its void pixels as one row."""
        image_id = entry.record.image_id
        where = f"image {image_id}"
        try:
            label_map = read_label_png(self._maps.file(image_id + self._suffix), where)
        except UnsafeNameError as error:
            return Converted([], None, [Problem("unsafe_name", where, str(error))])
        except PictureError as error:
            return Converted([], None, [error.problem])
        size_hw = label_map.shape[0], label_map.shape[1]

        def category_id_of(value: int) -> int | None:
            category = self._category_of(image_id, value)
            return None if category is None else category.category_id

        found = read_map_segments(label_map, category_id_of, self._void)
        problems = [Problem(self._unknown_code, where, f"its label map holds {value}") for value in found.unknown]
        if entry.record.size_hw not in (None, size_hw):
            problems.append(Problem("map_size", where, f"its label map is {size_hw}, the image {entry.record.size_hw}"))
        rows = []
        for position, segment in enumerate(found.segments):
            category = self._category_of(image_id, segment.source_id)
            isthing = category is not None and category.isthing
            columns = (segment.category_id, isthing, False, segment.area, None, segment.bbox, segment.counts)
            rows.append(Segment(position + 1, position, *columns, segment.source_id))
        if found.void is not None:
            rows.append(void_row(len(rows), found.void.area, found.void.bbox, found.void.counts))
        return Converted(rows, size_hw, problems)


def semantic_source(
    definition: DatasetDefinition,
    images: Sequence[ImageRecord],
    maps: Folder,
    categories: Mapping[int, Category],
    labels: Mapping[int, int],
) -> LabelMapSource:
    """Index PNGs: `labels` (category id -> value) where the class table has them, else a value is a category id.

    `ignore_index` is void too, unless a class has that value.
    """
    of_value = {labels.get(category_id, category_id): category for category_id, category in categories.items()}
    void = {*definition.void, *({definition.ignore_index} - of_value.keys())}
    return LabelMapSource(images, maps, definition.annotations_suffix, lambda _, value: of_value.get(value), void)


def instance_id_source(
    definition: DatasetDefinition, images: Sequence[ImageRecord], maps: Folder, categories: Mapping[int, Category]
) -> LabelMapSource:
    """Instance-id PNGs, their classes from the definition's `instance_id_to_semantic_id` JSON.

    An instance whose class is none of the dataset's categories is unknown, like one without a class.
    """
    path = definition.resolve(definition.instance_id_to_semantic_id or "")
    category_id_of = read_instance_maps(path, images)

    def category_of(image_id: str, value: int) -> Category | None:
        category_id = category_id_of(image_id, value)
        return None if category_id is None else categories.get(category_id)

    return LabelMapSource(
        images, maps, definition.annotations_suffix, category_of, definition.void, unknown_code="unmapped_id"
    )


def read_instance_maps(path: Path, images: Sequence[ImageRecord]) -> Callable[[str, int], int | None]:
    """(image id, instance id) -> category id, from a JSON of one map for all images, or of one map for each image id.

    Keys and values are whole numbers (JSON writes keys as texts), e.g. {"1": 7, "2": 7} or {"000001": {"1": 7}}.
    Raises DatasetError for anything else, and for images without a map.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: not readable as JSON ({error}).") from error
    if not isinstance(raw, dict):
        raise DatasetError(f"{path}: not a map of instance ids to category ids.")
    if not any(isinstance(value, dict) for value in raw.values()):
        one = _instance_map(raw, str(path))
        return lambda _, instance_id: one.get(instance_id)
    maps = {image_id: _instance_map(value, f"{path}, image {image_id}") for image_id, value in raw.items()}
    missing = [image.image_id for image in images if image.image_id not in maps]
    if missing:
        raise DatasetError(f"{path}: no map for {len(missing)} images, e.g. {missing[0]!r}. Its keys are image ids.")
    return lambda image_id, instance_id: maps[image_id].get(instance_id)


def _instance_map(raw: Any, where: str) -> InstanceMap:
    try:
        if not isinstance(raw, dict) or not all(type(value) is int for value in raw.values()):
            raise ValueError
        return {int(key): value for key, value in raw.items()}
    except ValueError:
        raise DatasetError(f"{where}: not a map of whole instance ids to whole category ids, as {{'1': 7}}.") from None
