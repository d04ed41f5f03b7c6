"""What transformers' own tests ask of EoMT and that no other module here shows, for both backbones.

`docs/model.md` lists every behaviour of that suite with the test of ours that stands for it.
"""

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

import eomt
from eomt import EomtImageProcessor, EomtImageProcessorPil
from tests.reference.tiny_models import model_pair, random_images

# The sizes of transformers' tests: patches of two pixels and 19 registers are unlike any published model.
SETTINGS: dict[str, Any] = {
    "image_size": 40,
    "patch_size": 2,
    "num_labels": 4,
    "hidden_size": 8,
    "num_attention_heads": 2,
    "num_hidden_layers": 4,
    "num_register_tokens": 19,
    "num_queries": 5,
    "num_blocks": 1,
    "train_num_points": 50,
}
DINOV3 = SETTINGS | {"intermediate_size": 24, "pos_embed_rescale": None}
TASKS = ("semantic", "panoptic", "instance")
both_backbones = pytest.mark.parametrize("settings", [SETTINGS, DINOV3], ids=["eomt", "eomt_dinov3"])
both_processors = pytest.mark.parametrize("name", ["EomtImageProcessor", "EomtImageProcessorPil"])


def more_objects_than_queries(images: Tensor) -> tuple[Tensor, Tensor]:
    """Labels as stacked tensors: ten soft masks an image, of any real number, of one class."""
    generator = torch.Generator().manual_seed(0)
    masks = torch.randn(len(images), 10, *images.shape[2:], generator=generator)
    return masks, torch.zeros(len(images), 10, dtype=torch.int64)


@both_backbones
def test_outputs_have_the_documented_shapes(settings: dict[str, Any]) -> None:
    model, _ = model_pair(settings)
    outputs = model(random_images(model.config), output_hidden_states=True, output_attentions=True)
    assert outputs.class_queries_logits.shape == (2, 5, 4 + 1)
    assert outputs.masks_queries_logits.shape == (2, 5, 80, 80)  # 20 x 20 patches, enlarged twofold twice
    assert outputs.last_hidden_state.shape == (2, 5 + 1 + 19 + 400, 8)
    assert [state.shape[1] for state in outputs.hidden_states] == [420] * 4 + [425]
    assert [weights.shape for weights in outputs.attentions] == [(2, 2, 420, 420)] * 3 + [(2, 2, 425, 425)]


@both_backbones
def test_the_configuration_can_ask_for_hidden_states_and_attentions(settings: dict[str, Any]) -> None:
    plain, _ = model_pair(settings)
    asked, _ = model_pair(settings | {"output_hidden_states": True, "output_attentions": True})
    images = random_images(plain.config)
    with torch.no_grad():
        expected, outputs = plain(images, output_hidden_states=True, output_attentions=True), asked(images)
        without = asked(images, output_hidden_states=False, output_attentions=False)
    for name, count in (("hidden_states", 5), ("attentions", 4)):
        assert len(outputs[name]) == count
        assert all(torch.equal(mine, other) for mine, other in zip(outputs[name], expected[name], strict=True))
        assert name not in without
    assert list(outputs)[-1] == "attentions"


@both_backbones
def test_the_same_images_give_the_same_outputs(settings: dict[str, Any]) -> None:
    model, _ = model_pair(settings)
    model.attn_mask_probs.zero_()
    images = random_images(model.config)
    with torch.no_grad():
        first, second = model(images), model(images)
    assert torch.equal(first.masks_queries_logits, second.masks_queries_logits)
    assert torch.equal(first.class_queries_logits, second.class_queries_logits)


@both_backbones
def test_an_image_gives_the_same_alone_and_in_a_batch(settings: dict[str, Any]) -> None:
    model, _ = model_pair(settings)
    images = random_images(model.config, 3)
    with torch.no_grad():
        together, alone = model(images), model(images[:1])
    for name in ("masks_queries_logits", "class_queries_logits", "last_hidden_state"):
        torch.testing.assert_close(together[name][:1], alone[name], rtol=1e-5, atol=1e-5)


@both_backbones
def test_more_objects_than_queries_and_soft_masks_cost_what_they_cost_in_transformers(settings: dict[str, Any]) -> None:
    ours, theirs = model_pair(settings)
    images = random_images(ours.config)
    losses = []
    for model in (ours.train(), theirs.train()):
        torch.manual_seed(0)
        losses.append(model(images, *more_objects_than_queries(images)).loss)
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-5, atol=1e-5)


