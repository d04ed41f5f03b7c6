"""COCO panoptic predictions: a JSON and a folder of PNGs whose pixels hold segment ids, R + 256 G + 65536 B.

What panopticapi refuses is refused here too: an id in the PNG that the JSON lacks, the reverse, an unknown category.
Source: cocodataset/panopticapi, panopticapi/evaluation.py, and format.md of the COCO panoptic task.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from workbench.errors import TransferError
from workbench.formats.base import Dataset, ImageRecord, Task
from workbench.formats.paths import Folder, UnsafeNameError
from workbench.formats.pictures import PictureError, read_panoptic_png
from workbench.imports.base import (
    JsonCategories,
    finite_score,
    key_of_image,
    missing_note,
    whole_number,
)
from workbench.imports.painted import PaintedSource, check_size, painted_rows
from workbench.label_map_rle import LabelMapRle, encode_label_map

VOID_ID = 0
_LARGEST_ID = 256**3 - 1
_NOT_RGB = "A panoptic PNG is RGB: segment id = R + 256 G + 65536 B. For label maps of classes use --format index-png."


@dataclass(frozen=True)
class _Segment:
    """One entry of `segments_info`."""

    source_id: int
    ordinal: int
    category_id: int
    isthing: bool
    score: float | None


class CocoPanoptic(PaintedSource):
    """A COCO panoptic JSON with its PNG folder, matched to a dataset's images. Making it reads the JSON only."""

    task: ClassVar[Task] = "panoptic"

    def __init__(self, path: Path, dataset: Dataset, png_folder: Path | None = None) -> None:
        self._path = path
        self._folder = Folder(png_folder or path.with_suffix(""))
        self._dataset_name = dataset.definition.name
        self._categories = JsonCategories(dataset)
        if not self._folder.path.is_dir():
            raise TransferError(f"{self._folder.path}: no such folder of PNGs for {path}. Name it with --png.")
        records = dataset.images()
        self._annotations = self._read_annotations({record.image_id for record in records})
        self._in_order = [record.image_id for record in records if record.image_id in self._annotations]
        self.notes = missing_note(records, self._annotations, "annotation")

    def files(self) -> Sequence[Path]:
        """The JSON file and each image's PNG."""
        return [self._path, *(self._png(image_id) for image_id in self._in_order)]

    def is_painted(self, record: ImageRecord) -> bool:
        """Whether the image has an annotation."""
        return record.image_id in self._annotations

    def read_image(self, record: ImageRecord, size_hw: tuple[int, int] | None) -> tuple[pa.Table, tuple[int, int]]:
        """One row a segment; `segment_id` follows the ascending source ids, `ordinal` the order of `segments_info`."""
        path = self._png(record.image_id)
        try:
            ids = read_panoptic_png(path, str(path))
        except PictureError as error:
            raise TransferError(f"{error}. {_NOT_RGB}") from error
        found_hw = ids.shape[0], ids.shape[1]
        check_size(path, found_hw, record, size_hw)
        return self._rows(record, encode_label_map(ids), found_hw), found_hw

    def _read_annotations(self, known: set[str]) -> dict[str, Mapping[str, Any]]:
        annotations: dict[str, Mapping[str, Any]] = {}
        for number, annotation in enumerate(_annotations_of(self._path)):
            image_id = key_of_image(annotation.get("image_id"))
            if image_id is None or image_id not in known:
                raise self._error(
                    number,
                    f"image_id {annotation.get('image_id')!r} is none of the {len(known)} images of dataset "
                    f"{self._dataset_name}. Leave the annotation out, or name the dataset that has the image.",
                )
            if image_id in annotations:
                raise self._error(number, f"image {image_id} has an annotation already. Leave one of them out.")
            annotations[image_id] = annotation
            self._check_names(number, annotation)
        return annotations

    def _check_names(self, number: int, annotation: Mapping[str, Any]) -> None:
        name, segments = annotation.get("file_name"), annotation.get("segments_info")
        if not isinstance(segments, list) or not all(isinstance(segment, dict) for segment in segments):
            raise self._error(number, "its segments_info is no list of objects. Write the file again.")
        if not isinstance(name, str) or not name:
            raise self._error(number, f"its file_name is {name!r}. It should name the PNG of segment ids.")
        try:
            path = self._folder.file(name)
        except UnsafeNameError as error:
            raise self._error(number, f"{error}. Keep the PNGs in that folder.") from error
        if not path.is_file():
            raise self._error(number, f"{path} does not exist. Name the PNGs' folder with --png.")

    def _png(self, image_id: str) -> Path:
        return self._folder.file(self._annotations[image_id]["file_name"])

    def _rows(self, record: ImageRecord, masks: LabelMapRle, size_hw: tuple[int, int]) -> pa.Table:
        listed = self._listed(record.image_id)
        self._check_painted(record.image_id, listed, masks)
        chosen = np.flatnonzero(masks.ids != VOID_ID)
        segments = [listed[source_id] for source_id in masks.ids[chosen].tolist()]
        return painted_rows(
            record,
            masks,
            chosen,
            size_hw,
            ordinal=[segment.ordinal for segment in segments],
            category_id=[segment.category_id for segment in segments],
            isthing=[segment.isthing for segment in segments],
            score=[segment.score for segment in segments],
        )

    def _listed(self, image_id: str) -> dict[int, _Segment]:
        """The image's `segments_info` by segment id."""
        listed: dict[int, _Segment] = {}
        for ordinal, info in enumerate(self._annotations[image_id]["segments_info"]):
            try:
                segment = self._segment(ordinal, info)
                if segment.source_id in listed:
                    raise ValueError(
                        f"segment {segment.source_id} is listed twice. Give each segment an id of its own."
                    )
            except ValueError as error:
                raise TransferError(f"{self._path}: image {image_id}: segments_info[{ordinal}]: {error}") from None
            listed[segment.source_id] = segment
        return listed

    def _segment(self, ordinal: int, info: Mapping[str, Any]) -> _Segment:
        source_id = whole_number(info.get("id"))
        if source_id is None or not VOID_ID < source_id <= _LARGEST_ID:
            raise ValueError(f"id {info.get('id')!r} is no segment id: 1 to {_LARGEST_ID} (0 means void).")
        category_id = self._categories.read(info.get("category_id"))
        isthing = bool(info.get("isthing", self._categories.isthing[category_id]))
        score = None if info.get("score") is None else finite_score(info["score"])
        return _Segment(source_id, ordinal, category_id, isthing, score)

    def _check_painted(self, image_id: str, listed: Mapping[int, _Segment], masks: LabelMapRle) -> None:
        painted = set(masks.ids.tolist()) - {VOID_ID}
        name = self._png(image_id)
        if unlisted := sorted(painted - listed.keys()):
            raise TransferError(
                f"{self._path}: image {image_id}: {_segments(unlisted)} painted in {name} but not listed in "
                "segments_info. Add it to the JSON, or paint it 0 (void)."
            )
        if unpainted := sorted(listed.keys() - painted):
            raise TransferError(
                f"{self._path}: image {image_id}: {_segments(unpainted)} listed in segments_info but not painted in "
                f"{name}. Leave it out of the JSON, or paint it."
            )

    def _error(self, number: int, problem: str) -> TransferError:
        return TransferError(f"{self._path}: annotation {number} (the first is 0): {problem}")


def _annotations_of(path: Path) -> Sequence[Mapping[str, Any]]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise TransferError(f"{path}: not readable as JSON ({error}). Write the file again.") from error
    annotations = content.get("annotations") if isinstance(content, dict) else None
    if not isinstance(annotations, list) or not all(isinstance(annotation, dict) for annotation in annotations):
        raise TransferError(
            f"{path}: has no list of objects under 'annotations', as COCO panoptic files have. "
            "For a JSON array of detections use --format coco-results."
        )
    return annotations


def _segments(ids: Sequence[int]) -> str:
    listed = ", ".join(map(str, ids[:5])) + (f", ... ({len(ids)} in all)" if len(ids) > 5 else "")
    return f"segment {listed} is" if len(ids) == 1 else f"segments {listed} are"
