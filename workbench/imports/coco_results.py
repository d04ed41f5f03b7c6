"""COCO results: a JSON array of detections with masks, boxes or both, read as pycocotools' loadRes reads it.

loadRes lets the first record decide: where it has a box, every detection's area (which decides its size range, in segm
AP too) is that of its box; where it has none, the mask's. A file whose records disagree about what they carry would be
scored by accident, so it is refused. Source: cocodataset/cocoapi, pycocotools/coco.py.
"""

import math
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from workbench import rle
from workbench.errors import TransferError
from workbench.formats.base import Dataset, ImageRecord, Task
from workbench.formats.coco_masks import segmentation_counts
from workbench.imports import json_records
from workbench.imports.base import (
    JsonCategories,
    PredictionSource,
    finite_score,
    key_of_image,
    missing_note,
    size_of,
    whole_number,
)
from workbench.imports.boxes import bboxes_of, box_counts, check_bbox
from workbench.segments import segment_table


@dataclass(frozen=True)
class _Contents:
    """What every record of one file carries."""

    mask: bool
    bbox: bool

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "_Contents":
        """An empty list counts as absent, as in loadRes."""
        return cls(record.get("segmentation") is not None, record.get("bbox") not in (None, []))

    def __str__(self) -> str:
        return " and ".join(name for name, has in (("a segmentation", self.mask), ("a bbox", self.bbox)) if has)


@dataclass(frozen=True)
class _Index:
    """Where each record lies, and which records are each image's, in file order."""

    contents: _Contents
    starts: "array[int]"
    ends: "array[int]"
    order: NDArray[np.int64]
    """Record numbers by image, ascending within an image."""
    bounds: NDArray[np.int64]
    """(images + 1,): image i has the records `order[bounds[i]:bounds[i + 1]]`."""


@dataclass(frozen=True)
class _Detection:
    """One record, checked but for the sum of its runs."""

    number: int
    image_id: str
    ordinal: int
    category_id: int
    score: float
    bbox: list[float] | None
    counts: bytes
    size_hw: tuple[int, int]


