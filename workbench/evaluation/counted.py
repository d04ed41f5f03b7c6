"""Stored counts of images that give the headline numbers of any weighting of the images: PQ and mIoU.

A weighting says how often each image counts. Ones give what `evaluate` gave, to the bit; a resample's draws give what
it would give on that resample. AP's is in `counted_instances.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from workbench.evaluation.headlines import counted_names
from workbench.evaluation.panoptic import PanopticResult
from workbench.evaluation.per_image import NO_CATEGORY

Values = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Headline numbers (B, names) and every category's main number (B, K) of B weightings; NaN for what does not exist."""


class Counted(Protocol):
    """The counts behind one metric."""

    @property
    def names(self) -> tuple[str, ...]:
        """The headline numbers that it gives, see `headlines.py`."""

    @property
    def image_ids(self) -> tuple[str, ...]:
        """(I,), the images that a weighting weighs."""

    @property
    def category_ids(self) -> NDArray[np.int32]:
        """(K,), ascending."""

    def values(self, weights: NDArray[np.int32]) -> Values:
        """The numbers of each weighting, (B, I)."""


@dataclass(frozen=True)
class CountedPanoptic:
    """True and false positives, misses and IoUs of every image and class, as sparse matrices (K, I)."""

    names: tuple[str, ...]
    image_ids: tuple[str, ...]
    category_ids: NDArray[np.int32]
    isthing: NDArray[np.bool_]
    tp: csr_matrix
    fp: csr_matrix
    fn: csr_matrix
    iou: csr_matrix
    """An entry for each match and not for each image, so that sums round as panopticapi's do."""

    @classmethod
    def of(
        cls,
        rows: pa.Table,
        task: str,
        image_ids: Sequence[str],
        category_ids: NDArray[np.int32],
        isthing: NDArray[np.bool_],
    ) -> "CountedPanoptic":
        """From the rows of `task` (plain or boundary) in `per_image.parquet`, for the images named."""
        rows, image, category = _located(rows, image_ids, category_ids)
        matches = pc.list_value_length(rows["ious"]).to_numpy()
        shape = (len(category_ids), len(image_ids))
        ious = pc.list_flatten(rows["ious"]).to_numpy()
        counts = [sparse(rows[name].to_numpy(), category, image, shape) for name in ("tp", "fp", "fn")]
        counts.append(sparse(ious, np.repeat(category, matches), np.repeat(image, matches), shape))
        return cls(counted_names(task), tuple(image_ids), category_ids, isthing, *counts)

    def values(self, weights: NDArray[np.int32]) -> Values:
        """PQ, SQ and RQ of all, things and stuff; PQ of every class."""
        counts = [weighted(matrix, weights) for matrix in (self.tp, self.fp, self.fn, self.iou)]
        headline, per_category = np.empty((len(weights), len(self.names))), np.empty((len(weights), len(self.isthing)))
        for row, (tp, fp, fn, iou) in enumerate(zip(*counts, strict=True)):
            result = PanopticResult(
                self.category_ids, self.isthing, tp.astype(np.int64), fp.astype(np.int64), fn.astype(np.int64), iou
            )
            means = [result.mean(isthing) for isthing in (None, True, False)]
            headline[row] = [_or_nan(value) for mean in means for value in (mean.pq, mean.sq, mean.rq)]
            per_category[row] = result.qualities()[0]
        return headline, per_category


@dataclass(frozen=True)
class CountedSemantic:
    """Pixels of every image and class, as sparse matrices (K, I)."""

    names: tuple[str, ...]
    image_ids: tuple[str, ...]
    category_ids: NDArray[np.int32]
    intersection: csr_matrix
    gt: csr_matrix
    pred: csr_matrix

    @classmethod
    def of(cls, rows: pa.Table, image_ids: Sequence[str], category_ids: NDArray[np.int32]) -> "CountedSemantic":
        """From the semantic rows of `per_image.parquet`, for the images named."""
        rows, image, category = _located(rows, image_ids, category_ids)
        shape = (len(category_ids), len(image_ids))
        matrices = [
            sparse(rows[name].to_numpy(), category, image, shape)
            for name in ("intersection", "gt_pixels", "pred_pixels")
        ]
        return cls(counted_names("semantic"), tuple(image_ids), category_ids, *matrices)

    def values(self, weights: NDArray[np.int32]) -> Values:
        """The means of `semantic.SemanticResult`; IoU of every class."""
        intersection, gt, pred = (weighted(matrix, weights) for matrix in (self.intersection, self.gt, self.pred))
        union = gt + pred - intersection
        iou = np.divide(intersection, union, out=np.full(union.shape, np.nan), where=union > 0)
        accuracy = np.divide(intersection, gt, out=np.full(gt.shape, np.nan), where=gt > 0)
        headline = np.full((len(weights), len(self.names)), np.nan)
        for row in np.flatnonzero(gt.any(axis=1)).tolist():
            in_gt = gt[row] > 0
            headline[row] = (
                iou[row][union[row] > 0].mean(),
                intersection[row].sum() / gt[row].sum(),
                accuracy[row][in_gt].mean(),
                np.nan_to_num(iou[row]).mean(),
                iou[row][in_gt].mean(),
            )
        return headline, iou


def image_ids_of(rows: pa.Table) -> tuple[str, ...]:
    """The images of one task's rows, in the order of the annotation file."""
    images = rows.filter(pc.equal(rows["category_id"], NO_CATEGORY)).sort_by("ordinal")
    return tuple(images["image_id"].to_pylist())


def sparse(
    values: NDArray[np.generic], row: NDArray[np.int64], column: NDArray[np.int64], shape: tuple[int, int]
) -> csr_matrix:
    """A matrix with those entries, several of one place left apart, each row's in the order given."""
    order = np.argsort(row, kind="stable")
    starts = np.searchsorted(row[order], np.arange(shape[0] + 1))
    return csr_matrix((values[order].astype(np.float64), column[order], starts), shape=shape)


def weighted(matrix: csr_matrix, weights: NDArray[np.int32]) -> NDArray[np.float64]:
    """Each row's sum over the images as often as they count: (K, I) and (B, I) -> (B, K). Adds in the rows' order."""
    return np.ascontiguousarray((matrix @ np.ascontiguousarray(weights.T, dtype=np.float64)).T)


def _located(
    rows: pa.Table, image_ids: Sequence[str], category_ids: NDArray[np.int32]
) -> tuple[pa.Table, NDArray[np.int64], NDArray[np.int64]]:
    """The rows of those images' categories by image, and each one's position among images and categories."""
    position = pc.index_in(rows["image_id"], value_set=pa.array(image_ids, pa.string()))
    wanted = pc.and_(pc.is_valid(position), pc.not_equal(rows["category_id"], NO_CATEGORY))
    rows, image = rows.filter(wanted), position.filter(wanted).to_numpy().astype(np.int64)
    order = np.argsort(image, kind="stable")
    rows = rows.take(order)
    return rows, image[order], np.searchsorted(category_ids, rows["category_id"].to_numpy())


def _or_nan(value: float | None) -> float:
    return np.nan if value is None or not isfinite(value) else value  # metrics.json has null for an infinite IoU, too
