"""Every parameter is trained at its own rate, and a step does what it says."""

import io
import math

import pytest
import torch
from torch import nn

from eomt.modeling import EomtForUniversalSegmentation
from eomt.recipe import Recipe, dinov3_recipe, scratch_recipe
from eomt.training import Batch, parameter_groups, start_training, training_step
from tests.reference.tiny_eomt import tiny_model, two_halves


def rates_by_name(model: EomtForUniversalSegmentation, recipe: Recipe) -> dict[str, float]:
    return {name: group["base_lr"] for group in parameter_groups(model, recipe) for name in group["names"]}


def test_every_parameter_is_in_exactly_one_group() -> None:
    model = tiny_model()
    grouped = [parameter for group in parameter_groups(model, Recipe(10)) for parameter in group["params"]]
    assert len(grouped) == len({id(parameter) for parameter in grouped})
    assert {id(parameter) for parameter in grouped} == {id(parameter) for parameter in model.parameters()}
    assert {group["weight_decay"] for group in parameter_groups(model, Recipe(10))} == {0.05}
    assert set(rates_by_name(model, Recipe(10))) == {name for name, _ in model.named_parameters()}


def test_rates_decay_by_layer_and_heads_learn_at_the_full_rate() -> None:
    """Four layers: 0.8 ** 3 for the first and the embeddings, 1 for the last, the norm and the heads."""
    rates = rates_by_name(tiny_model(), Recipe(10, learning_rate=1.0))
    expected = {
        "embeddings.cls_token": 0.512,
        "embeddings.patch_embeddings.projection.weight": 0.512,
        "layers.0.norm1.weight": 0.512,
        "layers.1.attention.q_proj.weight": 0.64,
        "layers.2.mlp.fc1.bias": 0.8,
        "layers.3.layer_scale2.lambda1": 1.0,
        "layernorm.weight": 1.0,
        "query.weight": 1.0,
        "class_predictor.bias": 1.0,
        "mask_head.fc1.weight": 1.0,
        "upscale_block.block.0.conv1.weight": 1.0,
    }
    assert {name: rates[name] for name in expected} == pytest.approx(expected)


def test_dinov3_recipe_leaves_the_query_blocks_at_the_full_rate() -> None:
    rates = rates_by_name(tiny_model(), dinov3_recipe(10_000, learning_rate=1.0))
    layers = [rates[f"layers.{layer}.norm1.weight"] for layer in range(4)]
    assert layers == pytest.approx([0.512, 0.64, 1.0, 1.0])
    assert dinov3_recipe(10_000).learning_rate == 2e-4


def test_frozen_parameters_are_left_out() -> None:
    model = tiny_model()
    model.embeddings.requires_grad_(False)
    assert not any(name.startswith("embeddings") for name in rates_by_name(model, Recipe(10)))


def test_overfitting_one_batch_finds_its_masks_and_classes() -> None:
    """The loss itself stays above zero: its points crowd at the edges, where the sampled target is between 0 and 1."""
    state, batch = start_training(tiny_model(), scratch_recipe(200, learning_rate=3e-3)), two_halves()
    reports = [training_step(state, [batch]) for _ in range(200)]
    assert reports[-1].loss < reports[0].loss / 8

    with torch.no_grad():
        output = state.model.eval()(batch.pixel_values)
    assert output.class_queries_logits is not None
    assert output.masks_queries_logits is not None
    for image, masks in enumerate(batch.mask_labels):
        classes = output.class_queries_logits[image].argmax(1)  # (Q,)
        for mask, wanted_class in zip(masks, batch.class_labels[image], strict=True):
            (query,) = torch.nonzero(classes == wanted_class).flatten().tolist()
            assert torch.equal(output.masks_queries_logits[image, query] > 0, mask[2::4, 2::4] > 0)


def test_step_moves_the_heads_while_the_backbone_waits() -> None:
    state = start_training(tiny_model(), Recipe(100, head_warmup=0, backbone_hold=10))
    before = {name: value.clone() for name, value in state.model.named_parameters()}
    report = training_step(state, [two_halves()])
    moved = {name for name, value in state.model.named_parameters() if not torch.equal(value, before[name])}
    assert {name.split(".")[0] for name in moved} == {"query", "class_predictor", "mask_head", "upscale_block"}
    assert report.learning_rates == {"backbone": 0.0, "heads": 1e-4}


def test_loss_parts_of_every_block_add_up_to_the_loss() -> None:
    """Also of blocks without masks, and after a validation has left the model in evaluation mode."""
    state = start_training(tiny_model(), Recipe(10, annealing=((0, 0), (0, 0))))
    state.model.eval()
    report = training_step(state, [two_halves()])
    assert len(report.loss_parts) == 9
    assert sum(report.loss_parts.values()) == pytest.approx(report.loss)


def test_two_equal_micro_batches_give_the_gradient_of_one() -> None:
    """Without targets the loss does not depend on the points drawn, nor with masks off on the queries set free."""
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    batch = Batch(pixels, [torch.zeros(0, 32, 32)] * 2, [torch.zeros(0, dtype=torch.int64)] * 2)
    gradients = []
    for count in (1, 2):
        state = start_training(tiny_model(), Recipe(10, clip_norm=1e9, annealing=((0, 0), (0, 0))))
        training_step(state, [batch] * count)
        gradients.append(state.model.class_predictor.weight.grad)
    assert gradients[0] is not None
    torch.testing.assert_close(gradients[1], gradients[0])


