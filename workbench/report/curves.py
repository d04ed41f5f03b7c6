"""Curves and slices that evaluation keeps only as counts: precision over recall, and what is found by size."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from workbench.evaluation.average_precision import RECALL_THRESHOLDS, accumulate
from workbench.evaluation.instance import AREA_RANGES, IOU_THRESHOLDS, InstanceTally
from workbench.evaluation.keeping import DETECTIONS, MATCHES, PER_IMAGE
from workbench.evaluation.per_image import NO_CATEGORY
from workbench.formats.base import Task

SHOWN_IOUS = (0.5, 0.75, 0.9)
_SIZES = (("under 16²", 0, 16), ("16² to 32²", 16, 32), ("32² to 96²", 32, 96), ("over 96²", 96, 10**6))
"""Label, and the sides in pixels of squares between whose areas a segment's lies: COCO's limits, small ones in two."""


@dataclass(frozen=True)
class PrecisionRecall:
    """Mean precision over the categories that have ground truth, at each of `recall`."""

    geometry: str
    recall: NDArray[np.float64]
    """(R,)."""
    precision: Mapping[float, NDArray[np.float64]]
    """(R,) by IoU threshold."""


@dataclass(frozen=True)
class SizeSlice:
    """Ground-truth segments of one range of areas, and how many of them were found."""

    label: str
    segments: int
    found: int

    @property
    def recall(self) -> float | None:
        """Share that was found; None where there is no such segment."""
        return self.found / self.segments if self.segments else None


def precision_recall(folder: Path, metrics: Mapping[str, Any]) -> PrecisionRecall | None:
    """The curves behind AP, of masks where there are any; None for a run without AP.

    They come from the stored detections through the function that evaluation uses, and so are those of pycocotools.
    """
    scored = metrics["instance"] or {}
    geometry = next((name for name in ("segm", "bbox") if scored.get(name)), None)
    if geometry is None:
        return None
    detections = pq.read_table(folder / DETECTIONS, filters=[("geometry", "==", geometry)])
    counts = pq.read_table(
        folder / PER_IMAGE,
        columns=["image_id", "category_id", "gt_by_area"],
        filters=[("task", "==", "instance"), ("category_id", "!=", NO_CATEGORY)],
    )
    category_ids = np.array(sorted(map(int, scored[geometry]["per_category"])), dtype=np.int32)
    ids = pc.unique(pa.chunked_array([*detections["image_id"].chunks, *counts["image_id"].chunks], pa.string())).sort()
    result = accumulate(_tally(detections, counts, ids), category_ids, np.arange(len(ids)))
    has_gt = result.gt[:, 0] > 0
    precision = {
        iou: result.precision[int(np.abs(IOU_THRESHOLDS - iou).argmin()), :, has_gt, 0, -1].mean(axis=0)  # (K, R)
        for iou in SHOWN_IOUS
        if has_gt.any()
    }
    return PrecisionRecall(geometry, RECALL_THRESHOLDS, precision) if precision else None


def _tally(detections: pa.Table, counts: pa.Table, ids: pa.Array) -> InstanceTally:
    """The rows as `accumulate` takes them; a row of ground truth stands for all of an image and category."""
    by_area = pc.list_flatten(counts["gt_by_area"]).to_numpy().reshape(-1, len(AREA_RANGES))
    return InstanceTally(
        image=_positions(detections["image_id"], ids),
        category=detections["category_id"].to_numpy(),
        rank=detections["rank"].to_numpy(),
        score=detections["score"].to_numpy(),
        tp=_bits(detections["tp"]),
        fp=_bits(detections["fp"]),
        gt_image=_positions(counts["image_id"], ids),
        gt_category=counts["category_id"].to_numpy(),
        gt_countable=by_area,
    )


def _positions(image_ids: pa.ChunkedArray, ids: pa.Array) -> NDArray[np.int32]:
    return np.asarray(pc.index_in(image_ids, value_set=ids).to_numpy(), dtype=np.int32)


def _bits(column: pa.ChunkedArray) -> NDArray[np.uint8]:
    return np.frombuffer(b"".join(column.to_pylist()), dtype=np.uint8).reshape(len(column), column.type.byte_width)


def size_slices(folder: Path, task: Task) -> tuple[SizeSlice, ...]:
    """How much ground truth of each size is found at IoU 0.5, from the match table; empty for semantic runs."""
    if task == "semantic":
        return ()
    rows = pq.read_table(
        folder / MATCHES,
        columns=["area", "status"],
        filters=[("task", "==", task), ("kind", "==", "ground_truth"), ("status", "in", ["tp", "fn"])],
    )
    area, found = rows["area"].to_numpy(), np.asarray(pc.equal(rows["status"], "tp"), dtype=bool)
    inside = [(label, (area >= low**2) & (area < high**2)) for label, low, high in _SIZES]
    return tuple(SizeSlice(label, int(within.sum()), int(found[within].sum())) for label, within in inside)
