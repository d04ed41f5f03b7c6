"""The panoptic segmentation of one image from its candidates, as the documents tell it: masks painted one by one."""

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from eomt.candidates import MaskRuns, PanopticCandidates


def masks_of(runs: MaskRuns, size_hw: tuple[int, int]) -> list[NDArray[np.bool_]]:
    """Each mask, bool of shape (height, width)."""
    masks = []
    for begin, end in zip(runs.offsets[:-1], runs.offsets[1:], strict=True):
        values = [run % 2 == 1 for run in range(end - begin)]
        masks.append(np.repeat(values, runs.lengths[begin:end]).reshape(size_hw[::-1]).T)
    return masks


def segmentation(
    found: PanopticCandidates, threshold: float, overlap_threshold: float, stuff_classes: Collection[int]
) -> tuple[NDArray[np.int64], list[int], list[np.float32]]:
    """The map (-1 is void), and class and score of each segment."""
    masks, gains = masks_of(found.masks, found.size_hw), masks_of(found.gains, found.size_hw)
    kept = [row for row in range(len(found.query)) if found.scores[row] > np.float32(threshold)]
    winner = np.full(found.size_hw, -1)
    for row in kept:
        winner[gains[row]] = row
    result = np.full(found.size_hw, -1)
    classes: list[int] = []
    scores: list[np.float32] = []
    for row in sorted(kept, key=lambda row: found.query[row]):
        won, mask = winner == row, masks[row]
        if not (won & mask).any():
            continue
        if float(np.float32(won.sum()) / np.float32(mask.sum())) <= overlap_threshold:
            continue
        label = int(found.class_index[row])
        if label not in stuff_classes or label not in classes:
            classes.append(label)
            scores.append(found.scores[row])
            segment = len(classes) - 1
        else:
            segment = classes.index(label)
        result[won & mask] = segment
    return result, classes, scores
