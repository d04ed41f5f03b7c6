"""Pairs of tiny models, ours and transformers', with the same random weights in every parameter."""

import random
from typing import Any

import torch
import transformers
from torch import Tensor, nn

import eomt
from eomt import EomtConfig, EomtForUniversalSegmentation


def random_settings(seed: int) -> dict[str, Any]:
    """Arguments of a tiny configuration that both libraries take; every dimension of the architecture varies."""
    draw = random.Random(seed)
    patch = draw.choice([4, 8, 16])
    layers = draw.randint(1, 4)
    heads = draw.choice([1, 2, 3, 4])
    return {
        "hidden_size": heads * draw.choice([4, 8, 12]),
        "num_attention_heads": heads,
        "num_hidden_layers": layers,
        "num_blocks": draw.randint(1, layers),
        "patch_size": patch,
        "image_size": patch * draw.randint(1, 5),
        "num_channels": draw.choice([1, 3, 3]),
        "mlp_ratio": draw.choice([2, 3, 4]),
        "use_swiglu_ffn": draw.random() < 0.4,
        "hidden_act": draw.choice(["gelu", "gelu", "relu", "silu", "gelu_new"]),
        "layer_norm_eps": draw.choice([1e-6, 1e-5, 1e-3]),
        "num_register_tokens": draw.choice([0, 1, 4]),
        "num_queries": draw.randint(1, 9),
        "num_upscale_blocks": draw.randint(0, 2),
        "num_labels": draw.randint(1, 6),
        "no_object_weight": draw.choice([0.1, 0.4]),
        "train_num_points": draw.choice([16, 50]),
    }


def random_dinov3_settings(seed: int) -> dict[str, Any]:
    """The same for `eomt_dinov3`."""
    draw = random.Random(seed)
    settings = random_settings(seed)
    gated = settings.pop("use_swiglu_ffn")
    return (
        settings
        | {
            "hidden_size": settings["num_attention_heads"] * draw.choice([4, 8, 12]),
            "intermediate_size": settings.pop("mlp_ratio") * 8,
            "use_gated_mlp": gated,
            "rope_parameters": {"rope_type": "default", "rope_theta": draw.choice([100.0, 10.0])},
            "pos_embed_shift": draw.choice([None, 0.2]),
            "pos_embed_jitter": draw.choice([None, 1.3]),
            "pos_embed_rescale": draw.choice([None, 2.0]),
        }
        | {name: draw.random() < 0.7 for name in ("query_bias", "key_bias", "value_bias", "proj_bias", "mlp_bias")}
    )


def randomise(model: nn.Module, seed: int) -> None:
    """Replace every parameter, norms, biases and layer scales too, so that leaving one out changes the outputs."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            # The last one is small, so that mask logits stay of the order of one and 1e-5 is well above their rounding.
            scale = 0.02 if name.startswith("mask_head.fc3") else 0.25
            parameter.copy_(noise * scale + (1 if "norm" in name and name.endswith("weight") else 0))


def model_pair(
    settings: dict[str, Any], seed: int = 0, **theirs: Any
) -> tuple[EomtForUniversalSegmentation, nn.Module]:
    """Our model and transformers' with equal random weights, in eval mode; `theirs` are arguments of theirs alone.

    DINOv3's where the settings are.
    """
    variant = "EomtDinov3" if "intermediate_size" in settings else "Eomt"
    ours = getattr(eomt, f"{variant}ForUniversalSegmentation")(getattr(eomt, f"{variant}Config")(**settings))
    randomise(ours, seed)
    config = getattr(transformers, f"{variant}Config")(**settings)
    reference = getattr(transformers, f"{variant}ForUniversalSegmentation")._from_config(config, **theirs)
    reference.load_state_dict(ours.state_dict())
    return ours.eval(), reference.eval()


def random_images(config: EomtConfig, count: int = 2, seed: int = 0) -> Tensor:
    """(count, channels, height, width) standard normal numbers."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, config.num_channels, *config.image_size_hw, generator=generator)
