"""Walking through ground truth and predictions in chunks: one pass for each ground truth that a run is scored on.

What grows with the number of images is only what the tallies keep: some bytes a segment.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from workbench.evaluation import (
    agreement,
    average_precision,
    confusion,
    errors,
    instance,
    matches,
    mending,
    panoptic,
    per_image,
    semantic,
    tide,
    tide_ap,
)
from workbench.evaluation.ahead import ahead
from workbench.evaluation.average_precision import InstanceResult
from workbench.evaluation.columns import Gathered, Segments, join, segments_of
from workbench.evaluation.confusion import Confusion
from workbench.evaluation.instance import Geometry, InstanceTally
from workbench.evaluation.panoptic import PanopticResult
from workbench.evaluation.per_image import Images
from workbench.evaluation.semantic import SemanticResult
from workbench.evaluation.tide import TideTally
from workbench.evaluation.tide_ap import TideResult
from workbench.formats.base import Category
from workbench.runs import Run
from workbench.store import SegmentStore

IMAGES_PER_CHUNK = 128
Keep = Callable[[pa.Table], None]
"""Takes rows as they come."""


@dataclass(frozen=True)
class Keeping:
    """What a pass leaves for those who ask later."""

    matches: Keep
    """Rows of `matches.MATCH_SCHEMA`."""
    per_image: Keep
    """Rows of `per_image.PER_IMAGE_SCHEMA`."""
    detections: Keep
    """Rows of `per_image.DETECTION_SCHEMA`."""


@dataclass(frozen=True)
class Comparison:
    """A run, one ground truth, and the images that both are compared on."""

    run: Run
    ground_truth: SegmentStore
    categories: tuple[Category, ...]
    """Ascending by id."""
    image_ids: tuple[str, ...]
    file_order: NDArray[np.int64]
    """(images,), each image's position in the annotation file."""
    progress: Callable[[int], None]
    """Called with the number of images of each chunk that is done."""
    corrected: bool = False
    """Mend what the official tools get wrong instead of repeating it."""

    @property
    def category_ids(self) -> NDArray[np.int32]:
        """(K,)."""
        return np.array([category.category_id for category in self.categories], dtype=np.int32)

    @property
    def isthing(self) -> NDArray[np.bool_]:
        """(K,)."""
        return np.array([category.isthing for category in self.categories], dtype=np.bool_)

    @property
    def most_rows(self) -> int:
        """No tally has more."""
        return max(self.run.store.count_segments(), self.ground_truth.count_segments())

    @cached_property
    def images(self) -> Images:
        """What rows about an image say of it."""
        return Images.of(self.image_ids, self.file_order)

    def chunks(self) -> Iterator[tuple[Segments, Segments]]:
        """Ground truth and predictions (void rows left out) of some images at a time, checked against each other.

        The next chunk is read while one is scored. Raises EvaluationError for categories that the dataset lacks and for
        sizes that differ.
        """
        for images, gt, pred in ahead(self._read()):
            yield gt, pred
            self.progress(images)

    def _read(self) -> Iterator[tuple[int, Segments, Segments]]:
        starts = range(0, len(self.image_ids), IMAGES_PER_CHUNK)
        chunks = [self.image_ids[start : start + IMAGES_PER_CHUNK] for start in starts]
        tables = zip(self.ground_truth.chunks(chunks), self.run.store.chunks(chunks), strict=True)
        for start, ids, (gt_table, pred_table) in zip(starts, chunks, tables, strict=True):
            gt, pred = segments_of(gt_table, ids, start), segments_of(pred_table, ids, start)
            pred = pred.take(~pred.is_void)
            agreement.check_categories(self.run, self.categories, pred)
            agreement.check_sizes(gt, pred)
            if self.corrected:
                gt, pred = mending.counted(gt), mending.counted(pred)
            yield len(ids), gt, pred


@dataclass(frozen=True)
class PanopticScores:
    """What the pass over panoptic ground truth gives."""

    panoptic: PanopticResult
    semantic: SemanticResult | None
    """mIoU of the segments merged by category, unless the dataset has ground truth of its own for it."""
    confusion: Confusion
    """Of segments."""


@dataclass(frozen=True)
class InstanceScores:
    """What the pass over instance ground truth gives."""

    instance: dict[Geometry, InstanceResult]
    tide: dict[Geometry, TideResult]
    confusion: Confusion
    """Of segments, by the first geometry, which is also that of the match table."""


def score_panoptic(comparison: Comparison, keep: Keeping, semantic_too: bool) -> PanopticScores:
    """PQ, and mIoU where asked for."""
    tallies, classes = [], SemanticResult.zero(comparison.category_ids)
    confused = Confusion.zero(comparison.category_ids)
    for task in ("panoptic", "semantic") if semantic_too else ("panoptic",):
        keep.per_image(comparison.images.rows(task))
    for gt, pred in comparison.chunks():
        overlaps = agreement.intersect_with_map(gt, pred)
        matched = panoptic.match(gt, pred, overlaps, comparison.corrected)
        typed = errors.map_errors(gt, pred, overlaps, matched)
        confused += confusion.of_map(gt, pred, typed, comparison.category_ids)
        tallies.append(panoptic.tally(gt, pred, matched))
        keep.matches(matches.panoptic_rows(gt, pred, matched, typed))
        keep.per_image(per_image.panoptic_rows(tallies[-1], comparison.images))
        if semantic_too:
            classes += semantic.count(gt, pred, overlaps, comparison.category_ids)
            keep.per_image(per_image.semantic_rows(gt, pred, overlaps, comparison.images))
    result = panoptic.result(join(tallies), comparison.category_ids, comparison.isthing, comparison.file_order)
    return PanopticScores(result, classes if semantic_too else None, confused)


