"""COCO panoptic ground truth: segments_info in a JSON, their pixels in RGB PNGs.

Source: cocodataset/panopticapi, evaluation.py and utils.py. Segment id 0 is void; an id that the PNG lacks counts as
missed; what an id that the JSON lacks means, the definition says (`unlisted`).
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from workbench.catalog.definitions import Unlisted
from workbench.formats.base import Category, ImageRecord
from workbench.formats.coco_json import CocoFile, declared_area, declared_bbox, identifier, is_source_id, wrong_value
from workbench.formats.label_map_segments import MapSegment, read_map_segments
from workbench.formats.paths import Folder, UnsafeNameError
from workbench.formats.pictures import PictureError, read_panoptic_png
from workbench.formats.problems import Problem
from workbench.formats.rows import Converted, Entry, Segment, empty_counts, void_row
from workbench.segments import VOID_SEGMENT_ID


class PanopticSource:
    """The panoptic annotations of a dataset, in the order of the JSON's own list."""

    def __init__(
        self,
        file: CocoFile,
        pngs: Folder,
        categories: Mapping[int, Category],
        category_id_offset: int = 0,
        unlisted: Unlisted = "error",
    ) -> None:
        self._pngs = pngs
        self._categories = categories
        self._offset = category_id_offset
        self._unlisted = unlisted
        self.problems: list[Problem] = []
        self.entries: list[Entry] = []
        self._list_entries(file)

    def _list_entries(self, file: CocoFile) -> None:
        seen: dict[str, ImageRecord] = {}
        for position, annotation in enumerate(file.annotations):
            where = f"{file.path.name}, annotations[{position}]"
            image_id = _entry_image(annotation)
            if image_id is None:
                detail = "it needs `image_id`, `file_name` and a list `segments_info`"
                self.problems.append(Problem("bad_record", where, detail))
            elif image_id in seen:
                self.problems.append(Problem("duplicate_annotation", where, f"image {image_id} has an entry already"))
            elif image_id not in file.images:
                detail = f"image {image_id} is not in `images`"
                self.problems.append(Problem("annotation_of_no_image", where, detail))
            else:
                seen[image_id] = file.images[image_id]
                self.entries.append(Entry(seen[image_id], position, annotation))
        for image_id in (image_id for image_id in file.images if image_id not in seen):
            self.problems.append(Problem("image_unannotated", f"image {image_id}", "no entry in `annotations`"))

    def pictures(self) -> Iterator[Path]:
        """The PNGs, existing or not."""
        return (self._pngs.file(entry.annotation["file_name"]) for entry in self.entries)

    def convert(self, entry: Entry) -> Converted:
        """The image's segments, ascending by source id, with a row for each listed segment and one for the void."""
        where = f"image {entry.record.image_id}"
        infos, problems = self._infos(entry.annotation["segments_info"], where)
        try:
            ids = read_panoptic_png(self._pngs.file(entry.annotation["file_name"]), where)
        except UnsafeNameError as error:
            return Converted([], None, [*problems, Problem("unsafe_name", where, str(error))])
        except PictureError as error:
            return Converted([], None, [*problems, error.problem])
        size_hw = ids.shape[0], ids.shape[1]
        if entry.record.size_hw not in (None, size_hw):
            detail = f"its PNG is {size_hw} (height, width), the JSON says {entry.record.size_hw}"
            problems.append(Problem("map_size", where, detail))
        found = read_map_segments(
            ids, lambda i: infos[i][1].category_id if i in infos else None, (VOID_SEGMENT_ID,), self._unlisted == "void"
        )
        problems += self._unlisted_problems(found.unknown, entry.annotation["segments_info"], where)
        painted = {segment.source_id: segment for segment in found.segments}
        rows = []
        for segment_id, source_id in enumerate(sorted(infos), start=1):
            if source_id not in painted:
                problems.append(Problem("segment_unpainted", where, f"segment {source_id} has no pixel in the PNG"))
            rows.append(_row(segment_id, source_id, *infos[source_id], painted.get(source_id), size_hw))
        if found.void is not None:
            rows.append(void_row(len(infos), found.void.area, found.void.bbox, found.void.counts))
        return Converted(rows, size_hw, problems)

    def _unlisted_problems(self, unknown: list[int], records: list[Any], where: str) -> list[Problem]:
        if self._unlisted != "error" or not unknown:
            return []
        # A record with a defect of another kind has its own problem.
        ids = (record.get("id") for record in records if isinstance(record, dict))
        listed = {source_id for source_id in ids if is_source_id(source_id)}
        return [
            Problem("segment_unlisted", where, f"segment {source_id} is painted in the PNG but not in segments_info")
            for source_id in unknown
            if source_id not in listed
        ]

    def _infos(
        self, records: list[Any], where: str
    ) -> tuple[dict[int, tuple[int, Category, Mapping[str, Any]]], list[Problem]]:
        """source id -> (position in segments_info, category, record), and the records that cannot be used."""
        infos: dict[int, tuple[int, Category, Mapping[str, Any]]] = {}
        problems = []
        for position, record in enumerate(records):
            source_id = record.get("id") if isinstance(record, dict) else None
            category_id = record.get("category_id") if isinstance(record, dict) else None
            if not is_source_id(source_id) or not is_source_id(category_id):
                detail = f"segments_info[{position}] = {record!r} has no whole `id` and `category_id`"
                problems.append(Problem("bad_record", where, detail))
            elif source_id == VOID_SEGMENT_ID:
                problems.append(Problem("segment_void_id", where, f"segments_info[{position}] has the id 0"))
            elif source_id in infos:
                problems.append(Problem("duplicate_segment", where, f"segment {source_id} is listed twice"))
            elif (category := self._categories.get(category_id + self._offset)) is None:
                detail = f"segment {source_id} is of category {category_id}, which is not in `categories`"
                problems.append(Problem("unknown_category", where, detail))
            elif wrong := wrong_value(record):
                problems.append(Problem("bad_record", where, f"segment {source_id} has {wrong}"))
            else:
                infos[source_id] = position, category, record
        return infos, problems


def _entry_image(annotation: Any) -> str | None:
    if not isinstance(annotation, dict) or not isinstance(annotation.get("segments_info"), list):
        return None
    return identifier(annotation.get("image_id")) if isinstance(annotation.get("file_name"), str) else None


def _row(
    segment_id: int,
    source_id: int,
    position: int,
    category: Category,
    record: Mapping[str, Any],
    painted: MapSegment | None,
    size_hw: tuple[int, int],
) -> Segment:
    if painted is None:
        painted = MapSegment(source_id, category.category_id, 0, (0.0, 0.0, 0.0, 0.0), empty_counts(size_hw))
    return Segment(
        segment_id,
        position,
        category.category_id,
        category.isthing,
        bool(record.get("iscrowd", 0)),
        painted.area,
        declared_area(record),
        declared_bbox(record) or painted.bbox,
        painted.counts,
        source_id,
    )
