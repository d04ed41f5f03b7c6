"""Outlines and boundary PQ the slow way: erosion pixel by pixel, the official tool's rules as loops over pairs."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tests.reference.scenes import Listed, PanopticImage

RATIO = 0.02


def depth(height: int, width: int, ratio: float = RATIO) -> int:
    return max(1, round(float(ratio * np.sqrt(height**2 + width**2))))


def outline_by_erosions(mask: NDArray[np.bool_], d: int) -> NDArray[np.bool_]:
    """d erosions with 3 x 3 ones; outside the image is zero."""
    eroded = mask
    for _ in range(d):
        padded = np.pad(eroded, 1)
        eroded = np.array(
            [
                [padded[row : row + 3, column : column + 3].all() for column in range(mask.shape[1])]
                for row in range(mask.shape[0])
            ],
            dtype=np.bool_,
        ).reshape(mask.shape)
    return mask & ~eroded


Counts = dict[int, list[float]]
"""Category -> [tp, fp, fn, sum of IoU]."""


def boundary_pq_counts(
    gt: Sequence[PanopticImage], pred: Sequence[PanopticImage], categories: Sequence[int], ratio: float = RATIO
) -> Counts:
    counts: Counts = {category: [0, 0, 0, 0.0] for category in categories}
    for truth, guess in zip(gt, pred, strict=True):
        _count_image(truth, guess, counts, ratio)
    return counts


def _count_image(truth: PanopticImage, guess: PanopticImage, counts: Counts, ratio: float) -> None:
    d = depth(*truth.label_map.shape, ratio)
    void = truth.label_map == 0
    masks = [{entry.id: image.label_map == entry.id for entry in image.listed} for image in (truth, guess)]
    edges = [{key: outline_by_erosions(mask, d) for key, mask in side.items()} for side in masks]
    found: set[int] = set()
    used: set[int] = set()
    for t in sorted(truth.listed, key=lambda entry: entry.id):
        for p in sorted(guess.listed, key=lambda entry: entry.id):
            if t.iscrowd or t.category_id != p.category_id or not (masks[0][t.id] & masks[1][p.id]).any():
                continue
            claimed = int(masks[0][t.id].sum()) if t.area is None else t.area
            iou = min(
                _iou(masks[0][t.id], masks[1][p.id], void, claimed),
                _iou(edges[0][t.id], edges[1][p.id], void, int(edges[0][t.id].sum())),
            )
            if iou > 0.5:
                counts[t.category_id][0] += 1
                counts[t.category_id][3] += iou
                found.add(t.id)
                used.add(p.id)
    _count_unmatched(truth, guess, masks[0], masks[1], counts, found, used)


def _iou(a: NDArray[np.bool_], b: NDArray[np.bool_], void: NDArray[np.bool_], area: int) -> float:
    shared = int((a & b).sum())
    union = int(b.sum()) + area - shared - int((b & void).sum())
    return shared / union if union else np.inf


def _count_unmatched(
    truth: PanopticImage,
    guess: PanopticImage,
    gt_masks: dict[int, NDArray[np.bool_]],
    pred_masks: dict[int, NDArray[np.bool_]],
    counts: Counts,
    found: set[int],
    used: set[int],
) -> None:
    crowds: dict[int, Listed] = {}
    for t in truth.listed:
        if t.iscrowd:
            crowds[t.category_id] = t
        elif t.id not in found:
            counts[t.category_id][2] += 1
    for p in guess.listed:
        if p.id in used:
            continue
        harmless = truth.label_map == 0
        if p.category_id in crowds:
            harmless = harmless | gt_masks[crowds[p.category_id].id]
        mask = pred_masks[p.id]
        if (mask & harmless).sum() / mask.sum() <= 0.5:
            counts[p.category_id][1] += 1
