"""IoU of detections with the ground truth of their image and category, bit for bit as pycocotools computes it.

Compiled code merges the runs of two masks; where numba cannot be imported, pycocotools itself is asked.
"""

import platform
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Literal

import numpy as np
import pycocotools.mask as coco_mask
from numpy.typing import NDArray

from workbench.evaluation.boundary import outlines
from workbench.evaluation.columns import Segments

Geometry = Literal["segm", "bbox", "boundary"]
GEOMETRIES: tuple[Geometry, ...] = ("segm", "bbox")
"""What is scored unless asked for more."""
_Shapes = list[dict[str, object]] | NDArray[np.float64]  # RLEs, or boxes of shape (n, 4)

_COMPILED_ALIKE = platform.machine().lower() in ("x86_64", "amd64")
"""Elsewhere C compilers may fuse a multiplication with an addition, so that a box's IoU differs in the last bit."""


@dataclass(frozen=True)
class Groups:
    """The detections and the ground truth of each image and category that has both, as spans of sorted rows."""

    det_rows: NDArray[np.int64]
    """(D,), rows of the predictions; detections outside all spans are allowed; so `gt_rows` (G,)."""
    gt_rows: NDArray[np.int64]
    dets: NDArray[np.int64]
    """(groups, 2), begin and end in `det_rows`, ascending; so `gts` in `gt_rows`."""
    gts: NDArray[np.int64]

    def pairs(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Positions in `det_rows` and in `gt_rows` of all pairs of a group, one detection's after another's."""
        sizes = self.dets[:, 1] - self.dets[:, 0]
        dets = np.repeat(self.dets[:, 0], sizes) + _places(sizes)
        begins, lengths = (np.repeat(each, sizes) for each in (self.gts[:, 0], self.gts[:, 1] - self.gts[:, 0]))
        return np.repeat(dets, lengths), np.repeat(begins, lengths) + _places(lengths)


def _places(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """0, 1, ... for each length, one after another."""
    return np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)


def ious_of(gt: Segments, pred: Segments, groups: Groups, geometry: Geometry) -> NDArray[np.float64]:
    """IoU of every detection of a group with all ground truth of the group, in the order of `Groups.pairs`.

    An image must have the same size on both sides (see `agreement.check_sizes`).
    """
    if geometry == "bbox":
        return _box_ious(gt, pred, groups)
    ious = _mask_ious(gt, pred, groups)
    if geometry == "boundary":
        edges = _mask_ious(outlines(gt), outlines(pred), groups)
        on_crowd = gt.iscrowd[groups.gt_rows[groups.pairs()[1]]]
        return np.where(on_crowd, ious, np.minimum(ious, edges))
    return ious


def _mask_ious(gt: Segments, pred: Segments, groups: Groups) -> NDArray[np.float64]:
    kernels = compiled_kernels()
    if kernels is None:
        return _ask_pycocotools(gt.take(groups.gt_rows).rles(), pred.take(groups.det_rows).rles(), gt, groups)
    ious: NDArray[np.float64] = kernels.mask_ious(
        *pred.characters(),
        groups.det_rows,
        groups.dets,
        *gt.characters(),
        groups.gt_rows,
        groups.gts,
        gt.iscrowd[groups.gt_rows],
    )
    return ious


def _box_ious(gt: Segments, pred: Segments, groups: Groups) -> NDArray[np.float64]:
    kernels = compiled_kernels() if _COMPILED_ALIKE else None
    gt_boxes, det_boxes = gt.bbox[groups.gt_rows], pred.bbox[groups.det_rows]
    iscrowd = gt.iscrowd[groups.gt_rows]
    if kernels is None:
        return _ask_pycocotools(gt_boxes, det_boxes, gt, groups)
    ious: NDArray[np.float64] = kernels.box_ious(det_boxes, groups.dets, gt_boxes, groups.gts, iscrowd)
    return ious


def _ask_pycocotools(gts: _Shapes, dets: _Shapes, gt: Segments, groups: Groups) -> NDArray[np.float64]:
    iscrowd = gt.iscrowd[groups.gt_rows].tolist()
    found = [
        coco_mask.iou(dets[begin:end], gts[gt_begin:gt_end], iscrowd[gt_begin:gt_end]).ravel()
        for (begin, end), (gt_begin, gt_end) in zip(groups.dets.tolist(), groups.gts.tolist(), strict=True)
    ]
    return np.concatenate([np.zeros(0), *found])


@cache
def compiled_kernels() -> ModuleType | None:
    """`instance_kernels.py`, or None without numba. On first use only: numba takes half a second to import."""
    try:
        from workbench.evaluation import instance_kernels
    except ImportError:
        return None
    return instance_kernels
