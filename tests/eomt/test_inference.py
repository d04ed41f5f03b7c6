"""The rearranged weights compute what the model computes, and a compiler meets few shapes."""

from functools import partial
from typing import Any

import pytest
import torch

from eomt import EomtConfig, EomtDinov3Config, EomtDinov3ForUniversalSegmentation, EomtForUniversalSegmentation
from eomt.inference import FastEomt
from tests.reference.tiny_eomt import tiny_model
from tests.reference.tiny_models import random_dinov3_settings, random_settings


def drawn(model_class: Any, config: Any, probabilities: list[float]) -> EomtForUniversalSegmentation:
    torch.manual_seed(0)
    model: EomtForUniversalSegmentation = model_class(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.attn_mask_probs.copy_(torch.tensor(probabilities[: config.num_blocks]))
    return model


def pixels(model: EomtForUniversalSegmentation, images: int = 2, seed: int = 0) -> torch.Tensor:
    config = model.config
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(images, config.num_channels, *config.image_size_hw, generator=generator)


def outputs(model: EomtForUniversalSegmentation, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    with torch.inference_mode():
        result = model(pixel_values=inputs)
    return result.masks_queries_logits, result.class_queries_logits


PROBABILITIES = [[0.0] * 4, [1.0] * 4, [0.0, 1.0, 0.5, 1.0]]


@pytest.mark.parametrize("probabilities", PROBABILITIES, ids=["free", "masked", "drawn"])
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("dinov3", [False, True])
def test_in_float32_it_is_the_model(dinov3: bool, seed: int, probabilities: list[float]) -> None:
    if dinov3:
        model = drawn(
            EomtDinov3ForUniversalSegmentation, EomtDinov3Config(**random_dinov3_settings(seed)), probabilities
        )
    else:
        model = drawn(EomtForUniversalSegmentation, EomtConfig(**random_settings(seed)), probabilities)
    inputs = pixels(model)
    expected = outputs(model, inputs)
    torch.manual_seed(1)
    for mine, other in zip(FastEomt(model, torch.float32).predict(inputs), expected, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_reduced_its_masks_are_about_as_near_to_float32_as_autocasts_and_its_classes_nearer(dtype: torch.dtype) -> None:
    """Over a dozen models: of a single one chance may favour either."""
    mine_off, autocast_off = torch.zeros(2), torch.zeros(2)
    for seed in range(12):
        model = drawn(EomtForUniversalSegmentation, EomtConfig(**random_settings(seed)), [0.0] * 4)
        inputs = pixels(model, images=4)
        exact = outputs(model, inputs)
        with torch.autocast("cpu", dtype=dtype):
            cast = outputs(model, inputs)
        fast = FastEomt(model, dtype).predict(inputs)
        assert (fast[0].dtype, fast[1].dtype) == (dtype, torch.float32)
        for off, found in ((mine_off, fast), (autocast_off, cast)):
            off += torch.stack([_relative(mine, other) for mine, other in zip(found, exact, strict=True)])
    assert mine_off[0] < 1.2 * autocast_off[0]
    assert mine_off[1] < 0.8 * autocast_off[1]


def _relative(found: torch.Tensor, exact: torch.Tensor) -> torch.Tensor:
    return (found.float() - exact).abs().mean() / exact.abs().mean()


def test_a_small_layer_scale_survives_float16() -> None:
    """Folded into float16 weights 1e-6 would leave nothing of them."""
    model = drawn(EomtForUniversalSegmentation, EomtConfig(**random_settings(0)), [0.0] * 4)
    with torch.no_grad():
        for layer in model.layers:
            layer.layer_scale1.lambda1.fill_(1e-6)  # type: ignore[union-attr, operator]
            layer.layer_scale2.lambda1.fill_(1e-6)  # type: ignore[union-attr, operator]
        model.query.weight.mul_(1e-6)
    inputs = pixels(model)
    expected, (_, found) = outputs(model, inputs)[1], FastEomt(model, torch.float16).predict(inputs)
    assert (found - expected).abs().max() < 0.05 * (expected - expected.mean(1, keepdim=True)).abs().max()


def test_the_model_may_be_deleted() -> None:
    model = tiny_model().eval()
    inputs, fast = pixels(model), FastEomt(model, torch.bfloat16)
    before = fast.predict(inputs)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert all(torch.equal(one, other) for one, other in zip(fast.predict(inputs), before, strict=True))


def test_a_model_that_was_made_for_inference_alone_is_taken() -> None:
    with torch.inference_mode():
        model = tiny_model().eval()
    masks, _ = FastEomt(model, torch.bfloat16).predict(pixels(model))
    assert masks.shape == (2, 5, 8, 8)


def test_images_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="resize or pad the images"):
        FastEomt(tiny_model(), torch.bfloat16).predict(torch.zeros(1, 3, 16, 16))


@pytest.mark.parametrize(("probabilities", "graphs"), [([0.0, 0.0], 3), ([1.0, 1.0], 3), ([1.0, 0.0], 4)])
def test_a_compiler_meets_one_layer_in_few_shapes_however_many_there_are(
    probabilities: list[float], graphs: int
) -> None:
    """Without queries, with them, masked; and the mask head. Further batches bring nothing new."""
    from torch._dynamo.testing import CompileCounter

    torch._dynamo.reset()
    model = tiny_model(num_hidden_layers=6).eval()
    model.attn_mask_probs.copy_(torch.tensor(probabilities))
    fast, counter = FastEomt(model, torch.bfloat16), CompileCounter()
    expected = fast.predict(pixels(model))
    fast.compile_parts(partial(torch.compile, dynamic=False, fullgraph=True, backend=counter))
    first = fast.predict(pixels(model))
    assert counter.frame_count == graphs
    with torch._dynamo.config.patch(error_on_recompile=True):
        for seed in range(3):
            fast.predict(pixels(model, seed=seed))
    assert counter.frame_count == graphs
    for mine, other in zip(first, expected, strict=True):  # a compiler may round otherwise
        torch.testing.assert_close(mine.float(), other.float(), rtol=0.02, atol=0.02)


def test_each_of_many_models_in_a_process_is_compiled() -> None:
    from torch._dynamo.testing import CompileCounter

    torch._dynamo.reset()
    compiled = []
    for width in (16, 32, 48):  # of three shapes each, where torch compiles eight of one code
        model = tiny_model(hidden_size=width, num_attention_heads=2).eval()
        model.attn_mask_probs.copy_(torch.tensor([1.0, 0.0]))
        fast, counter = FastEomt(model, torch.bfloat16), CompileCounter()
        fast.compile_parts(partial(torch.compile, dynamic=False, fullgraph=True, backend=counter))
        fast.predict(pixels(model))
        compiled.append(counter.frame_count)
    assert compiled == [4, 4, 4]


def test_eagerly_again_after_a_compiler() -> None:
    model = tiny_model().eval()
    fast = FastEomt(model, torch.bfloat16)
    expected = fast.predict(pixels(model))

    def broken(function: Any) -> Any:
        def fail(*arguments: Any) -> torch.Tensor:
            raise RuntimeError("no compiler")

        return fail

    fast.compile_parts(broken)
    with pytest.raises(RuntimeError, match="no compiler"):
        fast.predict(pixels(model))
    fast.run_eagerly()
    assert all(torch.equal(one, other) for one, other in zip(fast.predict(pixels(model)), expected, strict=True))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch's compiler warns of its own deprecations
def test_compiled_for_this_machine_it_gives_nearly_the_same() -> None:
    from workbench.prediction.passes import compiler

    torch._dynamo.reset()
    model = tiny_model(num_hidden_layers=6).eval()
    fast = FastEomt(model, torch.bfloat16)
    expected = fast.predict(pixels(model))
    fast.compile_parts(compiler())
    for mine, other in zip(fast.predict(pixels(model)), expected, strict=True):
        torch.testing.assert_close(mine.float(), other.float(), rtol=0.05, atol=0.05)
