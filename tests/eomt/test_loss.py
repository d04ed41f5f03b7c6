"""The loss equals transformers' to 1e-5, gradients too, and its matcher survives what training throws at it."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import EomtConfig as TransformersConfig
from transformers.models.eomt.modeling_eomt import EomtLoss as TransformersLoss

from eomt.configuration import EomtConfig
from eomt.loss import EomtLoss, total_loss

SETTINGS: dict[str, Any] = {
    "num_labels": 5,
    "no_object_weight": 0.1,
    "class_weight": 2.0,
    "mask_weight": 5.0,
    "dice_weight": 5.0,
    "train_num_points": 112,
    "oversample_ratio": 3.0,
    "importance_sample_ratio": 0.75,
}


def loss_config(**changes: Any) -> EomtConfig:
    """The documented defaults, with few points and five classes unless told otherwise."""
    return EomtConfig(**(SETTINGS | changes))


def random_batch(
    seed: int, counts: list[int], queries: int = 7, layers: int = 1, size: tuple[int, int] = (8, 12)
) -> tuple[list[tuple[Tensor, Tensor]], list[Tensor], list[Tensor]]:
    """Predictions of `layers` layers at a quarter of the masks' size, and rectangles as targets."""
    rng = torch.Generator().manual_seed(seed)
    height, width = size
    predictions = [
        (
            (4 * torch.randn(len(counts), queries, height, width, generator=rng)).requires_grad_(),
            torch.randn(len(counts), queries, 6, generator=rng).requires_grad_(),
        )
        for _ in range(layers)
    ]
    mask_labels = []
    for count in counts:
        masks = torch.zeros(count, 4 * height, 4 * width)
        for mask in masks:
            top, left = (int(torch.randint(limit * 3, (1,), generator=rng)) for limit in size)
            mask[top : top + 2 * height, left : left + 2 * width] = 1
        mask_labels.append(masks)
    class_labels = [torch.randint(5, (count,), generator=rng) for count in counts]
    return predictions, mask_labels, class_labels


def transformers_losses(
    config: EomtConfig,
    predictions: list[tuple[Tensor, Tensor]],
    mask_labels: list[Tensor],
    class_labels: list[Tensor],
) -> list[dict[str, Tensor]]:
    """Weighted parts of each prediction, as transformers' EomtForUniversalSegmentation weighs and orders them."""
    weights = {
        "loss_mask": config.mask_weight,
        "loss_dice": config.dice_weight,
        "loss_cross_entropy": config.class_weight,
    }
    criterion = TransformersLoss(TransformersConfig(**{name: getattr(config, name) for name in SETTINGS}), weights)
    parts = [criterion(masks, classes, mask_labels, class_labels) for masks, classes in predictions]
    return [{name: weights[name] * value for name, value in part.items()} for part in parts]


BATCHES = [[1], [3, 2], [0, 4, 1], [7, 7], [9, 1], [0, 0], [12, 0, 3]]


@pytest.mark.parametrize("counts", BATCHES, ids=str)
@pytest.mark.parametrize("seed", range(6))
def test_every_part_and_gradient_equals_transformers(counts: list[int], seed: int) -> None:
    config = loss_config()
    predictions, mask_labels, class_labels = random_batch(seed, counts, layers=3)
    leaves = list(itertools.chain.from_iterable(predictions))

    torch.manual_seed(seed)
    expected = transformers_losses(config, predictions, mask_labels, class_labels)
    torch.manual_seed(seed)
    losses = EomtLoss(config)(predictions, mask_labels, class_labels)

    for layer, part in enumerate(expected):
        suffix = "" if layer == 2 else f"_{layer}"
        for name, value in part.items():
            torch.testing.assert_close(losses[name + suffix], value, rtol=1e-5, atol=1e-5)
    assert len(losses) == 9
    expected_gradients = torch.autograd.grad(sum(sum(part.values()) for part in expected), leaves)
    gradients = torch.autograd.grad(total_loss(losses), leaves)
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, expected_gradient, rtol=1e-5, atol=1e-5)
