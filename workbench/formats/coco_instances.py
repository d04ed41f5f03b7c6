"""COCO instances ground truth: annotations in a JSON, masks as polygons or RLE, which may overlap."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pycocotools.mask as coco_mask

from workbench.formats.base import Category, ImageRecord
from workbench.formats.coco_json import CocoFile, declared_area, declared_bbox, identifier, is_source_id, wrong_value
from workbench.formats.coco_masks import MaskError, is_odd_polygon, mask_areas, segmentation_counts
from workbench.formats.pictures import UNDECODABLE, image_size
from workbench.formats.problems import Problem
from workbench.formats.rows import Box, Converted, Entry, Segment

_STALE_SHARE, _STALE_PIXELS = 0.05, 10  # a declared area is worth a warning beyond both


class InstancesSource:
    """The instance annotations of a dataset, images ascending by id, annotations of an image in file order."""

    def __init__(self, file: CocoFile, categories: Mapping[int, Category], category_id_offset: int = 0) -> None:
        self._categories = categories
        self._offset = category_id_offset
        self.problems: list[Problem] = []
        of_image = self._by_image(file)
        self.entries = [
            Entry(image, ordinal, of_image.get(image.image_id, []))
            for ordinal, image in enumerate(file.images.values())
        ]

    def _by_image(self, file: CocoFile) -> dict[str, list[tuple[int, Category, Mapping[str, Any]]]]:
        """image id -> (annotation id, category, record) of its annotations, in file order."""
        of_image: dict[str, list[tuple[int, Category, Mapping[str, Any]]]] = {}
        seen: set[int] = set()
        for position, record in enumerate(file.annotations):
            where = f"{file.path.name}, annotations[{position}]"
            problem, usable = self._read(record, file, where)
            if problem is not None:
                self.problems.append(problem)
            if usable is None:
                continue
            image_id, source_id, category = usable
            if source_id in seen:
                self.problems.append(Problem("duplicate_id", where, f"annotation {source_id} is there already"))
            if source_id == 0:
                self.problems.append(Problem("id_zero", where, "the annotation has the id 0"))
            seen.add(source_id)
            of_image.setdefault(image_id, []).append((source_id, category, record))
        return of_image

    def _read(self, record: Any, file: CocoFile, where: str) -> tuple[Problem | None, tuple[str, int, Category] | None]:
        image_id = identifier(record.get("image_id")) if isinstance(record, dict) else None
        if image_id is None or not (is_source_id(record.get("id")) and is_source_id(record.get("category_id"))):
            return Problem("bad_record", where, "it needs `image_id` and a whole `id` and `category_id`"), None
        if image_id not in file.images:
            return Problem("instance_of_no_image", where, f"image {image_id} is not in `images`"), None
        category = self._categories.get(record["category_id"] + self._offset)
        if category is None:
            detail = f"annotation {record['id']} is of category {record['category_id']}, which is not in `categories`"
            return Problem("unknown_category", where, detail), None
        if wrong := wrong_value(record):
            return Problem("bad_record", where, f"annotation {record['id']} has {wrong}"), None
        return None, (image_id, record["id"], category)

    def pictures(self) -> Iterator[Path]:
        """None: the masks are in the JSON."""
        return iter(())

    def convert(self, entry: Entry) -> Converted:
        """The image's segments, ascending by annotation id."""
        try:
            size_hw = _size(entry.record)
        except MaskError as error:
            return Converted([], None, [Problem(error.code, f"image {entry.record.image_id}", str(error))])
        ranks = sorted(range(len(entry.annotation)), key=lambda position: entry.annotation[position][0])
        masks = [_counts_or_error(entry.annotation[position][2], size_hw) for position in ranks]
        areas = iter(mask_areas([counts for counts in masks if isinstance(counts, bytes)], size_hw))
        rows: list[Segment] = []
        problems = []
        for position, counts in zip(ranks, masks, strict=True):
            source_id, category, record = entry.annotation[position]
            where = f"image {entry.record.image_id}, annotation {source_id}"
            area = next(areas) if isinstance(counts, bytes) else counts
            if isinstance(area, MaskError) or isinstance(counts, MaskError):
                problems.append(Problem(getattr(area, "code", "bad_mask"), where, str(area)))
                continue
            problems += [Problem(code, where, detail) for code, detail in _oddities(record, area)]
            rows.append(_row(len(rows) + 1, position, source_id, category, record, counts, area, size_hw))
        return Converted(rows, size_hw, problems)


def _counts_or_error(record: Mapping[str, Any], size_hw: tuple[int, int]) -> bytes | MaskError:
    try:
        return segmentation_counts(record.get("segmentation"), size_hw)
    except MaskError as error:
        return error


def _size(record: ImageRecord) -> tuple[int, int]:
    if record.size_hw is not None:
        return record.size_hw
    try:
        return image_size(record.path)
    except UNDECODABLE as error:
        detail = f"the JSON gives no height and width, and {record.path} cannot be read ({error})"
        raise MaskError("bad_record", detail) from error


def _oddities(record: Mapping[str, Any], area: int) -> list[tuple[str, str]]:
    """(code, detail) of what is readable, but worth knowing."""
    found = []
    declared = declared_area(record)
    if is_odd_polygon(record.get("segmentation")):
        found.append(("odd_polygon", "a polygon has fewer than 3 points or an odd number of values"))
    if area == 0:
        found.append(("empty_mask", "its mask has no pixel"))
    if declared is None:
        found.append(("area_missing", "it declares no area"))
    elif abs(declared - area) > max(_STALE_PIXELS, _STALE_SHARE * max(area, 1)):
        found.append(("area_differs", f"it declares an area of {declared:g}, its mask has {area} pixels"))
    return found


def _row(
    segment_id: int,
    position: int,
    source_id: int,
    category: Category,
    record: Mapping[str, Any],
    counts: bytes,
    area: int,
    size_hw: tuple[int, int],
) -> Segment:
    return Segment(
        segment_id,
        position,
        category.category_id,
        category.isthing,
        bool(record.get("iscrowd", 0)),
        area,
        declared_area(record),
        declared_bbox(record) or _counted_box(counts, size_hw),
        counts,
        source_id,
    )


def _counted_box(counts: bytes, size_hw: tuple[int, int]) -> Box:
    x, y, width, height = coco_mask.toBbox({"size": list(size_hw), "counts": counts}).tolist()
    return x, y, width, height
