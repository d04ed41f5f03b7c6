"""The model computes what transformers' EoMT computes: outputs, attention masks and gradients, for any architecture."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from eomt import EomtConfig, EomtForUniversalSegmentation
from eomt.attention import Attention
from eomt.modeling import HostCopy
from tests.reference.tiny_models import model_pair, random_images, random_settings

SETTINGS: dict[str, Any] = {
    "hidden_size": 24,
    "num_attention_heads": 2,
    "num_hidden_layers": 4,
    "num_blocks": 2,
    "image_size": 32,
    "patch_size": 8,
    "num_queries": 6,
    "num_labels": 5,
    "train_num_points": 40,
}


def random_labels(config: EomtConfig, seed: int = 0) -> tuple[list[Tensor], list[Tensor]]:
    """Masks and classes of two images, one of them with a single object."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(count, *config.image_size_hw) for count in (1, min(3, config.num_queries))]
    masks = [(torch.rand(shape, generator=generator) > 0.5).float() for shape in shapes]
    return masks, [torch.randint(config.num_labels, (len(mask),), generator=generator) for mask in masks]


def set_probs(probs: list[float], *models: nn.Module) -> None:
    for model in models:
        model.attn_mask_probs.copy_(torch.tensor(probs))


def assert_outputs_equal(ours: Any, theirs: Any) -> None:
    for name in ("masks_queries_logits", "class_queries_logits", "last_hidden_state"):
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=1e-5, msg=lambda text, n=name: f"{n}: {text}")


@contextmanager
def recorded_masks(model: nn.Module, name: str) -> Iterator[list[Tensor | None]]:
    """Collect what each layer is given as its attention mask (positional, after the tokens)."""
    masks: list[Tensor | None] = []
    hooks = [
        layer.register_forward_pre_hook(
            lambda _, args, kwargs: masks.append([*args, *kwargs.values()][1]), with_kwargs=True
        )
        for layer in getattr(model, name)
    ]
    yield masks
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize("seed", range(40))
def test_inference_equals_transformers(seed: int) -> None:
    ours, theirs = model_pair(random_settings(seed), seed)
    images = random_images(ours.config, seed=seed)
    for prob in (0.0, 1.0):
        set_probs([prob] * ours.config.num_blocks, ours, theirs)
        with torch.no_grad():
            assert_outputs_equal(ours(images), theirs(images))


@pytest.mark.parametrize("seed", range(12))
def test_training_equals_transformers_in_loss_and_gradients(seed: int) -> None:
    ours, theirs = model_pair(random_settings(seed), seed)
    images, (masks, classes) = random_images(ours.config, seed=seed), random_labels(ours.config, seed)
    probs = [1.0, 0.5, 0.0, 0.3][: ours.config.num_blocks]
    losses, gradients = [], []
    for model in (ours.train(), theirs.train()):
        set_probs(probs, model)
        torch.manual_seed(seed)
        output = model(images, masks, classes)
        output.loss.backward()
        losses.append(output.loss.detach())
        named = ((name, parameter) for name, parameter in model.named_parameters() if parameter.numel())
        gradients.append({name: parameter.grad for name, parameter in named})
    torch.testing.assert_close(*losses, rtol=1e-5, atol=1e-5)
    assert gradients[0].keys() == gradients[1].keys()
    largest = max(float(gradient.abs().max()) for gradient in gradients[1].values())
    for name, gradient in gradients[1].items():
        assert float((gradients[0][name] - gradient).abs().max()) < 1e-5 * max(1.0, largest), name


@pytest.mark.parametrize("seed", range(6))
def test_training_masks_the_queries_attention_as_transformers_does(seed: int) -> None:
    ours, theirs = model_pair(SETTINGS | {"num_blocks": 3}, seed)
    set_probs([1.0, 0.5, 0.0], ours, theirs)
    images, queries = random_images(ours.config, seed=seed), ours.config.num_queries
    recorded = []
    for model in (ours.train(), theirs.train()):
        torch.manual_seed(seed)
        with recorded_masks(model, "layers") as masks:
            model(images)
        recorded.append(masks)
    assert recorded[0][0] is recorded[1][0] is None  # before the queries join
    for mine, full in zip(recorded[0][1:], recorded[1][1:], strict=True):
        assert mine is not None and full is not None
        allowed = full > 0  # theirs is added to the scores: 1 where a token may look, -1e9 where not
        assert torch.equal(mine, allowed[:, :1, :queries])
        assert allowed[:, :, queries:].all()
    assert not recorded[0][1].all() and recorded[0][3].all()