class CocoResults(PredictionSource):
    """A COCO results JSON, matched to a dataset's images. Making it reads the file once and keeps only places."""

    task: ClassVar[Task] = "instance"

    def __init__(self, path: Path, dataset: Dataset) -> None:
        self._path = path
        self._dataset_name = dataset.definition.name
        self._categories = JsonCategories(dataset)
        records = dataset.images()
        self._position = {record.image_id: position for position, record in enumerate(records)}
        self._index = self._read_index()
        found = {records[position].image_id for position in np.flatnonzero(np.diff(self._index.bounds)).tolist()}
        self.notes = missing_note(records, found, "record")

    def files(self) -> Sequence[Path]:
        """The JSON file."""
        return [self._path]

    def manifest(self) -> dict[str, Any]:
        """`iou_types`: what can be scored; ["bbox"] where boxes stand in for masks, which must not count as such."""
        return {"iou_types": ["segm", "bbox"] if self._index.contents.mask else ["bbox"]}

    def segments(self, records: Sequence[ImageRecord]) -> tuple[pa.Table, Mapping[str, tuple[int, int]]]:
        """One row a detection; `ordinal` is its place among the image's records, which decides ties in score."""
        detections: list[_Detection] = []
        sizes: dict[str, tuple[int, int]] = {}
        with self._path.open("rb") as file:
            for record in records:
                size = size_of(record)
                for detection in self._detections(file, record, size):
                    detections.append(detection)
                    size = detection.size_hw
                if size is not None:
                    sizes[record.image_id] = size
        return self._table(detections), sizes

    def _read_index(self) -> _Index:
        starts, ends, images = array("q"), array("q"), array("q")
        contents: _Contents | None = None
        for number, (span, record) in enumerate(json_records.scan(self._path)):
            carries = _Contents.of(record)
            contents = contents or carries
            if not carries.mask and not carries.bbox:
                raise self._error(number, "it has neither a segmentation nor a bbox")
            if carries != contents:
                raise self._error(
                    number,
                    f"it has {carries}, but the first record {contents}: pycocotools would score the file by the first."
                    " Give every record the same, or import two files.",
                )
            images.append(self._image_position(number, record))
            starts.append(span.start)
            ends.append(span.end)
        of_image = np.frombuffer(images, dtype=np.int64) if images else np.zeros(0, np.int64)
        order = np.argsort(of_image, kind="stable")
        bounds = np.searchsorted(of_image[order], np.arange(len(self._position) + 1))
        return _Index(contents or _Contents(mask=True, bbox=False), starts, ends, order, bounds)

    def _image_position(self, number: int, record: Mapping[str, Any]) -> int:
        if "image_id" not in record:
            raise self._error(number, "it has no image_id")
        position = self._position.get(key_of_image(record["image_id"]) or "")
        if position is None:
            raise self._error(
                number,
                f"image_id {record['image_id']!r} is none of the {len(self._position)} images of dataset "
                f"{self._dataset_name}. Leave the record out, or name the dataset that has the image.",
            )
        return position

    def _detections(self, file: BinaryIO, record: ImageRecord, size_hw: tuple[int, int] | None) -> Iterator[_Detection]:
        index, position = self._index, self._position[record.image_id]
        numbers = index.order[index.bounds[position] : index.bounds[position + 1]].tolist()
        for ordinal, number in enumerate(numbers):
            value = json_records.read(file, json_records.Span(index.starts[number], index.ends[number]))
            try:
                size_hw = size_hw or _size_from(value)
                category_id = self._categories.read(value.get("category_id"))
                score = finite_score(value.get("score"))
                bbox = check_bbox(value["bbox"]) if index.contents.bbox else None
                if index.contents.mask:
                    counts = segmentation_counts(value["segmentation"], size_hw)
                else:
                    counts = box_counts(value["bbox"], size_hw)
            except ValueError as error:
                raise self._error(number, str(error)) from None
            yield _Detection(number, record.image_id, ordinal, category_id, score, bbox, counts, size_hw)

    def _table(self, detections: Sequence[_Detection]) -> pa.Table:
        counts = [detection.counts for detection in detections]
        sizes = [detection.size_hw for detection in detections]
        areas = self._checked_areas(detections)
        bboxes = bboxes_of(counts, sizes)  # only now: counts that do not fill the image hang pycocotools
        for row, detection in enumerate(detections):
            if detection.bbox is not None:
                bboxes[row] = detection.bbox
        declared = [None if d.bbox is None else d.bbox[2] * d.bbox[3] for d in detections]
        return segment_table(
            {
                "image_id": [detection.image_id for detection in detections],
                "segment_id": [detection.ordinal + 1 for detection in detections],
                "ordinal": [detection.ordinal for detection in detections],
                "category_id": [detection.category_id for detection in detections],
                "isthing": [self._categories.isthing[detection.category_id] for detection in detections],
                "iscrowd": np.zeros(len(detections), dtype=np.bool_),
                "score": [detection.score for detection in detections],
                "area": areas,
                "declared_area": declared,
                "bbox": bboxes,
                "height": [height for height, _ in sizes],
                "width": [width for _, width in sizes],
                "counts": counts,
            }
        )

    def _checked_areas(self, detections: Sequence[_Detection]) -> NDArray[np.int64]:
        """Mask pixels of each detection; all runs are checked at once, and one by one only to name the broken one."""
        pixels = np.array([math.prod(detection.size_hw) for detection in detections], dtype=np.int64)
        try:
            runs = rle.parse_runs([detection.counts for detection in detections])
            rle.check(runs, pixels)
        except rle.RleError:
            for detection, size in zip(detections, pixels, strict=True):
                try:
                    rle.check(rle.parse_runs([detection.counts]), np.array([size]))
                except rle.RleError as error:
                    raise self._error(detection.number, str(error).removeprefix("row 0: ")) from None
            raise
        return runs.areas()

    def _error(self, number: int, problem: str) -> TransferError:
        remedy = "" if problem.endswith(".") else ". Correct the record, or leave it out."
        return TransferError(f"{self._path}: record {number} (the first is 0): {problem}{remedy}")


def _size_from(value: Mapping[str, Any]) -> tuple[int, int]:
    """The image's (height, width) from a record's RLE, where neither dataset nor image file tells."""
    segmentation = value.get("segmentation")
    size = segmentation.get("size") if isinstance(segmentation, dict) else None
    numbers = [whole_number(number) for number in size] if isinstance(size, list) else []
    match numbers:
        case [int(height), int(width)] if height > 0 and width > 0:
            return height, width
    raise ValueError(
        "its image cannot be read and the dataset declares no size, so a box or polygon cannot be rasterised. "
        "Put the image into place, or write the masks as RLE."
    )
