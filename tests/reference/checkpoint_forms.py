"""Tiny checkpoints in every form that can be had, in folders, each with the model that it should load as."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

import tests.reference.torchvision_part  # noqa: F401 (transformers needs it)
from eomt import (
    EomtConfig,
    EomtDinov3Config,
    EomtDinov3ForUniversalSegmentation,
    EomtForUniversalSegmentation,
    EomtImageProcessor,
)
from tests.reference.original_layout import to_original, to_original_delta
from tests.reference.tiny_models import randomise

NAMES = {0: "one", 1: "two", 2: "three"}
# Heads of 64 channels, as every DINOv2 has them: an original file does not tell how many there are.
SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "num_attention_heads": 1,
    "num_hidden_layers": 3,
    "num_blocks": 2,
    "image_size": 32,
    "patch_size": 16,
    "num_queries": 5,
    "num_upscale_blocks": 1,
}


def save_published(folder: Path, dtype: torch.dtype = torch.float32, **changes: Any) -> EomtForUniversalSegmentation:
    """EoMT on DINOv2 with config, weights and processor."""
    model = EomtForUniversalSegmentation(EomtConfig(**{**SIZES, "id2label": NAMES, **changes})).eval()
    randomise(model, 0)
    model.attn_mask_probs.zero_()
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    model.save_pretrained(folder)
    _processor().save_pretrained(folder)
    return model.float()


def save_original(folder: Path, **changes: Any) -> EomtForUniversalSegmentation:
    """The same as the original repository's `pytorch_model.bin`, alone."""
    model = EomtForUniversalSegmentation(EomtConfig(**{**SIZES, "num_labels": 3, **changes})).eval()
    randomise(model, 0)
    model.attn_mask_probs.zero_()
    folder.mkdir(parents=True)
    torch.save(to_original(model.state_dict()), folder / "pytorch_model.bin")
    return model


def save_delta(folder: Path, backbone: Path) -> EomtDinov3ForUniversalSegmentation:
    """EoMT on DINOv3 as the original's difference to a backbone, which is saved too."""
    import transformers  # here: only the deltas need it, and it takes a second

    base = transformers.DINOv3ViTModel(
        transformers.DINOv3ViTConfig(
            hidden_size=24,
            num_attention_heads=2,
            num_hidden_layers=3,
            intermediate_size=40,
            patch_size=16,
            image_size=48,
            num_register_tokens=4,
        )
    )
    randomise(base, 0)
    base.save_pretrained(backbone)
    config = EomtDinov3Config(
        hidden_size=24,
        num_attention_heads=2,
        num_hidden_layers=3,
        intermediate_size=40,
        layer_norm_eps=base.config.layer_norm_eps,
        image_size=32,
        num_queries=5,
        num_blocks=2,
        num_labels=3,
        num_upscale_blocks=1,
    )
    model = EomtDinov3ForUniversalSegmentation(config).eval()
    randomise(model, 1)
    model.attn_mask_probs.zero_()
    folder.mkdir(parents=True)
    delta = to_original_delta(model.state_dict(), load_file(backbone / "model.safetensors"))
    torch.save(delta, folder / "pytorch_model.bin")
    return model


def _processor() -> EomtImageProcessor:
    return EomtImageProcessor(size={"shortest_edge": 32, "longest_edge": 32}, do_pad=True)
