"""The passes of `evaluate --boundary`: PQ, AP and mIoU once more, by outlines."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from workbench.evaluation import agreement, average_precision, boundary, instance, panoptic, per_image
from workbench.evaluation.average_precision import InstanceResult
from workbench.evaluation.columns import Gathered
from workbench.evaluation.comparison import Comparison
from workbench.evaluation.image_ids import ranks_of_ids
from workbench.evaluation.instance import InstanceTally
from workbench.evaluation.overlaps import intersect
from workbench.evaluation.panoptic import PanopticResult, PanopticTally
from workbench.evaluation.partitions import Chunk
from workbench.evaluation.passes import Keeping

_TASK = "panoptic" + per_image.BOUNDARY


@dataclass(frozen=True)
class BoundarySemantic:
    """Pixels of every class's outlines, each of shape (K,); those of other images over the same classes add up."""

    category_ids: NDArray[np.int32]
    intersection: NDArray[np.int64]
    gt_pixels: NDArray[np.int64]
    pred_pixels: NDArray[np.int64]
    """Without those on void."""

    @property
    def iou(self) -> NDArray[np.float64]:
        """(K,), NaN for a class that has no outline on either side."""
        union = self.gt_pixels + self.pred_pixels - self.intersection
        return np.asarray(np.divide(self.intersection, union, out=np.full(len(union), np.nan), where=union > 0))

    @property
    def miou(self) -> float | None:
        """The mean over the classes that have an outline on either side; None without any."""
        known = self.iou[~np.isnan(self.iou)]
        return float(known.mean()) if len(known) else None


@dataclass(frozen=True)
class _PanopticPart:
    """What some images add to boundary PQ, and the rows that they leave."""

    counts: PanopticTally
    per_image: pa.Table


@dataclass(frozen=True)
class _InstancePart:
    """What some images add to boundary AP, and the rows that they leave."""

    counts: InstanceTally
    detections: pa.Table


@dataclass(frozen=True)
class _SemanticPart:
    """What some images add to boundary IoU."""

    pixels: NDArray[np.int64]
    """(3, K): `intersection`, `gt_pixels` and `pred_pixels`."""

    def __add__(self, other: "_SemanticPart") -> "_SemanticPart":
        return _SemanticPart(self.pixels + other.pixels)


def score_panoptic(comparison: Comparison, keep: Keeping) -> PanopticResult:
    """Boundary PQ: a match needs mask and outline to overlap by more than half, and counts the smaller IoU."""
    tallies: Gathered[PanopticTally] = Gathered(comparison.most_rows)
    for part in comparison.parts(partial(_count_panoptic, corrected=comparison.corrected)):
        tallies.add(part.counts)
        keep.per_image(part.per_image)
    return panoptic.result(tallies.record(), comparison.category_ids, comparison.isthing, comparison.file_order)


def _count_panoptic(chunk: Chunk, corrected: bool) -> _PanopticPart:
    gt, pred, images = chunk.gt, chunk.pred, chunk.images
    overlaps = agreement.intersect_with_map(gt, pred)
    counts = panoptic.tally(gt, pred, panoptic.match(gt, pred, overlaps, corrected, boundary.pair_iou(gt, pred)))
    rows = [images.rows(_TASK), per_image.panoptic_rows(counts, images, _TASK)]
    return _PanopticPart(counts, pa.concat_tables(rows))


def score_instances(comparison: Comparison, keep: Keeping, things_only: bool) -> InstanceResult:
    """Boundary AP. `things_only` leaves stuff of a panoptic run out."""
    things = comparison.category_ids[comparison.isthing] if things_only else None
    tallies: Gathered[InstanceTally] = Gathered(comparison.most_rows)
    for part in comparison.parts(partial(_count_instances, things=things, corrected=comparison.corrected)):
        tallies.add(part.counts)
        keep.detections(part.detections)
    order = ranks_of_ids(comparison.image_ids)
    return average_precision.accumulate(tallies.record(), comparison.category_ids, order)


def _count_instances(chunk: Chunk, things: NDArray[np.int32] | None, corrected: bool) -> _InstancePart:
    truth, dets = chunk.gt.take(~chunk.gt.is_void), chunk.pred
    if things is not None:
        dets = dets.take(np.isin(dets.category_id, things))
    counts = instance.tally(truth, dets, instance.match(truth, dets, "boundary", corrected))
    return _InstancePart(counts, per_image.detection_rows(counts, "boundary", chunk.images))


def score_semantic(comparison: Comparison) -> BoundarySemantic:
    """Boundary IoU of every class: outlines of its pixels in each image, summed over the images before dividing.

    The segments of a semantic map are its classes. There is no official tool for this one.
    """
    category_ids = comparison.category_ids
    total = np.zeros((3, len(category_ids)), dtype=np.int64)
    for part in comparison.parts(partial(_count_semantic, category_ids=category_ids)):
        total += part.pixels
    return BoundarySemantic(category_ids, *total)


def _count_semantic(chunk: Chunk, category_ids: NDArray[np.int32]) -> _SemanticPart:
    gt, pred = chunk.gt, chunk.pred
    agreement.check_disjoint(pred)
    edges = boundary.outlines(gt), boundary.outlines(pred)
    truth, guess = (np.searchsorted(category_ids, side.category_id) for side in (gt, pred))
    shared, labelled = intersect(*edges), ~gt.is_void
    same = gt.category_id[shared.first] == pred.category_id[shared.second]
    on_void = gt.is_void[shared.first]
    total = np.zeros((3, len(category_ids)), dtype=np.int64)
    np.add.at(total[0], truth[shared.first[same]], shared.pixels[same])
    np.add.at(total[1], truth[labelled], edges[0].area[labelled])
    np.add.at(total[2], guess, edges[1].area)
    np.subtract.at(total[2], guess[shared.second[on_void]], shared.pixels[on_void])
    return _SemanticPart(total)
