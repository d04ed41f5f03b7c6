"""The panoptic segmentation of an image for every threshold at once: candidates, and who would win each pixel.

A pixel goes to the query with the largest score x mask probability among those that score above the threshold. So with
candidates in the order of falling scores, a threshold keeps the first so many of them, and each needs two masks only:
its own, and the pixels that it takes from all before it. Painting the second kind of the first n, in order, gives the
winner of every pixel among those n, exactly, without a logit. `post_processing.panoptic_segments` is the same for one
threshold.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eomt.frames import Frame, SegmentationOutputs, TargetSizes, frames, logits_of
from eomt.resizing import Size


@dataclass(frozen=True)
class MaskRuns:
    """Masks of one image of shape (height, width), run by run down the columns, as COCO counts them."""

    lengths: NDArray[np.int64]
    """Pixels of the runs of all masks, zeros and ones in turn; each mask's begin with zeros, and sum to the image."""
    offsets: NDArray[np.int64]
    """(n + 1,): mask i has `lengths[offsets[i]:offsets[i + 1]]`."""


@dataclass(frozen=True)
class PanopticCandidates:
    """The queries of one image that some threshold may keep, by falling score, of equal scores the first first."""

    size_hw: tuple[int, int]
    query: NDArray[np.int64]
    """(n,), its number in the outputs: segments come in this order, and the first of equals wins a pixel."""
    class_index: NDArray[np.int64]
    """(n,), 0..K-1."""
    scores: NDArray[np.float32]
    """(n,), 0..1, falling."""
    masks: MaskRuns
    """n masks: where the mask probability is at least the mask threshold."""
    gains: MaskRuns
    """n masks: the pixels that the candidate wins against all before it. The first has every pixel."""


def panoptic_candidates(
    outputs: SegmentationOutputs,
    target_sizes: TargetSizes,
    size: Size,
    *,
    floor: float = 0.05,
    mask_threshold: float = 0.5,
) -> list[PanopticCandidates]:
    """The candidates of each image: queries whose best class is an object and scores above `floor`, on the host.

    They suffice for `panoptic_segments` at every `threshold` from `floor` on and every overlap threshold, with this
    `mask_threshold`. `target_sizes`, `size` and errors are as there; comparisons are too.
    """
    mask_logits, class_logits = logits_of(outputs)
    image_frames = frames(target_sizes, size, len(mask_logits))
    scores, classes = class_logits.float().softmax(-1).max(-1)  # (B, Q)
    confident = (classes.ne(class_logits.shape[-1] - 1) & (scores > floor)).cpu().numpy()
    host_scores, host_classes = scores.cpu().numpy(), classes.cpu().numpy()
    found = []
    for i, frame in enumerate(image_frames):
        query = np.flatnonzero(confident[i])
        query = query[np.argsort(-host_scores[i][query], kind="stable")]
        chosen = torch.from_numpy(query).to(mask_logits.device)
        masks, gains = _contest(mask_logits[i, chosen], scores[i, chosen], chosen, frame, mask_threshold)
        found.append(
            PanopticCandidates(frame.target, query, host_classes[i][query], host_scores[i][query], masks, gains)
        )
    return found


def _contest(
    mask_logits: Tensor, scores: Tensor, query: Tensor, frame: Frame, mask_threshold: float
) -> tuple[MaskRuns, MaskRuns]:
    """The masks and the gains of n queries in the order of falling scores: mask_logits (n, h, w), scores (n,)."""
    best = torch.full(frame.target, -1.0, device=mask_logits.device)
    holder = torch.zeros(frame.target, dtype=torch.int64, device=mask_logits.device)
    masks, gains = [], []
    for part in frame.chunks(len(scores)):
        probabilities = frame.upsample(mask_logits[part]).sigmoid_()
        inside = probabilities >= mask_threshold
        values = probabilities.mul_(scores[part, None, None])
        taken = torch.empty_like(inside)
        for value, number, mine in zip(values, query[part], taken, strict=True):
            torch.gt(value, best, out=mine)
            mine |= (value == best) & (holder > number)
            torch.maximum(best, value, out=best)
            holder.masked_fill_(mine, number)
        masks.append(_changes(inside))
        gains.append(_changes(taken))
    pixels = frame.target[0] * frame.target[1]
    return _runs(masks, pixels), _runs(gains, pixels)


def _changes(masks: Tensor) -> list[NDArray[np.int64]]:
    """For each of (n, H, W) bool, where its value changes down the columns; before the first pixel it is False."""
    flat = masks.transpose(1, 2).flatten(1)  # (n, W*H)
    changed = flat.clone()
    changed[:, 1:] = flat[:, 1:] != flat[:, :-1]
    rows, positions = changed.nonzero(as_tuple=True)
    ends = torch.bincount(rows, minlength=len(masks)).cumsum(0)
    return np.split(positions.cpu().numpy(), ends[:-1].cpu().numpy())


def _runs(changes: list[list[NDArray[np.int64]]], pixels: int) -> MaskRuns:
    runs = [np.diff(each, prepend=0, append=pixels) for part in changes for each in part]
    offsets = np.cumsum([0, *(len(each) for each in runs)])
    return MaskRuns(np.concatenate([np.zeros(0, np.int64), *runs]), offsets)
