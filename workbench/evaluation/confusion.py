"""What is taken for what: counts of true category by predicted category, of pixels or of segments."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from workbench.evaluation.columns import Segments
from workbench.evaluation.errors import MAP_TYPES, SegmentErrors
from workbench.evaluation.semantic import SemanticResult
from workbench.evaluation.tide import TideMatches
from workbench.formats.base import Task

NOTHING = -1
"""In place of a category: the other side has nothing there."""

CONFUSION_SCHEMA = pa.schema(
    [
        pa.field("task", pa.string(), nullable=False),  # "panoptic", "instance" or "semantic"
        pa.field("unit", pa.string(), nullable=False),  # "segments" or "pixels"
        pa.field("gt_category_id", pa.int32(), nullable=False),  # NOTHING: an unmatched prediction
        pa.field("pred_category_id", pa.int32(), nullable=False),  # NOTHING: a missed segment, or no prediction
        pa.field("count", pa.int64(), nullable=False),  # never 0
    ]
)


@dataclass(frozen=True)
class Confusion:
    """Counts over K categories; those of other images over the same categories can be added."""

    category_ids: NDArray[np.int32]
    """(K,), ascending."""
    counts: NDArray[np.int64]
    """(K + 1, K + 1): true category by predicted category, the last of each for nothing."""

    @classmethod
    def zero(cls, category_ids: NDArray[np.int32]) -> "Confusion":
        """The counts of no image."""
        return cls(category_ids, np.zeros((len(category_ids) + 1,) * 2, dtype=np.int64))

    def __add__(self, other: "Confusion") -> "Confusion":
        return Confusion(self.category_ids, self.counts + other.counts)


def of_pixels(result: SemanticResult) -> Confusion:
    """The pixels of mIoU: void ground truth counts nowhere."""
    nowhere = np.zeros((1, len(result.category_ids) + 1), dtype=np.int64)
    return Confusion(result.category_ids, np.concatenate([result.confusion, nowhere]))


def of_map(gt: Segments, pred: Segments, errors: SegmentErrors, category_ids: NDArray[np.int32]) -> Confusion:
    """Segments whose IoU is above 0.5 whatever their category; what PQ ignores counts nowhere."""
    paired = _codes("matched", "wrong_class")
    nowhere = _codes("void", "crowd")
    found = np.isin(errors.gt_code, paired)
    missed = ~found & ~np.isin(errors.gt_code, nowhere)
    invented = ~np.isin(errors.pred_code, [*paired, *nowhere])
    return _counted(
        category_ids,
        gt.category_id[found],
        pred.category_id[errors.gt_other[found]],
        gt.category_id[missed],
        pred.category_id[invented],
    )


def of_instances(gt: Segments, pred: Segments, matches: TideMatches, category_ids: NDArray[np.int32]) -> Confusion:
    """Detections by falling score, each with what is left of the highest IoU from 0.5, whatever its category.

    Crowds and what lies on them count nowhere.
    """
    found = matches.found >= 0
    missed = ~gt.iscrowd
    missed[matches.found[found]] = False
    invented = ~found & ~matches.ignored
    dets = pred.category_id[matches.det_rows]
    return _counted(
        category_ids, gt.category_id[matches.found[found]], dets[found], gt.category_id[missed], dets[invented]
    )


def whole_table(segments: Mapping[Task, Confusion], pixels: SemanticResult | None) -> pa.Table:
    """All that was counted, as rows of `CONFUSION_SCHEMA`: segments by task, and the pixels of mIoU."""
    parts = [_table(each, task, "segments") for task, each in segments.items()]
    if pixels is not None:
        parts.append(_table(of_pixels(pixels), "semantic", "pixels"))
    return pa.concat_tables([CONFUSION_SCHEMA.empty_table(), *parts])


def _table(confusion: Confusion, task: str, unit: str) -> pa.Table:
    """The cells that are not 0."""
    rows, columns = np.nonzero(confusion.counts)
    names = np.append(confusion.category_ids, NOTHING).astype(np.int32)
    cells = {
        "task": pa.repeat(task, len(rows)),
        "unit": pa.repeat(unit, len(rows)),
        "gt_category_id": names[rows],
        "pred_category_id": names[columns],
        "count": confusion.counts[rows, columns],
    }
    return pa.table(cells, schema=CONFUSION_SCHEMA)


def _codes(*names: str) -> list[int]:
    return [MAP_TYPES.index(name) for name in names]


def _counted(
    category_ids: NDArray[np.int32],
    true: NDArray[np.int32],
    predicted: NDArray[np.int32],
    missed: NDArray[np.int32],
    invented: NDArray[np.int32],
) -> Confusion:
    """Pairs (true, predicted), and what has no partner, by category id."""
    size, nothing = len(category_ids) + 1, len(category_ids)
    rows = np.append(np.searchsorted(category_ids, np.concatenate([true, missed])), np.full(len(invented), nothing))
    columns = np.concatenate(
        [
            np.searchsorted(category_ids, predicted),
            np.full(len(missed), nothing),
            np.searchsorted(category_ids, invented),
        ]
    )
    cells = np.bincount(rows * size + columns, minlength=size * size)
    return Confusion(category_ids, cells.reshape(size, size).astype(np.int64))