def test_gradients_are_clipped_to_the_norm() -> None:
    state = start_training(tiny_model(), Recipe(10))
    report = training_step(state, [two_halves()])
    norms = torch.stack([parameter.grad.norm() for parameter in state.model.parameters() if parameter.grad is not None])
    assert report.gradient_norm > 0.01
    assert norms.norm().item() == pytest.approx(0.01, rel=1e-4)


def test_step_with_a_gradient_that_is_not_finite_leaves_the_weights() -> None:
    state = start_training(tiny_model(), scratch_recipe(10))
    training_step(state, [two_halves()])
    before = {name: value.clone() for name, value in state.model.named_parameters()}
    broken = two_halves()
    broken.pixel_values[0] = math.nan
    report = training_step(state, [broken])
    assert report.skipped
    assert state.step == 2
    assert all(torch.equal(value, before[name]) for name, value in state.model.named_parameters())
    assert not training_step(state, [two_halves()]).skipped


def test_step_without_batches_is_refused() -> None:
    with pytest.raises(ValueError, match="no batches"):
        training_step(start_training(tiny_model(), Recipe(10)), [])


def test_bfloat16_autocast_trains_with_float32_weights_and_loss() -> None:
    state = start_training(tiny_model(), scratch_recipe(60, learning_rate=3e-3, autocast_dtype=torch.bfloat16))
    reports = [training_step(state, [two_halves()]) for _ in range(60)]
    assert {parameter.dtype for parameter in state.model.parameters()} == {torch.float32}
    assert reports[-1].loss < 0.5 * reports[0].loss


def test_average_follows_the_weights_and_can_predict() -> None:
    """At step 0 the decay is 1/10, whatever the recipe's, so 0.9 of the way is taken."""
    state = start_training(
        tiny_model(), scratch_recipe(10, average_decay=0.999, head_warmup=0, annealing=((0, 0), (0, 5)))
    )
    before = state.model.query.weight.clone()
    training_step(state, [two_halves()])
    assert state.average is not None
    mean = state.average.model
    torch.testing.assert_close(mean.query.weight, before.lerp(state.model.query.weight, 0.9))
    assert mean.attn_mask_probs.tolist() == [0, 1]
    assert not mean.training
    assert mean(two_halves().pixel_values).masks_queries_logits.shape == (2, 5, 8, 8)


def test_the_first_moments_decay_as_the_recipe_says() -> None:
    state = start_training(tiny_model(), Recipe(10, betas=(0.8, 0.98)))
    assert {group["betas"] for group in state.optimizer.param_groups} == {(0.8, 0.98)}


def test_dense_supervision_is_learned_beside_the_loss_until_its_time_is_over() -> None:
    """10 steps, over at a half: the weights are 4, 3.2, 2.4, 1.6, 0.8, then 0."""
    state = start_training(tiny_model(), scratch_recipe(10, dense_weight=4.0, dense_until=0.5))
    assert state.dense is not None
    before = state.dense.project.weight.detach().clone()
    reports = [training_step(state, [two_halves()]) for _ in range(10)]
    losses = [report.loss_parts["loss_dense"] for report in reports]
    assert min(losses[:5]) > 0 and losses[5:] == [0] * 5
    assert losses[1] / losses[0] == pytest.approx(0.8, rel=0.1)  # the head has hardly learned anything yet
    assert all(report.loss == pytest.approx(sum(report.loss_parts.values())) for report in reports)
    assert not torch.equal(state.dense.project.weight, before)


def test_dense_supervision_reaches_the_layers_below_the_queries_but_not_those_above() -> None:
    model = tiny_model()
    state = start_training(model, scratch_recipe(10, dense_weight=1.0))
    batch = two_halves()
    output = model.train()(batch.pixel_values, output_hidden_states=True)
    assert state.dense is not None
    state.dense(output, batch.mask_labels, batch.class_labels).backward()
    reached = {
        name.partition(".")[2][0] for name, p in model.named_parameters() if "layers." in name and p.grad is not None
    }
    assert reached == {"0", "1"}


@pytest.mark.parametrize("dense_weight", [0.0, 2.0])
def test_resumed_training_is_bit_equal_to_an_undisturbed_one(dense_weight: float) -> None:
    recipe = scratch_recipe(8, average_decay=0.9, dense_weight=dense_weight, dense_until=1.0)
    whole = start_training(tiny_model(), recipe)
    for _ in range(4):
        training_step(whole, [two_halves()])
    file = io.BytesIO()
    torch.save(whole.state_dict(), file)
    for _ in range(4):
        training_step(whole, [two_halves()])

    resumed = start_training(tiny_model(seed=7), recipe)
    file.seek(0)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for _ in range(4):
        training_step(resumed, [two_halves()])
    assert resumed.step == 8
    assert whole.average is not None
    assert resumed.average is not None
    pairs: list[tuple[nn.Module, nn.Module]] = [
        (whole.model, resumed.model),
        (whole.average.model, resumed.average.model),
    ]
    if whole.dense is not None and resumed.dense is not None:
        pairs.append((whole.dense, resumed.dense))
    for one, other in pairs:
        assert all(torch.equal(one.state_dict()[name], value) for name, value in other.state_dict().items())
