"""The passes of an evaluation: what is counted of a few images, and what all of them together give.

Each pass is a function of a chunk, which any process can call, and a loop that puts its parts together in order.
What grows with the number of images is only what the tallies keep: some bytes a segment.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

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
from workbench.evaluation.average_precision import InstanceResult
from workbench.evaluation.columns import Gathered
from workbench.evaluation.comparison import Comparison as Comparison
from workbench.evaluation.confusion import Confusion
from workbench.evaluation.image_ids import ranks_of_ids
from workbench.evaluation.instance import Geometry, InstanceTally
from workbench.evaluation.panoptic import PanopticResult, PanopticTally
from workbench.evaluation.partitions import Chunk
from workbench.evaluation.semantic import SemanticResult
from workbench.evaluation.tide import TideTally
from workbench.evaluation.tide_ap import TideResult

Keep = Callable[[pa.Table], None]
"""Takes rows as they come."""
_NO_MATCHES = matches.MATCH_SCHEMA.empty_table()


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


@dataclass(frozen=True)
class _PanopticPart:
    """What some images add to `PanopticScores`, and the rows that they leave."""

    counts: PanopticTally
    classes: SemanticResult | None
    confusion: Confusion
    matches: pa.Table
    per_image: pa.Table


@dataclass(frozen=True)
class _SemanticPart:
    """What some images add to mIoU, and the rows that they leave."""

    classes: SemanticResult
    matches: pa.Table
    per_image: pa.Table


@dataclass(frozen=True)
class _InstancePart:
    """What some images add to `InstanceScores`, and the rows that they leave."""

    counts: dict[Geometry, InstanceTally]
    tides: dict[Geometry, TideTally]
    confusion: Confusion
    matches: pa.Table
    per_image: pa.Table
    detections: pa.Table


def score_panoptic(comparison: Comparison, keep: Keeping, semantic_too: bool) -> PanopticScores:
    """PQ, and mIoU where asked for."""
    category_ids = comparison.category_ids
    tallies: Gathered[PanopticTally] = Gathered(comparison.most_rows)
    classes, confused = SemanticResult.zero(category_ids), Confusion.zero(category_ids)
    count = partial(
        _count_panoptic, category_ids=category_ids, semantic_too=semantic_too, corrected=comparison.corrected
    )
    for part in comparison.parts(count):
        tallies.add(part.counts)
        confused += part.confusion
        classes += part.classes or SemanticResult.zero(category_ids)
        keep.matches(part.matches)
        keep.per_image(part.per_image)
    result = panoptic.result(tallies.record(), category_ids, comparison.isthing, comparison.file_order)
    return PanopticScores(result, classes if semantic_too else None, confused)


def _count_panoptic(
    chunk: Chunk, category_ids: NDArray[np.int32], semantic_too: bool, corrected: bool
) -> _PanopticPart:
    gt, pred, images = chunk.gt, chunk.pred, chunk.images
    overlaps = agreement.intersect_with_map(gt, pred)
    matched = panoptic.match(gt, pred, overlaps, corrected)
    typed = errors.map_errors(gt, pred, overlaps, matched)
    counts = panoptic.tally(gt, pred, matched)
    rows = [images.rows("panoptic"), per_image.panoptic_rows(counts, images)]
    if semantic_too:
        rows += [images.rows("semantic"), per_image.semantic_rows(gt, pred, overlaps, images)]
    return _PanopticPart(
        counts=counts,
        classes=semantic.count(gt, pred, overlaps, category_ids) if semantic_too else None,
        confusion=confusion.of_map(gt, pred, typed, category_ids),
        matches=matches.panoptic_rows(gt, pred, matched, typed),
        per_image=pa.concat_tables(rows),
    )


def count_panoptic(comparison: Comparison) -> tuple[PanopticResult, SemanticResult]:
    """PQ and the confusion of classes alone: the numbers of `score_panoptic` without reasons and rows for later."""
    tallies: Gathered[PanopticTally] = Gathered(comparison.most_rows)
    classes = SemanticResult.zero(comparison.category_ids)
    for gt, pred in comparison.chunks():
        overlaps = agreement.intersect_with_map(gt, pred)
        tallies.add(panoptic.tally(gt, pred, panoptic.match(gt, pred, overlaps, comparison.corrected)))
        classes += semantic.count(gt, pred, overlaps, comparison.category_ids)
    counts = tallies.record()
    return panoptic.result(counts, comparison.category_ids, comparison.isthing, comparison.file_order), classes


def score_semantic(comparison: Comparison, keep: Keeping, matched: bool) -> SemanticResult:
    """mIoU. The match table gets a row a class and image where the run's segments are such rows (`matched`)."""
    classes = SemanticResult.zero(comparison.category_ids)
    for part in comparison.parts(partial(_count_semantic, category_ids=comparison.category_ids, matched=matched)):
        classes += part.classes
        keep.matches(part.matches)
        keep.per_image(part.per_image)
    return classes


