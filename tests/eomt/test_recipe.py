"""Schedules and annealing give the recipe's numbers."""

import pytest
import torch

from eomt.recipe import (
    Recipe,
    annealing_windows,
    mask_probability,
    rate_factor,
    set_learning_rates,
    set_mask_probabilities,
)
from eomt.training import parameter_groups
from tests.reference.tiny_eomt import tiny_model


def test_heads_climb_for_500_steps_then_decay() -> None:
    """(1 - 5,000/10,000) ** 0.9 = 0.535887 halfway down, worked out by hand."""
    factors = [rate_factor(step, 10_500, hold=0, warmup=500) for step in (0, 1, 250, 500, 5_500, 10_500, 11_000)]
    assert factors == pytest.approx([0, 0.002, 0.5, 1, 0.5358867, 0, 0], abs=1e-7)


def test_backbone_waits_for_the_heads_then_climbs_for_1000_steps() -> None:
    """After 2,500 of the 10,000 steps of decay: 0.75 ** 0.9 = 0.771890."""
    steps = (0, 499, 500, 510, 1_499, 1_500, 4_000, 11_500)
    factors = [rate_factor(step, 11_500, hold=500, warmup=1_000) for step in steps]
    assert factors == pytest.approx([0, 0, 0, 0.01, 0.999, 1, 0.7718895, 0], abs=1e-7)


def test_mask_probability_falls_from_one_to_zero_within_its_window() -> None:
    """At a quarter of the window 0.75 ** 0.9, at nine tenths 0.1 ** 0.9."""
    probabilities = [mask_probability(step, 100, 300) for step in (0, 99, 100, 150, 280, 300, 500)]
    assert probabilities == pytest.approx([1, 1, 1, 0.7718895, 0.1258925, 0, 0], abs=1e-7)


def test_annealing_windows_are_those_of_the_original_configurations() -> None:
    """COCO large: 12 epochs of 7,391 steps. Cityscapes base: 107 epochs of 186 steps."""
    assert annealing_windows(88_692, 4) == ((14782, 29564), (29564, 44346), (44346, 59128), (59128, 73910))
    assert annealing_windows(19_902, 3) == ((3317, 6634), (8292, 11609), (13268, 16585))
    assert annealing_windows(1200, 1) == ((500, 700),)


def test_annealing_fills_the_span_that_is_given() -> None:
    """Four windows of a quarter of the span: 0.2 to 1 of 1,000 steps are 200 to 400, ..., 800 to 1,000."""
    assert annealing_windows(1000, 4, (0.2, 1.0)) == ((200, 400), (400, 600), (600, 800), (800, 1000))
    model = tiny_model()
    set_mask_probabilities(model, 299, Recipe(1000, annealing_span=(0.2, 1.0)))
    torch.testing.assert_close(model.attn_mask_probs, torch.tensor([(1 - 99 / 200) ** 0.9, 1.0]))


def test_attention_is_never_masked_where_the_span_is_nothing() -> None:
    model = tiny_model()
    set_mask_probabilities(model, 0, Recipe(10, annealing_span=(0.0, 0.0)))
    assert model.attn_mask_probs.tolist() == [0, 0]


def test_rates_fall_to_the_share_that_shall_be_left() -> None:
    """Halfway 0.4 + 0.6 x 0.5 ** 0.9."""
    factors = [rate_factor(step, 110, hold=0, warmup=10, end_share=0.4) for step in (5, 10, 60, 110)]
    assert factors == pytest.approx([0.5, 1, 0.4 + 0.6 * 0.5358867, 0.4], abs=1e-7)
    recipe = Recipe(110, learning_rate=2.0, head_warmup=10, end_share=0.4)
    optimizer = torch.optim.AdamW(parameter_groups(tiny_model(), recipe))
    set_learning_rates(optimizer, 110, recipe)
    assert max(group["lr"] for group in optimizer.param_groups) == pytest.approx(0.8)


def test_learning_rates_follow_the_part_that_a_group_belongs_to() -> None:
    """At step 600 of 10,500: heads at (1 - 100/10,000) ** 0.9, backbone at 100/1,000 of its warm-up."""
    recipe = Recipe(10_500, learning_rate=1.0)
    optimizer = torch.optim.AdamW(parameter_groups(tiny_model(), recipe))
    set_learning_rates(optimizer, 600, recipe)
    rates = {name: group["lr"] for group in optimizer.param_groups for name in group["names"]}
    assert rates["query.weight"] == pytest.approx(0.99**0.9)
    assert rates["layernorm.weight"] == pytest.approx(0.1)
    assert rates["layers.0.norm1.weight"] == pytest.approx(0.0512)


def test_mask_probabilities_are_written_to_the_model() -> None:
    model = tiny_model()
    set_mask_probabilities(model, 30, Recipe(100, annealing=((10, 20), (20, 40))))
    torch.testing.assert_close(model.attn_mask_probs, torch.tensor([0.0, 0.5**0.9]))


def test_wrong_number_of_annealing_windows_names_both_counts() -> None:
    with pytest.raises(ValueError, match=r"1 \(start, end\) windows for the model.s 2 blocks"):
        set_mask_probabilities(tiny_model(), 0, Recipe(100, annealing=((10, 20),)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"total_steps": 0}, "total_steps is 0"),
        ({"total_steps": 5, "backbone_hold": -1}, "numbers of steps, 0 or more"),
        ({"total_steps": 5, "annealing": ((3, 2),)}, "start <= end"),
        ({"total_steps": 5, "annealing_span": (0.5, 0.4)}, "0 <= start <= end <= 1"),
        ({"total_steps": 5, "betas": (0.9, 1.0)}, "below 1"),
        ({"total_steps": 5, "end_share": 1.5}, "a share from 0 to 1"),
        ({"total_steps": 5, "dense_weight": -1.0}, "a weight of 0 or more"),
        ({"total_steps": 5, "autocast_dtype": torch.float16}, "use torch.bfloat16"),
    ],
)
def test_recipe_refuses_numbers_that_make_no_training(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Recipe(**changes)  # type: ignore[arg-type]
