"""PQ at every threshold and overlap threshold, from a run's candidates: equal to that of runs made with them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from workbench.evaluation import agreement, panoptic, per_image
from workbench.evaluation.bootstrap import sample
from workbench.evaluation.columns import Segments, join, segments_of
from workbench.evaluation.comparison import Comparison
from workbench.evaluation.counted import CountedPanoptic
from workbench.evaluation.headlines import MEANS, QUALITIES
from workbench.evaluation.panoptic import PanopticResult, PanopticTally
from workbench.evaluation.partitions import IMAGES_PER_CHUNK
from workbench.evaluation.resampling import Bootstrap
from workbench.store import SegmentStore
from workbench.sweeping.contests import Candidates, candidates_of, contests
from workbench.sweeping.curve import Setting
from workbench.sweeping.merging import as_segments, merge, overlaps_of


@dataclass(frozen=True)
class PanopticCurve:
    """The matches of each point; see `curve.Curve`."""

    comparison: Comparison
    settings: tuple[Setting, ...]
    tallies: tuple[PanopticTally, ...]

    @property
    def main(self) -> str:
        """Panoptic quality, all classes."""
        return "pq"

    @property
    def images(self) -> int:
        """How many were scored."""
        return len(self.comparison.image_ids)

    def value(self, point: int, images: NDArray[np.bool_] | None = None) -> float | None:
        """PQ of a point."""
        counts = self.tallies[point]
        return self._result(counts if images is None else _of_images(counts, images)).mean().pq

    def joined(self, points: Sequence[int], images: Sequence[NDArray[np.bool_]]) -> float | None:
        """PQ where each part of the images has the setting of its own point."""
        parts = [_of_images(self.tallies[point], part) for point, part in zip(points, images, strict=True)]
        return self._result(join(parts)).mean().pq

    def samples(self, points: Sequence[int], bootstrap: Bootstrap) -> list[NDArray[np.float64]]:
        """PQ of each resample."""
        return [headline[:, 0] for headline, _ in sample([self._counted(point) for point in points], bootstrap)]

    def numbers(self, point: int) -> Mapping[str, float | int | None]:
        """PQ, SQ and RQ of all, things and stuff, and the counts behind them."""
        result = self._result(self.tallies[point])
        found: dict[str, float | int | None] = {}
        for suffix, isthing in zip(MEANS.values(), (None, True, False), strict=True):
            mean = result.mean(isthing)
            found |= {f"{quality}{suffix}": getattr(mean, quality) for quality in QUALITIES}
        return {**found, **{name: int(getattr(result, name).sum()) for name in ("tp", "fp", "fn")}}

    def category_rows(self, point: int) -> pa.Table:
        """PQ, SQ, RQ and counts of each category that occurs."""
        result = self._result(self.tallies[point])
        numbers = dict(zip(QUALITIES, result.qualities(), strict=True))
        names = [category.name for category in self.comparison.categories]
        columns = {"category_id": result.category_ids, "name": names, "isthing": result.isthing, **numbers}
        return pa.table(columns | {name: getattr(result, name) for name in ("tp", "fp", "fn")}).filter(result.occurs)

    def _result(self, counts: PanopticTally) -> PanopticResult:
        compared = self.comparison
        return panoptic.result(counts, compared.category_ids, compared.isthing, compared.file_order)

    def _counted(self, point: int) -> CountedPanoptic:
        compared = self.comparison
        rows = per_image.panoptic_rows(self.tallies[point], compared.images)
        ids = [compared.image_ids[image] for image in np.argsort(compared.file_order)]
        return CountedPanoptic.of(rows, "panoptic", ids, compared.category_ids, compared.isthing)


def sweep_panoptic(
    comparison: Comparison, store: SegmentStore, thresholds: Sequence[float], overlaps: Sequence[float]
) -> PanopticCurve:
    """Score every pair of a threshold and an overlap threshold. `store` holds the run's candidates.

    Raises EvaluationError where candidates and ground truth do not belong together.
    """
    settings = tuple(Setting(*pair) for pair in product(thresholds, overlaps))
    tallies: list[list[PanopticTally]] = [[] for _ in settings]
    starts = range(0, len(comparison.image_ids), IMAGES_PER_CHUNK)
    chunks = [comparison.image_ids[start : start + IMAGES_PER_CHUNK] for start in starts]
    tables = zip(comparison.ground_truth.chunks(chunks), store.chunks(chunks), strict=True)
    for start, ids, (gt_table, table) in zip(starts, chunks, tables, strict=True):
        gt, candidates = segments_of(gt_table, ids, start), candidates_of(table, ids, start)
        agreement.check_categories(comparison.run, comparison.categories, candidates.rows)
        agreement.check_sizes(gt, candidates.rows)
        found = _tallies(gt, candidates, thresholds, overlaps)
        for counts, each in zip(tallies, found, strict=True):
            counts.append(each)
        comparison.progress(len(ids))
    return PanopticCurve(comparison, settings, tuple(join(counts) for counts in tallies))


def _tallies(
    gt: Segments, candidates: Candidates, thresholds: Sequence[float], overlaps: Sequence[float]
) -> list[PanopticTally]:
    """The matches of some images at each pair of thresholds."""
    found = []
    for contest in contests(candidates, gt, thresholds):
        for overlap in overlaps:
            merged = merge(candidates, contest, overlap)
            pred = as_segments(candidates, contest, merged)
            found.append(panoptic.tally(gt, pred, panoptic.match(gt, pred, overlaps_of(contest, merged))))
    return found


def _of_images(counts: PanopticTally, images: NDArray[np.bool_]) -> PanopticTally:
    tp, fp, fn = images[counts.tp_image], images[counts.fp_image], images[counts.fn_image]
    return PanopticTally(
        counts.tp_image[tp],
        counts.tp_category[tp],
        counts.tp_iou[tp],
        counts.fp_image[fp],
        counts.fp_category[fp],
        counts.fn_image[fn],
        counts.fn_category[fn],
    )
