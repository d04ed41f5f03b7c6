"""The published sizes: names and shapes of every weight, and one full EoMT-L both ways with transformers."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from eomt import EomtConfig, EomtForUniversalSegmentation


@pytest.mark.parametrize("image_size", [512, 640, 1280])
@pytest.mark.parametrize("size", ["small", "base", "large", "giant"])
def test_every_size_has_the_weights_of_transformers(size: str, image_size: int) -> None:
    config = EomtConfig.from_size(size, image_size=image_size, num_labels=133)
    with torch.device("meta"):
        ours = EomtForUniversalSegmentation(config).state_dict()
        theirs = transformers.EomtForUniversalSegmentation(transformers.EomtConfig(**config.to_dict())).state_dict()
    assert {key: tensor.shape for key, tensor in ours.items()} == {key: value.shape for key, value in theirs.items()}


@pytest.mark.slow
def test_the_large_model_is_the_same_in_both_libraries(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = EomtConfig.from_size("large", image_size=640, num_labels=133)
    ours = EomtForUniversalSegmentation(config).eval()
    with torch.no_grad():
        for parameter in ours.parameters():  # biases, norms and layer scales too
            parameter.add_(torch.randn_like(parameter), alpha=0.02)
    ours.save_pretrained(tmp_path / "ours", max_shard_size="500MB")
    theirs = transformers.EomtForUniversalSegmentation.from_pretrained(tmp_path / "ours").eval()
    theirs.save_pretrained(tmp_path / "theirs")
    again = EomtForUniversalSegmentation.from_pretrained(tmp_path / "theirs")
    for key, tensor in ours.state_dict().items():
        assert torch.equal(theirs.state_dict()[key], tensor), key
        assert torch.equal(again.state_dict()[key], tensor), key

    image = torch.randn(1, 3, 640, 640)
    for prob in (0.0, 1.0):
        again.attn_mask_probs.fill_(prob)
        theirs.attn_mask_probs.fill_(prob)
        with torch.inference_mode():
            expected, masks = theirs_with_masks(theirs, image)
            actual, differing = ours_with_their_masks(again, image, masks)
        # Of the million bits, those whose logit is within rounding of zero may fall on either side.
        assert differing <= 1e-5
        for name in ("masks_queries_logits", "class_queries_logits"):
            scale = max(1.0, float(expected[name].abs().max()))
            assert float((actual[name] - expected[name]).abs().max()) / scale < 1e-5, (name, prob)


def theirs_with_masks(model: nn.Module, image: Tensor) -> tuple[Any, list[Tensor | None]]:
    """The output, and for each layer the rows of the queries as (B, 1, Q, T) bool."""
    masks: list[Tensor | None] = []
    queries = model.config.num_queries

    def record(_: nn.Module, args: tuple[Any, ...]) -> None:
        masks.append(None if args[1] is None else args[1][:, :1, :queries] > 0)

    hooks = [layer.register_forward_pre_hook(record) for layer in model.layers]
    output = model(image)
    for hook in hooks:
        hook.remove()
    return output, masks


def ours_with_their_masks(
    model: EomtForUniversalSegmentation, image: Tensor, masks: list[Tensor | None]
) -> tuple[Any, float]:
    """The output when each layer gets these masks, and the share of bits in which the model's own differ from them."""
    differing = [torch.zeros(1)]
    remaining = iter(masks)

    def replace(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        mask = next(remaining)
        assert (mask is None) == (args[1] is None)
        if mask is not None:
            differing.append((mask != args[1]).float().mean()[None])
        return (args[0], mask, *args[2:])

    hooks = [layer.register_forward_pre_hook(replace) for layer in model.layers]
    output = model(image)
    for hook in hooks:
        hook.remove()
    return output, float(torch.cat(differing).max())
