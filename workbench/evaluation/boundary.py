"""Boundary IoU: segments compared by their outlines, as the official boundary tools do.

The outline of a segment is what an erosion takes from it: pixels within d of the outside, in rows or columns, where d
is 2 % of the image's diagonal and the image's border counts as outside. PQ and AP then use the smaller of mask IoU and
outline IoU; crowds and void are judged by masks alone.
Source: Cheng et al. 2021, Boundary IoU; bowenc0221/boundary-iou-api, utils/boundary_utils.py (mask_to_boundary),
coco_panoptic_api/evaluation.py, coco_instance_api/cocoeval.py (computeBoundaryIoU).
"""

from dataclasses import replace
from functools import cache
from types import ModuleType

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from workbench import rle
from workbench.evaluation.columns import Segments
from workbench.evaluation.overlaps import compiled_kernels, intersect
from workbench.evaluation.panoptic import PairIou

DILATION_RATIO = 0.02
"""Of the image's diagonal: the official tools' value for COCO and for LVIS."""


def distance(height: NDArray[np.int32], width: NDArray[np.int32], ratio: float = DILATION_RATIO) -> NDArray[np.int32]:
    """How deep outlines are in images of those sizes, in pixels, at least 1."""
    diagonal = np.sqrt(height.astype(np.int64) ** 2 + width.astype(np.int64) ** 2)
    return np.asarray(np.maximum(np.rint(ratio * diagonal), 1), dtype=np.int32)


def outline(mask: NDArray[np.bool_], d: int) -> NDArray[np.bool_]:
    """The pixels of one mask, (height, width), within d of the outside: mask without its erosion by a square."""
    padded = np.pad(mask, d)
    sums = np.pad(padded.cumsum(axis=0, dtype=np.int32).cumsum(axis=1, dtype=np.int32), ((1, 0), (1, 0)))
    side = 2 * d + 1
    inside = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    return np.asarray(mask & (inside < side * side))


def outlines(segments: Segments, ratio: float = DILATION_RATIO) -> Segments:
    """The segments with their outlines for masks, and the outlines' pixels for areas; void rows stay as they are."""
    distances = np.where(segments.is_void, -1, distance(segments.height, segments.width, ratio)).astype(np.int32)
    kernels, decoder = _kernels(), compiled_kernels()
    if kernels is None or decoder is None:
        counts, area = _outlines_with_numpy(segments, distances)
    else:
        runs = decoder.decode_runs(*segments.characters())
        ends, offsets = kernels.outline_runs(*runs, segments.height, distances)
        counts, area = _binary(*kernels.encode_runs(ends, offsets)), _areas(ends, offsets)
    return replace(segments, counts=counts, area=area)


def pair_iou(gt: Segments, pred: Segments, ratio: float = DILATION_RATIO) -> PairIou:
    """IoU of outlines, predicted outline on void left out of the union: what caps the mask IoU in boundary PQ.

    `gt` has its void rows. Pairs whose outlines share no pixel have 0.
    """
    gt_outlines, pred_outlines = outlines(gt, ratio), outlines(pred, ratio)
    shared = intersect(gt_outlines, pred_outlines)
    on_void = np.zeros(len(pred), dtype=np.int64)
    is_void = gt.is_void[shared.first]
    np.add.at(on_void, shared.second[is_void], shared.pixels[is_void])
    keys = shared.first * max(len(pred), 1) + shared.second  # ascending

    def iou(gt_rows: NDArray[np.int64], pred_rows: NDArray[np.int64]) -> NDArray[np.float64]:
        wanted = gt_rows * max(len(pred), 1) + pred_rows
        place = np.minimum(np.searchsorted(keys, wanted), max(len(keys) - 1, 0))
        found = keys[place] == wanted if len(keys) else np.zeros(len(wanted), np.bool_)
        pixels = np.where(found, shared.pixels[place], 0) if len(keys) else np.zeros(len(wanted), np.int64)
        union = gt_outlines.area[gt_rows] + pred_outlines.area[pred_rows] - pixels - on_void[pred_rows]
        return np.asarray(pixels / union)  # > 0: a segment with pixels has an outline, and no ground truth lies on void

    return iou


def _outlines_with_numpy(
    segments: Segments, distances: NDArray[np.int32]
) -> tuple[pa.LargeBinaryArray, NDArray[np.int64]]:
    counts, areas = [], []
    rows = zip(
        segments.counts.to_pylist(), segments.height.tolist(), segments.width.tolist(), distances.tolist(), strict=True
    )
    for compressed, height, width, d in rows:
        mask = rle.decode(compressed, height, width)
        if d >= 0 and mask.any():
            rows_in, columns_in = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            part = np.s_[rows_in[0] : rows_in[-1] + 1, columns_in[0] : columns_in[-1] + 1]  # outside it nothing is mask
            mask[part] = outline(mask[part], d)
            compressed = rle.encode(mask)
        counts.append(compressed)
        areas.append(int(mask.sum()))
    return pa.array(counts, pa.large_binary()), np.array(areas, dtype=np.int64)


def _binary(characters: NDArray[np.uint8], starts: NDArray[np.int64]) -> pa.LargeBinaryArray:
    buffers = [None, pa.py_buffer(starts), pa.py_buffer(characters)]
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(starts) - 1, buffers)


def _areas(ends: NDArray[np.int32], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Pixels of ones in each mask: ends at odd places less those before them."""
    position = np.arange(len(ends)) - np.repeat(offsets[:-1], np.diff(offsets))
    signed = np.zeros(len(ends) + 1, dtype=np.int64)
    ones = np.flatnonzero(position % 2 == 1)
    signed[ones + 1] = ends[ones].astype(np.int64) - ends[ones - 1]
    sums = np.cumsum(signed)
    return np.asarray(sums[offsets[1:]] - sums[offsets[:-1]], dtype=np.int64)


@cache
def _kernels() -> ModuleType | None:
    """The compiled loops, or None where numba cannot be imported. On first use only: numba takes half a second."""
    try:
        from workbench.evaluation import boundary_kernels
    except ImportError:
        return None
    return boundary_kernels
