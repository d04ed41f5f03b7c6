"""The loss equals transformers' to 1e-5, gradients too, and its matcher survives what training throws at it."""

import itertools
import math
import multiprocessing
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.multiprocessing
from torch import Tensor
from transformers import EomtConfig as TransformersConfig
from transformers.models.eomt.modeling_eomt import EomtLoss as TransformersLoss

from eomt.configuration import EomtConfig
from eomt.loss import EomtLoss, Targets, assign, match, sample_points, total_loss, uncertain_points
from tests.reference.loss import bilinear, cheapest_pairs, mask_loss_in_process, pair_cost

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


def assert_equals_transformers(
    config: EomtConfig, seed: int, counts: list[int], queries: int = 7, layers: int = 3, size: tuple[int, int] = (8, 12)
) -> None:
    """Each part, and the gradient of their sum, with the same random points."""
    predictions, mask_labels, class_labels = random_batch(seed, counts, queries, layers, size)
    torch.manual_seed(seed)
    expected = transformers_losses(config, predictions, mask_labels, class_labels)
    torch.manual_seed(seed)
    losses = EomtLoss(config)(predictions, mask_labels, class_labels)

    assert len(losses) == 3 * layers
    for layer, parts in enumerate(expected):
        suffix = "" if layer == layers - 1 else f"_{layer}"
        for name, value in parts.items():
            torch.testing.assert_close(losses[name + suffix], value, rtol=1e-5, atol=1e-5)
    leaves = list(itertools.chain.from_iterable(predictions))
    expected_total = torch.stack([value for parts in expected for value in parts.values()]).sum()
    expected_gradients = torch.autograd.grad(expected_total, leaves)
    gradients = torch.autograd.grad(total_loss(losses), leaves)
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, expected_gradient, rtol=1e-5, atol=1e-5)


def find_matches(
    config: EomtConfig, prediction: tuple[Tensor, Tensor], masks: Tensor, classes: Tensor
) -> list[tuple[int, int]]:
    """(query, target) pairs of a batch of one image."""
    found = match(*prediction, Targets(masks, classes, [len(classes)]), config)
    return list(zip(found.query.tolist(), found.target.tolist(), strict=True))


def slow_costs_and_matches(
    config: EomtConfig, prediction: tuple[Tensor, Tensor], masks: Tensor, classes: Tensor
) -> tuple[list[list[float]], list[tuple[int, int]]]:
    """Costs by query and target as the slow version has them, and our matches, both at the same points."""
    mask_logits, class_logits = (logits.detach() for logits in prediction)
    torch.manual_seed(0)
    found = find_matches(config, (mask_logits, class_logits), masks, classes)
    torch.manual_seed(0)
    points = torch.rand(1, config.train_num_points, 2)[0]
    targets = list(zip(masks, classes.tolist(), strict=True))
    costs = [
        [pair_cost(logits, scores, mask, label, points, config) for mask, label in targets]
        for logits, scores in zip(mask_logits[0], class_logits[0], strict=True)
    ]
    torch.manual_seed(0)
    return costs, found


BATCHES = [[1], [3, 2], [0, 4, 1], [7, 7], [9, 1], [0, 0], [12, 0, 3]]


@pytest.mark.parametrize("counts", BATCHES, ids=str)
@pytest.mark.parametrize("seed", range(6))
def test_every_part_and_gradient_equals_transformers(counts: list[int], seed: int) -> None:
    assert_equals_transformers(loss_config(), seed, counts)


@pytest.mark.parametrize("seed", range(40))
def test_any_configuration_equals_transformers(seed: int) -> None:
    draw = random.Random(seed)
    config = loss_config(
        no_object_weight=draw.uniform(0.05, 1),
        class_weight=draw.uniform(0.5, 3),
        mask_weight=draw.uniform(0.5, 6),
        dice_weight=draw.uniform(0.5, 6),
        train_num_points=draw.randint(20, 200),
        oversample_ratio=draw.choice([1.0, 1.5, 3.0]),
        importance_sample_ratio=draw.choice([0.0, 0.3, 0.75, 1.0]),
    )
    counts = [draw.randint(0, 9) for _ in range(draw.randint(1, 5))]
    size = (draw.randint(3, 14), draw.randint(3, 14))
    assert_equals_transformers(config, seed, counts, queries=draw.randint(1, 12), layers=2, size=size)


def test_points_are_sampled_bilinearly_with_zeros_outside() -> None:
    image = torch.randn(1, 1, 3, 5)
    points = torch.cat([torch.rand(20, 2), torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.5, 1.0], [0.1, 0.5]])])
    expected = [bilinear(image[0, 0], x, y) for x, y in points.tolist()]
    torch.testing.assert_close(sample_points(image, points[None]).flatten(), torch.tensor(expected))


