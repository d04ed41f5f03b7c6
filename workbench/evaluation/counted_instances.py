"""Stored detections that give AP of any weighting of the images, the arrays of `average_precision` to the bit."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from types import ModuleType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from workbench.evaluation import ap_resampling
from workbench.evaluation.average_precision import RECALL_THRESHOLDS, SUMMARY
from workbench.evaluation.counted import Values, sparse, weighted
from workbench.evaluation.headlines import counted_names
from workbench.evaluation.instance import AREA_RANGES, IOU_THRESHOLDS, MAX_DETECTIONS
from workbench.evaluation.per_image import NO_CATEGORY

_BYTES_OF_CURVES = 16 << 20  # about a processor's cache: larger blocks are slower
_RANGES, _LEVELS, _LIMITS = len(AREA_RANGES), len(IOU_THRESHOLDS), len(MAX_DETECTIONS)


@dataclass(frozen=True)
class CountedInstances:
    """Every detection that counts, by category and falling score, and how much ground truth each image has."""

    names: tuple[str, ...]
    image_ids: tuple[str, ...]
    category_ids: NDArray[np.int32]
    gt: csr_matrix = field(repr=False)
    """(K * A, I)."""
    detections: tuple[NDArray[np.generic], ...] = field(repr=False)
    """`bounds` to `fp` of `ap_resampling.resample_curves`."""

    @classmethod
    def of(
        cls,
        rows: pa.Table,
        detections: pa.Table,
        geometry: str,
        image_ids: Sequence[str],
        category_ids: NDArray[np.int32],
        order: NDArray[np.int64],
    ) -> "CountedInstances":
        """From the instance rows of `per_image.parquet` and one geometry's of `detections.parquet`.

        `order[image]` decides between detections of equal score, see `image_ids.ranks_of_ids`.
        """
        names = counted_names("instance", geometry)
        gt = _ground_truth(rows, image_ids, category_ids)
        return cls(names, tuple(image_ids), category_ids, gt, _columns(detections, image_ids, category_ids, order))

    def values(self, weights: NDArray[np.int32]) -> Values:
        """COCO's 12 numbers; AP of every category."""
        classes = len(self.category_ids)
        shapes = tuple((_RANGES, classes, *shape) for shape in ((_LEVELS, len(RECALL_THRESHOLDS)), (_LIMITS, _LEVELS)))
        block = max(1, _BYTES_OF_CURVES // (8 * sum(int(np.prod(shape)) for shape in shapes)))
        headline, per_category = np.empty((len(weights), len(self.names))), np.full((len(weights), classes), np.nan)
        curves = [np.empty((min(block, len(weights)), *shape)) for shape in shapes]
        for start in range(0, len(weights), block):
            some = np.ascontiguousarray(weights[start : start + block])
            gt = weighted(self.gt, some).astype(np.int64).reshape(len(some), classes, _RANGES)
            precision, recall = (array[: len(some)] for array in curves)
            loops = _kernels() or ap_resampling
            limits = np.array(MAX_DETECTIONS, dtype=np.int64)
            loops.resample_curves(some, gt, *self.detections, RECALL_THRESHOLDS, limits, precision, recall)
            for row in range(len(some)):
                headline[start + row] = _summary(precision[row], recall[row], gt[row])
                has_gt = gt[row, :, 0] > 0
                per_category[start + row, has_gt] = precision[row, 0, has_gt].mean(axis=(1, 2))
        return headline, per_category


def _summary(precision: NDArray[np.float64], recall: NDArray[np.float64], gt: NDArray[np.int64]) -> list[float]:
    """COCO's 12 numbers of one weighting: precision (A, K, T, R), recall (A, K, M, T), gt (K, A)."""
    numbers = []
    for array, iou, area, limit in SUMMARY.values():
        a = list(AREA_RANGES).index(area)
        values = precision[a] if array == "precision" else recall[a, :, MAX_DETECTIONS.index(limit)]
        kept = values[gt[:, a] > 0]  # (K, T, ...)
        if iou is not None:
            kept = kept[:, iou == IOU_THRESHOLDS]
        kept = np.moveaxis(kept, 0, -1).ravel()  # (T, ..., K): the order in which pycocotools adds them
        numbers.append(float(kept.mean()) if len(kept) else np.nan)
    return numbers


def _ground_truth(rows: pa.Table, image_ids: Sequence[str], category_ids: NDArray[np.int32]) -> csr_matrix:
    rows = rows.filter(pc.not_equal(rows["category_id"], NO_CATEGORY))
    rows, image = _of_images(rows, image_ids)
    category = np.searchsorted(category_ids, rows["category_id"].to_numpy())
    cell = (category[:, None] * _RANGES + np.arange(_RANGES)).ravel()
    counts = pc.list_flatten(rows["gt_by_area"]).to_numpy()
    return sparse(counts, cell, np.repeat(image, _RANGES), (len(category_ids) * _RANGES, len(image_ids)))


def _columns(
    detections: pa.Table, image_ids: Sequence[str], category_ids: NDArray[np.int32], order: NDArray[np.int64]
) -> tuple[NDArray[np.generic], ...]:
    detections, image = _of_images(detections, image_ids)
    category = np.searchsorted(category_ids, detections["category_id"].to_numpy())
    rank, score = detections["rank"].to_numpy(), detections["score"].to_numpy()
    sequence = np.lexsort((rank, order[image], -score, category))
    bounds = np.searchsorted(category[sequence], np.arange(len(category_ids) + 1))
    tp, fp = (_unpack(detections[name])[:, sequence] for name in ("tp", "fp"))
    never = ~(tp.any(axis=2) | fp.any(axis=2))
    kind = np.where(never, ap_resampling.IGNORED, np.where(fp.all(axis=2), ap_resampling.FALSE, ap_resampling.VARIES))
    return (
        bounds.astype(np.int64),
        image[sequence].astype(np.int32),
        rank[sequence],
        np.ascontiguousarray(kind, dtype=np.uint8),
        np.ascontiguousarray(tp),
        np.ascontiguousarray(fp),
    )


def _of_images(rows: pa.Table, image_ids: Sequence[str]) -> tuple[pa.Table, NDArray[np.int64]]:
    """The rows of those images, and the position of each one's image."""
    position = pc.index_in(rows["image_id"], value_set=pa.array(image_ids, pa.string()))
    known = pc.is_valid(position)
    return rows.filter(known), position.filter(known).to_numpy().astype(np.int64)


def _unpack(column: pa.ChunkedArray) -> NDArray[np.bool_]:
    """(D,) of packed bits -> (A, D, T)."""
    packed = np.frombuffer(b"".join(column.to_pylist()), dtype=np.uint8).reshape(len(column), column.type.byte_width)
    bits = np.unpackbits(packed, axis=1, count=_RANGES * _LEVELS).astype(np.bool_)
    return bits.reshape(len(packed), _RANGES, _LEVELS).transpose(1, 0, 2)


@cache
def _kernels() -> ModuleType | None:
    """The compiled loop, or None where numba cannot be imported. On first use only: numba takes half a second."""
    try:
        from workbench.evaluation import bootstrap_kernels
    except ImportError:
        return None
    return bootstrap_kernels
