"""What post-processing gives: a map of segments, or masks of ranked candidates."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

VOID = -1
"""The value of pixels that belong to no segment."""


@dataclass(frozen=True)
class SegmentMap:
    """The segments of one image, none overlapping another."""

    segment_map: Tensor
    """(H, W) int32, on the outputs' device unless it was asked for on the host: an index into the two arrays below; -1
    is void."""
    class_index: NDArray[np.int64]
    """(n,), 0..K-1."""
    scores: NDArray[np.float32]
    """(n,), 0..1."""


@dataclass(frozen=True)
class InstanceMasks:
    """The best candidates of one image, which may overlap and share a mask, best first."""

    masks: Tensor
    """(m, H, W) bool, on the outputs' device unless they were asked for on the host: each mask once, however many
    candidates use it; none is empty."""
    mask_index: NDArray[np.int64]
    """(n,): the mask of each candidate, 0..m-1."""
    class_index: NDArray[np.int64]
    """(n,), 0..K-1."""
    scores: NDArray[np.float32]
    """(n,), descending."""


def ranked(
    filled_masks: Tensor,
    mask_scores: NDArray[np.float32],
    mask_index: NDArray[np.int64],
    class_index: NDArray[np.int64],
    class_scores: NDArray[np.float32],
) -> InstanceMasks:
    """Candidates in the order of their final scores, class score x mask score, those with an empty mask left out.

    mask_scores (m,) are 0 for an empty mask; `filled_masks` holds the others in their order. `mask_index` (n,) is
    0..m-1.
    """
    filled = mask_scores > 0
    scores = class_scores * mask_scores[mask_index]
    order = np.argsort(-scores, kind="stable")
    order = order[filled[mask_index[order]]]
    new_index = (np.cumsum(filled) - 1)[mask_index[order]]
    return InstanceMasks(filled_masks, new_index, class_index[order], scores[order])