def test_random_depth_and_dropout_draw_as_transformers_does() -> None:
    ours, theirs = model_pair(SETTINGS | {"drop_path_rate": 0.3, "hidden_dropout_prob": 0.2})
    images = random_images(ours.config, 5)
    outputs = []
    for model in (ours.train(), theirs.train()):
        torch.manual_seed(3)
        outputs.append(model(images))
    assert_outputs_equal(*outputs)


def test_attention_dropout_drops_in_training_only() -> None:
    ours, theirs = model_pair(SETTINGS | {"attention_dropout": 0.5})
    images = random_images(ours.config)
    assert_outputs_equal(ours(images), theirs(images))
    ours.train()
    assert not torch.equal(ours(images).last_hidden_state, ours(images).last_hidden_state)


def test_a_block_without_masking_does_not_keep_an_earlier_blocks_mask() -> None:
    # The difference to transformers: with probabilities [1, 0] it masks the second block with the first one's mask at
    # inference; the original does not.
    ours, theirs = model_pair(SETTINGS)
    set_probs([1.0, 0.0], ours, theirs)
    images = random_images(ours.config)
    with torch.no_grad():
        actual, stale = ours(images), theirs(images)
        theirs.layers[-1].register_forward_pre_hook(lambda _, args: (args[0], None))
        assert_outputs_equal(actual, theirs(images))
    assert float((actual.masks_queries_logits - stale.masks_queries_logits).abs().max()) > 1e-2