def count_panoptic(comparison: Comparison) -> tuple[PanopticResult, SemanticResult]:
    """PQ and the confusion of classes alone: the numbers of `score_panoptic` without reasons and rows for later."""
    tallies, classes = [], SemanticResult.zero(comparison.category_ids)
    for gt, pred in comparison.chunks():
        overlaps = agreement.intersect_with_map(gt, pred)
        tallies.append(panoptic.tally(gt, pred, panoptic.match(gt, pred, overlaps, comparison.corrected)))
        classes += semantic.count(gt, pred, overlaps, comparison.category_ids)
    return panoptic.result(join(tallies), comparison.category_ids, comparison.isthing, comparison.file_order), classes


def score_semantic(comparison: Comparison, keep: Keeping, matched: bool) -> SemanticResult:
    """mIoU. The match table gets a row a class and image where the run's segments are such rows (`matched`)."""
    classes = SemanticResult.zero(comparison.category_ids)
    keep.per_image(comparison.images.rows("semantic"))
    for gt, pred in comparison.chunks():
        overlaps = agreement.intersect_with_map(gt, pred)
        classes += semantic.count(gt, pred, overlaps, comparison.category_ids)
        keep.per_image(per_image.semantic_rows(gt, pred, overlaps, comparison.images))
        if matched:
            typed = errors.map_errors(gt, pred, overlaps, panoptic.match(mending.counted(gt), pred, overlaps))
            keep.matches(matches.semantic_rows(gt, pred, overlaps, typed))
    return classes


def score_instances(
    comparison: Comparison, keep: Keeping, geometries: Sequence[Geometry], things_only: bool
) -> InstanceScores:
    """AP for each geometry; the match table follows the first. `things_only` leaves stuff of a panoptic run out."""
    things = comparison.category_ids[comparison.isthing]
    tallies: dict[Geometry, Gathered[InstanceTally]] = {name: Gathered(comparison.most_rows) for name in geometries}
    tides: dict[Geometry, Gathered[TideTally]] = {name: Gathered(comparison.most_rows) for name in geometries}
    confused = Confusion.zero(comparison.category_ids)
    keep.per_image(comparison.images.rows("instance"))
    for gt, pred in comparison.chunks():
        truth = gt.take(~gt.is_void)
        dets = pred.take(np.isin(pred.category_id, things)) if things_only else pred
        for geometry in geometries:
            if geometry == "bbox" and comparison.corrected:
                truth, dets = mending.by_box(truth), mending.by_box(dets)
            matched = instance.match(truth, dets, geometry, comparison.corrected)
            typed = tide.match(truth, dets, geometry, comparison.corrected)
            counts = instance.tally(truth, dets, matched)
            tallies[geometry].add(counts)
            tides[geometry].add(tide.tally(truth, dets, typed))
            keep.detections(per_image.detection_rows(counts, geometry, comparison.images))
            if geometry == geometries[0]:
                confused += confusion.of_instances(truth, dets, typed, comparison.category_ids)
                keep.matches(matches.instance_rows(truth, dets, matched, typed))
                keep.per_image(per_image.instance_rows(truth, dets, matched, comparison.images))
    order = ranks_of_ids(comparison.image_ids)
    curves = {  # each tally goes as soon as it is put together
        geometry: average_precision.accumulate(tallies.pop(geometry).record(), comparison.category_ids, order)
        for geometry in geometries
    }
    costs = {
        geometry: tide_ap.dap(tides.pop(geometry).record(), comparison.file_order, comparison.corrected)
        for geometry in geometries
    }
    return InstanceScores(curves, costs, confused)


def count_instances(comparison: Comparison, geometry: Geometry) -> InstanceResult:
    """AP of one geometry alone: the numbers of `score_instances` without reasons and rows for later."""
    tallies: Gathered[InstanceTally] = Gathered(comparison.most_rows)
    for gt, pred in comparison.chunks():
        truth = gt.take(~gt.is_void)
        if geometry == "bbox" and comparison.corrected:
            truth, pred = mending.by_box(truth), mending.by_box(pred)
        tallies.add(instance.tally(truth, pred, instance.match(truth, pred, geometry, comparison.corrected)))
    order = ranks_of_ids(comparison.image_ids)
    return average_precision.accumulate(tallies.record(), comparison.category_ids, order)


def ranks_of_ids(image_ids: Sequence[str]) -> NDArray[np.int64]:
    """Each image's position among ascending ids, as numbers where all are: pycocotools' order of images."""
    numeric = all(image_id.isdecimal() for image_id in image_ids)
    keys = [int(image_id) for image_id in image_ids] if numeric else list(image_ids)
    ranks = np.empty(len(keys), dtype=np.int64)
    ranks[sorted(range(len(keys)), key=keys.__getitem__)] = np.arange(len(keys))
    return ranks