@pytest.mark.parametrize("ratio", [0.0, 0.75, 1.0])
def test_uncertain_points_are_the_candidates_nearest_to_a_zero_logit(ratio: float) -> None:
    config = loss_config(train_num_points=16, importance_sample_ratio=ratio)
    maps = torch.randn(2, 1, 6, 6)
    torch.manual_seed(3)
    points = uncertain_points(maps, config)
    torch.manual_seed(3)
    candidates = torch.rand(2, 48, 2)

    assert points.shape == (2, 16, 2)
    for index in range(2):
        nearest = sorted(candidates[index].tolist(), key=lambda point: abs(bilinear(maps[index, 0], *point)))
        assert {tuple(point) for point in points[index, : int(16 * ratio)].tolist()} == {
            tuple(point) for point in nearest[: int(16 * ratio)]
        }


@pytest.mark.parametrize(("queries", "count"), [(5, 3), (4, 4), (3, 5), (1, 1)])
@pytest.mark.parametrize("seed", range(3))
def test_matching_is_the_cheapest_of_all_assignments(queries: int, count: int, seed: int) -> None:
    config = loss_config(train_num_points=24)
    (prediction,), masks, classes = random_batch(seed, [count], queries, size=(4, 6))
    costs, found = slow_costs_and_matches(config, prediction, masks[0], classes[0])
    assert found == cheapest_pairs(costs)


@pytest.mark.parametrize("seed", range(100))
def test_costs_that_are_not_finite_leave_the_rest_of_the_assignment_the_cheapest(seed: int) -> None:
    """Single costs, a row or a column; the largest float32 as their price would get one matrix in fourteen wrong."""
    rng = np.random.default_rng(seed)
    cost = rng.normal(size=rng.integers(1, 6, 2))
    row, column = rng.integers(cost.shape)
    places = [rng.random(cost.shape) < 0.4, (row, slice(None)), (slice(None), column)]
    cost[places[seed % 3]] = rng.choice([np.nan, np.inf, -np.inf])
    rows, columns = assign(cost)
    found, best = cost[rows, columns], np.array([cost[pair] for pair in cheapest_pairs(cost.tolist())])
    assert len(found) == min(cost.shape)
    assert np.isfinite(found).sum() == np.isfinite(best).sum()
    assert found[np.isfinite(found)].sum() == pytest.approx(best[np.isfinite(best)].sum())


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("queries", "count"), [(5, 3), (3, 3), (3, 5)])
def test_query_that_is_not_finite_is_matched_only_where_no_other_is_left(
    queries: int, count: int, value: float
) -> None:
    config = loss_config(train_num_points=24)
    (prediction,), masks, classes = random_batch(1, [count], queries, size=(4, 6))
    costs, _ = slow_costs_and_matches(config, prediction, masks[0], classes[0])
    costs[1] = [math.nan] * count

    with torch.no_grad():
        prediction[0][0, 1] = value
    found = find_matches(config, prediction, masks[0], classes[0])
    finite = [(query, target) for query, target in found if query != 1]
    assert finite == [(query, target) for query, target in cheapest_pairs(costs) if query != 1]
    assert len(found) == min(queries, count)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_predictions_without_a_finite_number_are_matched_all_the_same(value: float) -> None:
    prediction = (torch.full((1, 4, 4, 4), value), torch.full((1, 4, 6), value))
    found = find_matches(loss_config(), prediction, torch.ones(3, 8, 8), torch.tensor([0, 1, 2]))
    assert sorted(target for _, target in found) == [0, 1, 2]


def test_images_without_objects_cost_only_their_class_loss() -> None:
    predictions, masks, classes = random_batch(0, [0, 0])
    losses = EomtLoss(loss_config())(predictions, masks, classes)
    assert losses["loss_mask"].item() == losses["loss_dice"].item() == 0
    assert losses["loss_cross_entropy"].item() > 0
    mask_gradient, class_gradient = torch.autograd.grad(total_loss(losses), predictions[0])
    assert not mask_gradient.any()
    assert class_gradient.any()


def test_labels_made_from_an_empty_list_count_as_no_objects() -> None:
    predictions, masks, _ = random_batch(0, [0])
    losses = EomtLoss(loss_config())(predictions, masks, [torch.tensor([])])
    assert torch.isfinite(total_loss(losses))


def test_zero_logits_give_the_losses_worked_out_by_hand() -> None:
    """BCE is ln 2 at every point; dice against an empty mask 1 - 1 / (112 / 2 + 1); six equal classes ln 6."""
    prediction = (torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 6))
    losses = EomtLoss(loss_config())([prediction], [torch.zeros(1, 8, 8)], [torch.tensor([2])])
    assert losses["loss_mask"].item() == pytest.approx(5 * math.log(2))
    assert losses["loss_dice"].item() == pytest.approx(5 * (1 - 1 / 57))
    assert losses["loss_cross_entropy"].item() == pytest.approx(2 * math.log(6))


