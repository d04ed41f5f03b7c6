"""TIDE: why detections are false and ground truth is missed, and how much AP each kind of error costs.

Equal to tidecv 1.0.1 (`tidecv/quantify.py`, `ap.py`; Bolya et al. 2020) at its IoU limits 0.5 and 0.1. A detection is

- `matched`: a true positive;
- `loc`: of the right category, IoU from 0.1 to 0.5;
- `cls`: IoU of 0.5 or more with ground truth of another category;
- `dupe`: IoU of 0.5 or more with ground truth of its category that a better detection matches;
- `bkg`: IoU of at most 0.1 with everything;
- `both`: none of these, so of a wrong category and badly located;
- `ignored`: more than half of it on a crowd of its category, or not among the image's best 100.

Ground truth is `matched`, `crowd`, `miss`, or `loc` or `cls` like the best detection that would have found it without
that error. Matching is tidecv's, which differs from pycocotools': of equal IoUs the first counts, not the last.
"""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from workbench.evaluation import tide_matching
from workbench.evaluation.columns import Segments
from workbench.evaluation.instance import Geometry
from workbench.evaluation.overlaps import compiled_kernels, intersect
from workbench.evaluation.tide_matching import CLS, LOC, MATCHED

INSTANCE_TYPES = ("matched", "cls", "loc", "both", "dupe", "bkg", "miss", "ignored", "crowd")
"""A code is a position in this list; the first six are those of `tide_matching`."""
MISS, IGNORED, CROWD = range(6, 9)
MAX_DETECTIONS = 100


@dataclass(frozen=True)
class TideMatches:
    """What became of some images' detections and ground truth. Codes index `INSTANCE_TYPES`."""

    det_rows: NDArray[np.int64]
    """(D,), the detections that count: of each image the best 100, by falling score."""
    rank: NDArray[np.int64]
    """(D,), position in the image."""
    kind: NDArray[np.int8]
    """(D,), the type that tidecv gives, which types what it ignores as well."""
    about: NDArray[np.int64]
    """(D,), the row of ground truth that the type is about; -1 for none."""
    found: NDArray[np.int64]
    """(D,), the row of ground truth that is matched when categories do not matter, -1 for none."""
    ignored: NDArray[np.bool_]
    """(D,), more than half on a crowd of the category."""
    repaired: NDArray[np.bool_]
    """(D,), whether the detection would be right without its error, and the best of those for that ground truth."""
    gt_kind: NDArray[np.int8]
    """(G,), of every row of ground truth; so `gt_about`, rows of predictions."""
    gt_about: NDArray[np.int64]

    def pred_codes(self, predictions: int) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
        """(P,) type and row of ground truth, of every row of predictions."""
        code, about = np.full(predictions, IGNORED, np.int8), np.full(predictions, -1, np.int64)
        counts = ~self.ignored
        code[self.det_rows[counts]], about[self.det_rows[counts]] = self.kind[counts], self.about[counts]
        return code, about


def match(gt: Segments, pred: Segments, geometry: Geometry, corrected: bool = False) -> TideMatches:
    """Type some images' detections and ground truth; neither side has void rows.

    tidecv lets a detection on a crowd stand for the ground truth that it would have found; `corrected` does not, and
    ignores ground truth that has no area.
    """
    det_rows, rank = _best_detections(pred)
    findable = ~gt.iscrowd & ((gt.declared_area > 0) | (not corrected))
    pairs = _Pairs.of(gt, pred, det_rows, geometry)
    on_crowd = pairs.on_crowd(gt, len(det_rows))
    pairs = pairs.take(findable[pairs.gt])
    begins = np.searchsorted(pairs.det, np.arange(len(det_rows) + 1))
    kernel = (compiled_kernels() or tide_matching).type_detections
    kind, about = kernel(begins, pairs.gt, pairs.iou, pairs.same_category, len(gt))
    any_kind, found = kernel(begins, pairs.gt, pairs.iou, np.ones_like(pairs.same_category), len(gt))

    ignored = (kind != MATCHED) & on_crowd
    hopeful = ((kind == LOC) | (kind == CLS)) & ~(ignored & corrected)
    hopeful &= ~np.isin(about, about[kind == MATCHED])
    candidates = np.flatnonzero(hopeful)
    _, best = np.unique(about[candidates], return_index=True)  # by falling score, so the first is the best
    repaired = np.zeros(len(det_rows), dtype=np.bool_)
    repaired[candidates[best]] = True

    gt_kind = np.where(findable, MISS, np.where(gt.iscrowd, CROWD, IGNORED)).astype(np.int8)
    gt_about = np.full(len(gt), -1, np.int64)
    telling = repaired | (kind == MATCHED)
    gt_kind[about[telling]], gt_about[about[telling]] = kind[telling], det_rows[telling]
    found = np.where(any_kind == MATCHED, found, -1)
    return TideMatches(det_rows, rank, kind.astype(np.int8), about, found, ignored, repaired, gt_kind, gt_about)