def _count_semantic(chunk: Chunk, category_ids: NDArray[np.int32], matched: bool) -> _SemanticPart:
    gt, pred, images = chunk.gt, chunk.pred, chunk.images
    overlaps, rows = agreement.intersect_with_map(gt, pred), _NO_MATCHES
    if matched:
        typed = errors.map_errors(gt, pred, overlaps, panoptic.match(mending.counted(gt), pred, overlaps))
        rows = matches.semantic_rows(gt, pred, overlaps, typed)
    return _SemanticPart(
        classes=semantic.count(gt, pred, overlaps, category_ids),
        matches=rows,
        per_image=pa.concat_tables([images.rows("semantic"), per_image.semantic_rows(gt, pred, overlaps, images)]),
    )


def score_instances(
    comparison: Comparison, keep: Keeping, geometries: Sequence[Geometry], things_only: bool
) -> InstanceScores:
    """AP for each geometry; the match table follows the first. `things_only` leaves stuff of a panoptic run out."""
    tallies: dict[Geometry, Gathered[InstanceTally]] = {name: Gathered(comparison.most_rows) for name in geometries}
    tides: dict[Geometry, Gathered[TideTally]] = {name: Gathered(comparison.most_rows) for name in geometries}
    confused = Confusion.zero(comparison.category_ids)
    count = partial(
        _count_instances,
        category_ids=comparison.category_ids,
        things=comparison.category_ids[comparison.isthing] if things_only else None,
        geometries=tuple(geometries),
        corrected=comparison.corrected,
    )
    for part in comparison.parts(count):
        for geometry in geometries:
            tallies[geometry].add(part.counts[geometry])
            tides[geometry].add(part.tides[geometry])
        confused += part.confusion
        keep.matches(part.matches)
        keep.per_image(part.per_image)
        keep.detections(part.detections)
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


def _count_instances(
    chunk: Chunk,
    category_ids: NDArray[np.int32],
    things: NDArray[np.int32] | None,
    geometries: tuple[Geometry, ...],
    corrected: bool,
) -> _InstancePart:
    images, truth, dets = chunk.images, chunk.gt.take(~chunk.gt.is_void), chunk.pred
    if things is not None:
        dets = dets.take(np.isin(dets.category_id, things))
    counts, tides, detections, of_first = {}, {}, [], None
    for geometry in geometries:
        if geometry == "bbox" and corrected:
            truth, dets = mending.by_box(truth), mending.by_box(dets)
        matched = instance.match(truth, dets, geometry, corrected)
        typed = tide.match(truth, dets, geometry, corrected)
        counts[geometry] = instance.tally(truth, dets, matched)
        tides[geometry] = tide.tally(truth, dets, typed)
        detections.append(per_image.detection_rows(counts[geometry], geometry, images))
        of_first = of_first or (truth, dets, matched, typed)
    assert of_first is not None
    truth, dets, matched, typed = of_first
    return _InstancePart(
        counts=counts,
        tides=tides,
        confusion=confusion.of_instances(truth, dets, typed, category_ids),
        matches=matches.instance_rows(truth, dets, matched, typed),
        per_image=pa.concat_tables([images.rows("instance"), per_image.instance_rows(truth, dets, matched, images)]),
        detections=pa.concat_tables(detections),
    )


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