@both_backbones
def test_every_parameter_learns_from_the_loss(settings: dict[str, Any]) -> None:
    model, _ = model_pair(settings)
    images = random_images(model.config)
    model.train()(images, *more_objects_than_queries(images)).loss.backward()
    without = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert without == []


@both_backbones
def test_hidden_states_and_attentions_have_gradients(settings: dict[str, Any]) -> None:
    model, _ = model_pair(settings)
    outputs = model(random_images(model.config), output_hidden_states=True, output_attentions=True)
    kept = [outputs.hidden_states[0], outputs.attentions[0]]
    for tensor in kept:
        tensor.retain_grad()
    outputs.class_queries_logits.flatten()[0].backward()
    assert all(tensor.grad is not None and bool(tensor.grad.any()) for tensor in kept)


@both_backbones
def test_gradient_checkpointing_changes_no_gradient(settings: dict[str, Any]) -> None:
    model, _ = model_pair(settings)
    images = random_images(model.config)
    gradients = []
    for enable in (False, True):
        if enable:
            model.gradient_checkpointing_enable()
        model.zero_grad()
        torch.manual_seed(0)
        model.train()(images, *more_objects_than_queries(images)).loss.backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, checkpointed, rtol=1e-5, atol=1e-6)


@both_backbones
def test_a_saved_model_gives_the_same_outputs(settings: dict[str, Any], tmp_path: Path) -> None:
    model, _ = model_pair(settings)
    model.save_pretrained(tmp_path)
    images = random_images(model.config)
    with torch.no_grad():
        before, after = model(images), eomt.load_model(tmp_path)(images)
    torch.testing.assert_close(before.masks_queries_logits, after.masks_queries_logits, rtol=0, atol=1e-6)
    torch.testing.assert_close(before.class_queries_logits, after.class_queries_logits, rtol=0, atol=1e-6)


@pytest.mark.parametrize("variant", ["Eomt", "EomtDinov3"])
def test_forward_takes_the_documented_arguments_in_order(variant: str) -> None:
    ours, theirs = (
        inspect.signature(getattr(library, f"{variant}ForUniversalSegmentation").forward).parameters
        for library in (eomt, transformers)
    )
    documented = [name for name in theirs if name != "kwargs"]
    assert list(ours)[: len(documented)] == documented
    assert all(ours[name].default == theirs[name].default for name in documented)


@both_processors
@pytest.mark.parametrize("method", ["preprocess", *(f"post_process_{task}_segmentation" for task in TASKS)])
def test_processors_take_the_documented_arguments_in_order(name: str, method: str) -> None:
    ours, theirs = (
        inspect.signature(getattr(getattr(library, name), method)).parameters for library in (eomt, transformers)
    )
    documented = [argument for argument in theirs if argument != "kwargs"]
    assert list(ours)[: len(documented)] == documented
    assert all(ours[argument].default == theirs[argument].default for argument in documented)


@both_processors
def test_changing_one_processor_leaves_others_alone(name: str) -> None:
    first, second = getattr(eomt, name)(), getattr(eomt, name)()
    first.size["shortest_edge"] = 32
    first.extra_settings["mine"] = 1
    assert second.size == getattr(eomt, name)().size == {"shortest_edge": 640, "longest_edge": 640}
    assert second.extra_settings == {}


def test_both_processors_make_the_same_masks() -> None:
    generator = torch.Generator().manual_seed(0)
    images = [torch.randint(256, (3, 37, 61), generator=generator, dtype=torch.uint8) for _ in range(2)]
    maps = [torch.randint(6, (37, 61), generator=generator).numpy() for _ in range(2)]
    size = {"shortest_edge": 18, "longest_edge": 18}
    batches = [
        processor(size=size, do_pad=True, ignore_index=255)(images, maps, return_tensors="pt")
        for processor in (EomtImageProcessor, EomtImageProcessorPil)
    ]
    for mine, other in zip(batches[0].mask_labels, batches[1].mask_labels, strict=True):
        assert torch.equal(mine, other)
    for mine, other in zip(batches[0].class_labels, batches[1].class_labels, strict=True):
        assert torch.equal(mine, other)
    assert batches[0].pixel_values.shape == batches[1].pixel_values.shape == (2, 3, 18, 18)