def test_queries_without_an_object_weigh_a_tenth() -> None:
    """One query has the object at probability 0.9, one says "no object" at 0.6: (-ln 0.9 - 0.1 ln 0.6) / 1.1."""
    class_logits = torch.tensor([[[0.9, 0.1], [0.4, 0.6]]]).log()
    config = loss_config(num_labels=1, mask_weight=0.0, dice_weight=0.0)
    losses = EomtLoss(config)([(torch.zeros(1, 2, 4, 4), class_logits)], [torch.zeros(1, 8, 8)], [torch.tensor([0])])
    assert losses["loss_cross_entropy"].item() == pytest.approx(2 * (-math.log(0.9) - 0.1 * math.log(0.6)) / 1.1)


def test_order_of_the_targets_does_not_matter() -> None:
    predictions, masks, classes = random_batch(4, [5, 3])
    totals = []
    for order in (slice(None), torch.tensor([2, 0, 1])):
        torch.manual_seed(0)
        shuffled = [mask[order] for mask in masks[1:]], [label[order] for label in classes[1:]]
        totals.append(total_loss(EomtLoss(loss_config())([(predictions[0][0][1:], predictions[0][1][1:])], *shuffled)))
    torch.testing.assert_close(totals[0], totals[1])


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float16])
def test_masks_may_be_of_any_dtype(dtype: torch.dtype) -> None:
    predictions, masks, classes = random_batch(5, [2, 3])
    torch.manual_seed(0)
    expected = total_loss(EomtLoss(loss_config())(predictions, masks, classes))
    torch.manual_seed(0)
    found = total_loss(EomtLoss(loss_config())(predictions, [mask.to(dtype) for mask in masks], classes))
    assert torch.equal(found, expected)


def test_bfloat16_logits_under_autocast_are_scored_in_float32() -> None:
    predictions, masks, classes = random_batch(6, [2, 3])
    low = [(mask.bfloat16(), label.bfloat16()) for mask, label in predictions]
    torch.manual_seed(0)
    expected = total_loss(EomtLoss(loss_config())([(m.float(), c.float()) for m, c in low], masks, classes))
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16):
        found = total_loss(EomtLoss(loss_config()).bfloat16()(low, masks, classes))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=0)  # the no-object weight is rounded to bfloat16


def test_targets_are_averaged_over_the_processes_that_train_together(tmp_path: Path) -> None:
    """One and five targets: both divide by three, so the mask losses are 5 ln 2 times 1/3 and 5/3."""
    with multiprocessing.get_context("spawn").Manager() as manager:
        results = manager.dict()
        torch.multiprocessing.spawn(mask_loss_in_process, (str(tmp_path / "store"), results), nprocs=2)
        found = [results[0], results[1]]
    assert found == pytest.approx([5 * math.log(2) / 3, 25 * math.log(2) / 3])


def test_no_object_weight_is_a_buffer_of_the_published_name() -> None:
    (name, weight), *others = EomtLoss(loss_config(no_object_weight=0.25)).state_dict().items()
    assert name == "empty_weight"
    assert weight.tolist() == [1, 1, 1, 1, 1, 0.25]
    assert not others


def wrong_labels() -> dict[str, tuple[list[Tensor], list[Tensor], str]]:
    masks, classes = torch.zeros(2, 8, 8), torch.tensor([0, 1])
    return {
        "one list is shorter": ([masks, masks], [classes], "2 mask_labels but 1 class_labels"),
        "not one class per mask": (
            [masks, masks],
            [classes, classes[:1]],
            r"image 1 .*\(2, 8, 8\) .*\(1,\) do not pair",
        ),
        "sizes differ": ([masks, masks[:, :4]], [classes] * 2, r"image 1 .*\(4, 8\), but image 0 has \(8, 8\)"),
        "other batch size": ([masks], [classes], "predictions of 2 images, but labels of 1"),
        "class too large": ([masks] * 2, [classes, classes + 4], r"class_labels hold 5, outside 0\.\.4"),
        "class negative": ([masks] * 2, [classes, classes - 1], r"class_labels hold -1, outside 0\.\.4"),
    }


@pytest.mark.parametrize("case", wrong_labels())
def test_labels_that_do_not_fit_are_refused_with_the_place(case: str) -> None:
    masks, classes, message = wrong_labels()[case]
    predictions, _, _ = random_batch(0, [1, 1])
    with pytest.raises(ValueError, match=message):
        EomtLoss(loss_config())(predictions, masks, classes)
