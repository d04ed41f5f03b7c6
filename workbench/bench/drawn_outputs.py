"""Model outputs drawn from a seed, of the shapes and about the certainty of a trained EoMT's, for post-processing."""

import torch
from torch import Tensor
from torch.nn import functional

from eomt.outputs import EomtForUniversalSegmentationOutput

_SHARPNESS = 60.0  # logits per image side of distance to a border: a border is some four grid cells wide
_LIMIT = 8.0  # of a confident query's logits


def drawn_outputs(
    seed: int, rows: int, queries: int, classes: int, grid: int, confident: int
) -> EomtForUniversalSegmentationOutput:
    """Masks (rows, queries, grid, grid) and classes (rows, queries, classes + 1), without crops.

    `confident` queries share out each image in wobbly cells; of the others, which are weaker copies of these with other
    borders, a third half believe in a class and the rest in none.
    """
    generator = torch.Generator().manual_seed(seed)
    class_logits = torch.randn(rows, queries, classes + 1, generator=generator)
    class_logits[..., -1] += 8
    masks = torch.empty(rows, queries, grid, grid)
    for row in range(rows):
        order = torch.randperm(queries, generator=generator)
        sure, others = order[:confident], order[confident:]
        half_sure = others[: len(others) // 3]
        cells = _cells(confident, grid, generator)
        copied = cells[torch.randint(0, confident, (len(others),), generator=generator)]
        masks[row, sure] = cells
        masks[row, others] = 0.8 * copied - 1.5 + _waves(len(others), grid, 20, generator)
        for chosen, belief in ((sure, 16.0), (half_sure, 7.0)):
            labels = torch.randint(0, classes, (len(chosen),), generator=generator)
            class_logits[row, chosen, labels] += belief + torch.rand(len(chosen), generator=generator)
    return EomtForUniversalSegmentationOutput(masks_queries_logits=masks, class_queries_logits=class_logits)


def _cells(count: int, grid: int, generator: torch.Generator) -> Tensor:
    """(count, grid, grid): logits of the cells around random points, positive inside."""
    centres = torch.rand(count, 2, generator=generator)
    line = torch.linspace(0, 1, grid)
    y, x = line[:, None], line[None, :]
    away = ((y - centres[:, 0, None, None]) ** 2 + (x - centres[:, 1, None, None]) ** 2).sqrt()
    away += 0.03 * _waves(count, grid, 12, generator)
    nearest = away.topk(2, dim=0, largest=False).values
    rival = torch.where(away == nearest[0], nearest[1], nearest[0])
    logits = torch.tanh((rival - away) * _SHARPNESS / _LIMIT) * _LIMIT
    return logits + 0.7 * _waves(count, grid, 20, generator)


def _waves(count: int, grid: int, coarse: int, generator: torch.Generator) -> Tensor:
    """(count, grid, grid): smooth noise of about unit size."""
    noise = torch.randn(1, count, coarse, coarse, generator=generator)
    return functional.interpolate(noise, size=(grid, grid), mode="bicubic", align_corners=False)[0]
