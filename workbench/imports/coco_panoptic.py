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
from numpy.typing import NDArray

from workbench.errors import TransferError
from workbench.formats.base import Dataset, ImageRecord, Task
from workbench.formats.paths import Folder, UnsafeNameError
from workbench.formats.pictures import PictureError, read_panoptic_png
from workbench.imports.base import (
    JsonCategories,
    PredictionSource,
    check_size,
    finite_score,
    key_of_image,
    missing_note,
    size_of,
    whole_number,
)
from workbench.label_map_rle import LabelMapRle, encode_label_map
from workbench.segments import concat, segment_table

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


class CocoPanoptic(PredictionSource):
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
        self._annotations = self._read({record.image_id for record in records})
        self._in_order = [record.image_id for record in records if record.image_id in self._annotations]
        self.notes = missing_note(records, self._annotations, "annotation")

    def files(self) -> Sequence[Path]:
        """The JSON file and each image's PNG."""
        return [self._path, *(self._png(image_id) for image_id in self._in_order)]

    def segments(self, records: Sequence[ImageRecord]) -> tuple[pa.Table, Mapping[str, tuple[int, int]]]:
        """One row a segment; `segment_id` follows the ascending source ids, `ordinal` the order of `segments_info`."""
        tables: list[pa.Table] = []
        sizes: dict[str, tuple[int, int]] = {}
        for record in records:
            size = size_of(record)
            if record.image_id in self._annotations:
                ids = self._read_ids(record, size)
                size = (ids.shape[0], ids.shape[1])
                tables.append(self._rows(record, ids))
            if size is not None:
                sizes[record.image_id] = size
        return concat(tables), sizes

    def _read(self, known: set[str]) -> dict[str, Mapping[str, Any]]:
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

    def _read_ids(self, record: ImageRecord, size_hw: tuple[int, int] | None) -> NDArray[np.int32]:
        """The segment id of every pixel, (height, width)."""
        path = self._png(record.image_id)
        try:
            ids = read_panoptic_png(path, str(path))
        except PictureError as error:
            raise TransferError(f"{error}. {_NOT_RGB}") from error
        check_size(path, ids.shape, record, size_hw)
        return ids

    def _rows(self, record: ImageRecord, ids: NDArray[np.int32]) -> pa.Table:
        listed = self._listed(record.image_id)
        masks = encode_label_map(ids)
        painted = np.flatnonzero(masks.ids != VOID_ID)
        self._check_painted(record.image_id, listed, masks)
        segments = [listed[int(masks.ids[row])] for row in painted]  # ascending source id
        return segment_table(
            {
                "image_id": [record.image_id] * len(segments),
                "segment_id": np.arange(1, len(segments) + 1),
                "ordinal": [segment.ordinal for segment in segments],
                "category_id": [segment.category_id for segment in segments],
                "isthing": [segment.isthing for segment in segments],
                "iscrowd": np.zeros(len(segments), dtype=np.bool_),
                "score": [segment.score for segment in segments],
                "area": masks.areas[painted],
                "bbox": masks.bboxes[painted],
                "height": np.full(len(segments), ids.shape[0]),
                "width": np.full(len(segments), ids.shape[1]),
                "counts": [masks.counts[row] for row in painted],
                "source_id": [segment.source_id for segment in segments],
            }
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
    except (OSError, ValueError) as error:
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
