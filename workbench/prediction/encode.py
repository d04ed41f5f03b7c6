"""What a model says of one image, as rows of the segment table."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from workbench.formats.base import Category, ImageRecord
from workbench.label_map_rle import encode_label_map
from workbench.mask_rle import encode_masks
from workbench.segments import concat, image_table, segment_table

if TYPE_CHECKING:
    from eomt.candidates import PanopticCandidates

OK, FAILED = "ok", "failed"


@dataclass(frozen=True)
class PredictedMap:
    """Segments that do not overlap: a panoptic or a semantic prediction."""

    segment_map: NDArray[np.integer]
    """(height, width): an index into the arrays below; negative where nothing was predicted."""
    class_index: NDArray[np.int64]
    """(n,)."""
    scores: NDArray[np.float32] | None
    """(n,), 0..1; None where the task gives none."""
    candidates: "PanopticCandidates | None" = None
    """What other thresholds would make of the image, where that is to be kept."""

    @property
    def size_hw(self) -> tuple[int, int]:
        """(height, width)."""
        return self.segment_map.shape[0], self.segment_map.shape[1]


@dataclass(frozen=True)
class PredictedMasks:
    """Instance candidates, best first, which may overlap and share a mask."""

    masks: NDArray[np.bool_]
    """(m, height, width)."""
    mask_index: NDArray[np.int64]
    """(n,), 0..m-1."""
    class_index: NDArray[np.int64]
    """(n,)."""
    scores: NDArray[np.float32]
    """(n,), 0..1."""

    @property
    def size_hw(self) -> tuple[int, int]:
        """(height, width)."""
        return self.masks.shape[1], self.masks.shape[2]


Prediction = PredictedMap | PredictedMasks


@dataclass(frozen=True)
class Failed:
    """Why an image has no prediction."""

    reason: str


@dataclass(frozen=True)
class PredictedImage:
    """An image of the dataset and what came of it."""

    record: ImageRecord
    outcome: Prediction | Failed


@dataclass(frozen=True)
class Segments:
    """The segments of one image, columns of n entries each."""

    class_index: NDArray[np.int64]
    scores: NDArray[np.float32] | None
    counts: list[bytes]
    areas: NDArray[np.int64]
    bboxes: NDArray[np.float64]
    """(n, 4): x, y, w, h in pixels, counted from the masks."""


def encode(prediction: Prediction) -> Segments:
    """The prediction's segments in its own order, those without a pixel left out."""
    return _encode_map(prediction) if isinstance(prediction, PredictedMap) else _encode_masks(prediction)


def _encode_map(prediction: PredictedMap) -> Segments:
    rows = encode_label_map(prediction.segment_map)
    kept = np.flatnonzero(rows.ids >= 0)
    chosen = rows.ids[kept]
    return Segments(
        prediction.class_index[chosen],
        None if prediction.scores is None else prediction.scores[chosen],
        [rows.counts[row] for row in kept],
        rows.areas[kept],
        rows.bboxes[kept],
    )


def _encode_masks(prediction: PredictedMasks) -> Segments:
    rows, index = encode_masks(prediction.masks), prediction.mask_index
    counts = [rows.counts[i] for i in index]
    return Segments(prediction.class_index, prediction.scores, counts, rows.areas[index], rows.bboxes[index])


@dataclass
class ShardBuilder:
    """Rows of images that wait to be committed together."""

    categories: Sequence[Category]
    """The category of each class index in the predictions."""
    columns: dict[str, list[Any]] = field(default_factory=dict)
    image_columns: dict[str, list[Any]] = field(default_factory=dict)

    @property
    def images(self) -> int:
        """How many images wait."""
        return len(self.image_columns.get("image_id", ()))

    def add(self, image: PredictedImage) -> None:
        """Add an image and its segments, or the reason why it has none."""
        if isinstance(image.outcome, Failed):
            self._add_image(image.record, None, None, FAILED, image.outcome.reason)
            return
        height, width = image.outcome.size_hw
        segments = encode(image.outcome)
        for row, class_index in enumerate(segments.class_index.tolist()):
            category = self.categories[class_index]
            _append(
                self.columns,
                image_id=image.record.image_id,
                segment_id=row + 1,
                ordinal=row,
                category_id=category.category_id,
                isthing=category.isthing,
                iscrowd=False,
                score=None if segments.scores is None else float(segments.scores[row]),
                area=int(segments.areas[row]),
                bbox=segments.bboxes[row],
                height=height,
                width=width,
                counts=segments.counts[row],
            )
        self._add_image(image.record, height, width, OK, None)

    def build(self) -> tuple[pa.Table, pa.Table]:
        """The segment table and the image table of what was added; the builder is empty afterwards."""
        segments = segment_table(self.columns) if self.columns else concat([])
        images = image_table(self.image_columns)
        self.columns, self.image_columns = {}, {}
        return segments, images

    def _add_image(
        self, record: ImageRecord, height: int | None, width: int | None, status: str, error: str | None
    ) -> None:
        _append(
            self.image_columns,
            image_id=record.image_id,
            file_name=record.file_name,
            height=height,
            width=width,
            ordinal=record.ordinal,
            status=status,
            error=error,
        )


def _append(columns: dict[str, list[Any]], **values: Any) -> None:
    for name, value in values.items():
        columns.setdefault(name, []).append(value)