def _best_detections(pred: Segments) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows by image, then by falling score, then as in the file, at most 100 an image; and the rank in the image."""
    order = np.lexsort((pred.ordinal, -pred.score, pred.image))
    image = pred.image[order]
    rank = np.arange(len(order)) - np.searchsorted(image, image, "left")
    counts = rank < MAX_DETECTIONS
    return order[counts], rank[counts]


@dataclass(frozen=True)
class _Pairs:
    """Detections and ground truth that share something, by detection, then as the ground truth's file; all (pairs,)."""

    gt: NDArray[np.int64]
    det: NDArray[np.int64]
    shared: NDArray[np.float64]
    gt_area: NDArray[np.float64]
    det_area: NDArray[np.float64]
    same_category: NDArray[np.bool_]

    @classmethod
    def of(cls, gt: Segments, pred: Segments, det_rows: NDArray[np.int64], geometry: Geometry) -> "_Pairs":
        """Of the predictions `det_rows` alone, whose positions there are the pairs' `det`."""
        counts = np.zeros(len(pred), dtype=np.bool_)
        counts[det_rows] = True
        dets, position = pred.take(counts), np.argsort(det_rows)  # all count, nearly always: then nothing is copied
        if geometry == "bbox":
            gts, found = _same_image(gt, dets)
            shared, gt_area, det_area = _box_overlaps(gt.bbox[gts], dets.bbox[found])
        else:
            overlaps = intersect(gt, dets)
            gts, found, shared = overlaps.first, overlaps.second, overlaps.pixels.astype(np.float64)
            gt_area, det_area = gt.area[gts].astype(np.float64), dets.area[found].astype(np.float64)
        same, det = gt.category_id[gts] == dets.category_id[found], position[found]
        order = np.lexsort((gt.ordinal[gts], det))
        return cls(gts, det, shared, gt_area, det_area, same).take(order[shared[order] > 0])

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> "_Pairs":
        return _Pairs(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    @property
    def iou(self) -> NDArray[np.float64]:
        """Bit for bit as pycocotools computes it."""
        return self.shared / (self.det_area + self.gt_area - self.shared)

    def on_crowd(self, gt: Segments, dets: int) -> NDArray[np.bool_]:
        """Of each of the `dets` detections, whether more than half of it lies on one crowd of its category."""
        lies = gt.iscrowd[self.gt] & self.same_category & (self.shared / self.det_area > tide_matching.POSITIVE_IOU)
        found = np.zeros(dets, dtype=np.bool_)
        found[self.det[lies]] = True
        return found


def _same_image(gt: Segments, dets: Segments) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All (gt, detection) of one image, by detection."""
    begin, end = np.searchsorted(gt.image, dets.image, "left"), np.searchsorted(gt.image, dets.image, "right")
    lengths = end - begin
    within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return np.repeat(begin, lengths) + within, np.repeat(np.arange(len(dets)), lengths)


def _box_overlaps(
    gt: NDArray[np.float64], dets: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Boxes (n, 4) as x, y, w, h -> area that each pair shares, area of the first, area of the second, all (n,)."""
    low, high = np.maximum(gt[:, :2], dets[:, :2]), np.minimum(gt[:, :2] + gt[:, 2:], dets[:, :2] + dets[:, 2:])
    sides = np.maximum(high - low, 0)
    return sides[:, 0] * sides[:, 1], gt[:, 2] * gt[:, 3], dets[:, 2] * dets[:, 3]


@dataclass(frozen=True)
class TideTally:
    """What dAP is counted from: chunks may come in any order, joined with `columns.join`."""

    image: NDArray[np.int32]
    """(D,); so the next six."""
    rank: NDArray[np.uint8]
    category: NDArray[np.int32]
    score: NDArray[np.float64]
    kind: NDArray[np.int8]
    ignored: NDArray[np.bool_]
    repaired_category: NDArray[np.int32]
    """Category that the detection would be a true positive of without its error; -1 where it would be dropped."""
    gt_category: NDArray[np.int32]
    """(G,), ground truth that is neither crowd nor ignored; so `gt_kind`."""
    gt_kind: NDArray[np.int8]


def tally(gt: Segments, pred: Segments, matches: TideMatches) -> TideTally:
    """The types of some images as rows that `tide_ap.dap` puts together."""
    rows, real = matches.det_rows, (matches.gt_kind != CROWD) & (matches.gt_kind != IGNORED)
    repaired_category = np.append(gt.category_id, -1)[np.where(matches.repaired, matches.about, len(gt))]
    return TideTally(
        image=pred.image[rows].astype(np.int32),
        rank=matches.rank.astype(np.uint8),
        category=pred.category_id[rows],
        score=pred.score[rows],
        kind=matches.kind,
        ignored=matches.ignored,
        repaired_category=repaired_category.astype(np.int32),
        gt_category=gt.category_id[real],
        gt_kind=matches.gt_kind[real],
    )
