"""The passes of `evaluate --boundary`: PQ, AP and mIoU once more, by outlines."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workbench.evaluation import agreement, average_precision, boundary, instance, panoptic, per_image
from workbench.evaluation.average_precision import InstanceResult
from workbench.evaluation.columns import join
from workbench.evaluation.overlaps import intersect
from workbench.evaluation.panoptic import PanopticResult
from workbench.evaluation.passes import Comparison, Keeping, ranks_of_ids

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


def score_panoptic(comparison: Comparison, keep: Keeping) -> PanopticResult:
    """Boundary PQ: a match needs mask and outline to overlap by more than half, and counts the smaller IoU."""
    tallies = []
    keep.per_image(comparison.images.rows(_TASK))
    for gt, pred in comparison.chunks():
        overlaps = agreement.intersect_with_map(gt, pred)
        matched = panoptic.match(gt, pred, overlaps, comparison.corrected, boundary.pair_iou(gt, pred))
        tallies.append(panoptic.tally(gt, pred, matched))
        keep.per_image(per_image.panoptic_rows(tallies[-1], comparison.images, _TASK))
    return panoptic.result(join(tallies), comparison.category_ids, comparison.isthing, comparison.file_order)


def score_instances(comparison: Comparison, keep: Keeping, things_only: bool) -> InstanceResult:
    """Boundary AP. `things_only` leaves stuff of a panoptic run out."""
    things = comparison.category_ids[comparison.isthing]
    tallies = []
    for gt, pred in comparison.chunks():
        truth = gt.take(~gt.is_void)
        dets = pred.take(np.isin(pred.category_id, things)) if things_only else pred
        tallies.append(instance.tally(truth, dets, instance.match(truth, dets, "boundary", comparison.corrected)))
        keep.detections(per_image.detection_rows(tallies[-1], "boundary", comparison.images))
    return average_precision.accumulate(join(tallies), comparison.category_ids, ranks_of_ids(comparison.image_ids))


def score_semantic(comparison: Comparison) -> BoundarySemantic:
    """Boundary IoU of every class: outlines of its pixels in each image, summed over the images before dividing.

    The segments of a semantic map are its classes. There is no official tool for this one.
    """
    classes = len(comparison.category_ids)
    total = np.zeros((3, classes), dtype=np.int64)
    for gt, pred in comparison.chunks():
        agreement.check_disjoint(pred)
        edges = boundary.outlines(gt), boundary.outlines(pred)
        truth, guess = (np.searchsorted(comparison.category_ids, side.category_id) for side in (gt, pred))
        shared, labelled = intersect(*edges), ~gt.is_void
        same = gt.category_id[shared.first] == pred.category_id[shared.second]
        on_void = gt.is_void[shared.first]
        np.add.at(total[0], truth[shared.first[same]], shared.pixels[same])
        np.add.at(total[1], truth[labelled], edges[0].area[labelled])
        np.add.at(total[2], guess, edges[1].area)
        np.subtract.at(total[2], guess[shared.second[on_void]], shared.pixels[on_void])
    return BoundarySemantic(comparison.category_ids, *total)
