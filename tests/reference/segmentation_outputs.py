"""Made-up model outputs for tests of post-processing: smooth random masks, and outputs built mask by mask."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def random_outputs(seed: int, rows: int = 2, queries: int = 12, classes: int = 5, grid: int = 16) -> SimpleNamespace:
    """Blobs of every size that overlap, with class scores from certain to undecided; no crops."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(rows, queries, 3, 3, generator=generator)
    masks = functional.interpolate(coarse, size=(grid, grid), mode="bicubic", align_corners=False) * 6
    scores = torch.randn(rows, queries, classes + 1, generator=generator) * 3
    return SimpleNamespace(masks_queries_logits=masks, class_queries_logits=scores, patch_offsets=None)


def outputs_of(masks: Tensor, labels: Sequence[int], scores: Sequence[float], classes: int) -> SimpleNamespace:
    """Outputs of one image: masks (Q, h, w) logits, and for each query the class that gets exactly its score.

    The rest of the probability is spread over the other classes and "no object".
    """
    rows = []
    for label, score in zip(labels, scores, strict=True):
        probabilities = torch.full((classes + 1,), (1 - score) / classes, dtype=torch.float64)
        probabilities[label] = score
        rows.append(probabilities.log())
    class_logits = torch.stack(rows).float()[None]
    return SimpleNamespace(masks_queries_logits=masks[None], class_queries_logits=class_logits, patch_offsets=None)


def rectangles(grid: int, boxes: Sequence[tuple[int, int, int, int]], logit: float = 8.0) -> Tensor:
    """Mask logits (n, grid, grid): `logit` inside each box (top, left, bottom, right), minus that outside."""
    masks = torch.full((len(boxes), grid, grid), -logit)
    for mask, (top, left, bottom, right) in zip(masks, boxes, strict=True):
        mask[top:bottom, left:right] = logit
    return masks


def random_sizes(seed: int, count: int, least: int = 10, most: int = 150) -> list[tuple[int, int]]:
    """(height, width) of images: portrait, landscape and square."""
    generator = torch.Generator().manual_seed(seed)
    pairs: list[Any] = torch.randint(least, most, (count, 2), generator=generator).tolist()
    return [(h, h) if i % 5 == 4 else (h, w) for i, (h, w) in enumerate(pairs)]
