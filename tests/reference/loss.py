"""The loss's sampling, costs and matching as plain loops in double precision: slow, and easy to believe."""

import itertools
import math

import torch
import torch.distributed
from torch import Tensor

from eomt.configuration import EomtConfig
from eomt.loss import EomtLoss


def bilinear(image: Tensor, x: float, y: float) -> float:
    """The value of an image (h, w) at a point given in 0..1; pixels outside the image are zero."""
    height, width = image.shape
    column, row = x * width - 0.5, y * height - 0.5
    left, top = math.floor(column), math.floor(row)
    value = 0.0
    for i, j in itertools.product((top, top + 1), (left, left + 1)):
        if 0 <= i < height and 0 <= j < width:
            value += image[i, j].item() * (1 - abs(row - i)) * (1 - abs(column - j))
    return value


def pair_cost(
    logits: Tensor, class_logits: Tensor, mask: Tensor, label: int, points: Tensor, config: EomtConfig
) -> float:
    """What it costs to give one query (h, w), (K+1,) one target (H, W) and class, at points (P, 2)."""
    cross_entropy = overlap = predicted = wanted = 0.0
    for x, y in points.tolist():
        logit, target = bilinear(logits, x, y), bilinear(mask, x, y)
        probability = 1 / (1 + math.exp(-logit))
        cross_entropy -= target * math.log(probability) + (1 - target) * math.log(1 - probability)
        overlap += probability * target
        predicted += probability
        wanted += target
    dice = 1 - (2 * overlap + 1) / (predicted + wanted + 1)
    class_probability = class_logits.double().softmax(0)[label].item()
    return (
        config.mask_weight * cross_entropy / len(points)
        + config.dice_weight * dice
        - config.class_weight * class_probability
    )


def cheapest_pairs(costs: list[list[float]]) -> list[tuple[int, int]]:
    """(query, target) pairs, by query, of the assignment with the least (pairs that are not finite, sum of the rest).

    `costs` has a row for each query; every assignment of min(rows, columns) pairs is tried.
    """
    queries, targets = len(costs), len(costs[0])
    few, many = min(queries, targets), max(queries, targets)
    choices = [list(zip(chosen, range(few), strict=True)) for chosen in itertools.permutations(range(many), few)]
    if queries < targets:
        choices = [[(query, target) for target, query in pairs] for pairs in choices]

    def price(pairs: list[tuple[int, int]]) -> tuple[int, float]:
        prices = [costs[query][target] for query, target in pairs]
        finite = [value for value in prices if math.isfinite(value)]
        return len(prices) - len(finite), sum(finite)

    return sorted(min(choices, key=price))


def mask_loss_in_process(rank: int, store: str, results: dict[int, float]) -> None:
    """One of two processes that train together: process r has 1 + 4r targets, all masks empty, all logits zero."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    count = 1 + 4 * rank
    prediction = (torch.zeros(1, 6, 4, 4), torch.zeros(1, 6, 3))
    criterion = EomtLoss(EomtConfig(num_labels=2, train_num_points=16))
    losses = criterion([prediction], [torch.zeros(count, 8, 8)], [torch.zeros(count, dtype=torch.int64)])
    results[rank] = losses["loss_mask"].item()
    torch.distributed.destroy_process_group()