@pytest.mark.parametrize(("probs", "expected"), [([0, 0], 1), ([1, 0], 2), ([0, 1], 2), ([1, 1], 3)])
def test_inference_predicts_only_where_attention_is_masked(
    probs: list[float], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = EomtForUniversalSegmentation(EomtConfig(**SETTINGS)).eval()
    set_probs(probs, model)
    calls = []
    predict = model.predict
    monkeypatch.setattr(model, "predict", lambda tokens: calls.append(1) or predict(tokens))
    model(random_images(model.config))
    assert len(calls) == expected


def test_loss_sums_the_parts_of_every_prediction() -> None:
    model = EomtForUniversalSegmentation(EomtConfig(**SETTINGS)).train()
    output = model(random_images(model.config), *random_labels(model.config))
    assert len(output.loss_parts) == 3 * (model.config.num_blocks + 1)
    torch.testing.assert_close(output.loss, sum(output.loss_parts.values()))
    model.eval()
    assert model(random_images(model.config)).loss is None


def test_hidden_states_and_attentions_equal_transformers() -> None:
    ours, theirs = model_pair(SETTINGS, attn_implementation="eager")
    images = random_images(ours.config)
    with torch.no_grad():
        mine, reference = (model(images, output_hidden_states=True, output_attentions=True) for model in (ours, theirs))
    assert_outputs_equal(mine, reference)
    for name, count in (("hidden_states", 5), ("attentions", 4)):
        assert len(mine[name]) == len(reference[name]) == count
        for a, b in zip(mine[name], reference[name], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_outputs_are_read_by_name_key_and_position_as_in_transformers() -> None:
    ours, theirs = model_pair(SETTINGS)
    images, offsets = random_images(ours.config), [torch.tensor([0, 0, 32])]
    mine, reference = ours(images, patch_offsets=offsets), theirs(images, patch_offsets=offsets)
    assert list(mine) == mine.keys() == list(reference.keys())
    assert len(mine) == len(mine.to_tuple()) == len(reference.to_tuple())
    assert mine[0] is mine["class_queries_logits"] is mine.class_queries_logits
    assert mine[:2] == mine.to_tuple()[:2]
    assert "loss" not in mine and mine.loss is None
    assert mine.patch_offsets is offsets
    assert dict(mine.items()).keys() == dict(reference.items()).keys()


def test_two_attention_calls_equal_one_with_the_whole_mask() -> None:
    torch.manual_seed(0)
    attention = Attention(EomtConfig(**SETTINGS)).eval()
    tokens = torch.randn(3, 27, 24)
    query_mask = torch.rand(3, 1, 6, 27) > 0.5
    query_mask[..., 0] = True
    whole = torch.ones(3, 1, 27, 27, dtype=torch.bool)
    whole[:, :, :6] = query_mask
    query, key, value = (
        project(tokens).view(3, 27, 2, 12).transpose(1, 2)
        for project in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    expected = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=whole)
    expected = attention.out_proj(expected.transpose(1, 2).reshape(3, 27, 24))
    torch.testing.assert_close(attention(tokens, query_mask)[0], expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(attention(tokens, query_mask, need_weights=True)[0], expected, rtol=0, atol=1e-6)


def test_a_query_whose_mask_is_empty_still_sees_the_other_tokens() -> None:
    model = EomtForUniversalSegmentation(EomtConfig(**SETTINGS)).eval()
    with torch.no_grad():
        model.mask_head.fc3.weight.zero_()
        model.mask_head.fc3.bias.zero_()  # all mask logits are exactly zero: no patch is allowed
        assert model(random_images(model.config)).last_hidden_state.isfinite().all()


def test_images_of_a_batch_do_not_touch_each_other() -> None:
    model, _ = model_pair(SETTINGS)
    images = random_images(model.config, 3)
    with torch.no_grad():
        together = model(images).masks_queries_logits
        alone = torch.cat([model(image[None]).masks_queries_logits for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


def test_oblong_images_and_patches_work() -> None:
    config = EomtConfig(**SETTINGS | {"image_size": (32, 48), "patch_size": (8, 4)})
    output = EomtForUniversalSegmentation(config)(random_images(config))
    assert output.masks_queries_logits.shape == (2, 6, 16, 48)


def test_an_image_of_another_size_is_refused() -> None:
    model = EomtForUniversalSegmentation(EomtConfig(**SETTINGS))
    with pytest.raises(ValueError, match=r"\(2, 3, 40, 32\).*\(any, 3, 32, 32\): resize or pad"):
        model(torch.zeros(2, 3, 40, 32))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_weights_take_float_images(dtype: torch.dtype) -> None:
    ours, _ = model_pair(SETTINGS)
    set_probs([0.0, 0.0], ours)
    images = random_images(ours.config)
    with torch.no_grad():
        expected = ours(images).class_queries_logits
        actual = ours.to(dtype)(images).class_queries_logits
    assert actual.dtype == dtype
    assert float((actual.float() - expected).abs().max() / expected.abs().max()) < 0.1


def test_autocast_trains() -> None:
    model = EomtForUniversalSegmentation(EomtConfig(**SETTINGS)).train()
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(random_images(model.config), *random_labels(model.config)).loss
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_gradient_checkpointing_changes_no_gradient() -> None:
    gradients = []
    for enable in (False, True):
        model, _ = model_pair(SETTINGS | {"drop_path_rate": 0.2})
        set_probs([0.5, 0.5], model.train())
        if enable:
            model.gradient_checkpointing_enable()
        torch.manual_seed(0)
        model(random_images(model.config), *random_labels(model.config)).loss.backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("training", [False, True])
def test_it_compiles_to_one_graph(training: bool) -> None:
    model, _ = model_pair(SETTINGS)
    model.train(training)
    images = random_images(model.config)
    for prob in (0.0, 1.0):
        torch._dynamo.reset()
        set_probs([prob] * 2, model)
        compiled = torch.compile(model, backend="eager", fullgraph=True)
        torch.testing.assert_close(compiled(images).last_hidden_state, model(images).last_hidden_state)


def test_new_weights_are_distributed_as_those_of_transformers() -> None:
    settings = SETTINGS | {"hidden_size": 96, "layerscale_value": 0.5, "use_swiglu_ffn": True}
    _, theirs = model_pair(settings)
    torch.manual_seed(0)
    fresh = type(theirs)(theirs.config).state_dict()
    for name, weight in EomtForUniversalSegmentation(EomtConfig(**settings)).state_dict().items():
        if weight.numel() > 500:
            assert weight.std() == pytest.approx(float(fresh[name].std()), rel=0.15), name
            assert float(weight.mean()) == pytest.approx(float(fresh[name].mean()), abs=0.15), name
        elif float(fresh[name].std(unbiased=False)) == 0:
            assert torch.equal(weight, fresh[name]), name


def test_host_copy_follows_every_write() -> None:
    source, copy = torch.zeros(2), HostCopy()
    assert copy.of(source) == (0, 0)
    source.fill_(1)
    assert copy.of(source) == (1, 1)
    source[1] = 0.5
    assert copy.of(source) == (1, 0.5)
    assert copy.of(torch.tensor([3.0])) == (3,)
    with torch.inference_mode():
        inference = torch.zeros(1)
        assert copy.of(inference) == (0,)
        inference.fill_(2)
        assert copy.of(inference) == (2,)


def test_host_copy_reads_only_what_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    source, copy = torch.zeros(2), HostCopy()
    copy.of(source)
    monkeypatch.setattr(Tensor, "tolist", lambda self: pytest.fail("read again"))
    assert copy.of(source) == (0, 0)
