"""Walking through ground truth and predictions in chunks: one pass for each ground truth that a run is scored on.

What grows with the number of images is only what the tallies keep: some bytes a segment.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from workbench.evaluation import agreement, average_precision, instance, matches, panoptic, per_image, semantic
from workbench.evaluation.average_precision import InstanceResult
from workbench.evaluation.columns import Segments, join, segments_of
from workbench.evaluation.instance import Geometry
from workbench.evaluation.overlaps import intersect
from workbench.evaluation.panoptic import PanopticResult
from workbench.evaluation.per_image import Images
from workbench.evaluation.semantic import SemanticResult
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

    @property
    def category_ids(self) -> NDArray[np.int32]:
        """(K,)."""
        return np.array([category.category_id for category in self.categories], dtype=np.int32)

    @property
    def isthing(self) -> NDArray[np.bool_]:
        """(K,)."""
        return np.array([category.isthing for category in self.categories], dtype=np.bool_)

    @cached_property
    def images(self) -> Images:
        """What rows about an image say of it."""
        return Images.of(self.image_ids, self.file_order)

    def chunks(self) -> Iterator[tuple[Segments, Segments]]:
        """Ground truth and predictions (void rows left out) of some images at a time, checked against each other.

        Raises EvaluationError for categories that the dataset lacks and for sizes that differ.
        """
        starts = range(0, len(self.image_ids), IMAGES_PER_CHUNK)
        chunks = [self.image_ids[start : start + IMAGES_PER_CHUNK] for start in starts]
        tables = zip(self.ground_truth.chunks(chunks), self.run.store.chunks(chunks), strict=True)
        for start, ids, (gt_table, pred_table) in zip(starts, chunks, tables, strict=True):
            gt, pred = segments_of(gt_table, ids, start), segments_of(pred_table, ids, start)
            pred = pred.take(~pred.is_void)
            agreement.check_categories(self.run, self.categories, pred)
            agreement.check_sizes(gt, pred)
            yield gt, pred
            self.progress(len(ids))


def score_panoptic(
    comparison: Comparison, keep: Keeping, semantic_too: bool
) -> tuple[PanopticResult, SemanticResult | None]:
    """PQ and, unless the dataset has ground truth of its own for it, mIoU of the segments merged by category."""
    tallies, classes = [], SemanticResult.zero(comparison.category_ids)
    for task in ("panoptic", "semantic") if semantic_too else ("panoptic",):
        keep.per_image(comparison.images.rows(task))
    for gt, pred in comparison.chunks():
        agreement.check_disjoint(pred)
        overlaps = intersect(gt, pred)
        matched = panoptic.match(gt, pred, overlaps)
        tallies.append(panoptic.tally(gt, pred, matched))
        keep.matches(matches.panoptic_rows(gt, pred, matched))
        keep.per_image(per_image.panoptic_rows(tallies[-1], comparison.images))
        if semantic_too:
            classes += semantic.count(gt, pred, overlaps, comparison.category_ids)
            keep.per_image(per_image.semantic_rows(gt, pred, overlaps, comparison.images))
    result = panoptic.result(join(tallies), comparison.category_ids, comparison.isthing, comparison.file_order)
    return result, classes if semantic_too else None


def score_semantic(comparison: Comparison, keep: Keeping, matched: bool) -> SemanticResult:
    """mIoU. The match table gets a row a class and image where the run's segments are such rows (`matched`)."""
    classes = SemanticResult.zero(comparison.category_ids)
    keep.per_image(comparison.images.rows("semantic"))
    for gt, pred in comparison.chunks():
        agreement.check_disjoint(pred)
        overlaps = intersect(gt, pred)
        classes += semantic.count(gt, pred, overlaps, comparison.category_ids)
        keep.per_image(per_image.semantic_rows(gt, pred, overlaps, comparison.images))
        if matched:
            keep.matches(matches.semantic_rows(gt, pred, overlaps))
    return classes


def score_instances(
    comparison: Comparison, keep: Keeping, geometries: Sequence[Geometry], things_only: bool
) -> dict[Geometry, InstanceResult]:
    """AP for each geometry; the match table follows the first. `things_only` leaves stuff of a panoptic run out."""
    things = comparison.category_ids[comparison.isthing]
    tallies: dict[Geometry, list[instance.InstanceTally]] = {geometry: [] for geometry in geometries}
    keep.per_image(comparison.images.rows("instance"))
    for gt, pred in comparison.chunks():
        truth = gt.take(~gt.is_void)
        dets = pred.take(np.isin(pred.category_id, things)) if things_only else pred
        for geometry in geometries:
            matched = instance.match(truth, dets, geometry)
            tallies[geometry].append(instance.tally(truth, dets, matched))
            keep.detections(per_image.detection_rows(tallies[geometry][-1], geometry, comparison.images))
            if geometry == geometries[0]:
                keep.matches(matches.instance_rows(truth, dets, matched))
                keep.per_image(per_image.instance_rows(truth, dets, matched, comparison.images))
    order = ranks_of_ids(comparison.image_ids)
    return {
        geometry: average_precision.accumulate(join(parts), comparison.category_ids, order)
        for geometry, parts in tallies.items()
    }


def ranks_of_ids(image_ids: Sequence[str]) -> NDArray[np.int64]:
    """Each image's position among ascending ids, as numbers where all are: pycocotools' order of images."""
    numeric = all(image_id.isdecimal() for image_id in image_ids)
    keys = [int(image_id) for image_id in image_ids] if numeric else list(image_ids)
    ranks = np.empty(len(keys), dtype=np.int64)
    ranks[sorted(range(len(keys)), key=keys.__getitem__)] = np.arange(len(keys))
    return ranks
