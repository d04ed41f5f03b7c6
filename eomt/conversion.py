"""Weights as other code names them, brought to the names of the published checkpoints.

Two sources: the original repository's files (tue-mps/eomt, whose backbone is timm's), and giants saved before their
feed-forward part was split.
"""

import math
import re

from torch import Tensor

from eomt.configuration import EomtConfig

# Original name -> published name, both without a trailing ".weight" or ".bias".
_MODULES = {
    "attn_mask_probs": "attn_mask_probs",
    "q": "query",
    "class_head": "class_predictor",
    "mask_head.0": "mask_head.fc1",
    "mask_head.2": "mask_head.fc2",
    "mask_head.4": "mask_head.fc3",
    "encoder.backbone.cls_token": "embeddings.cls_token",
    "encoder.backbone.reg_token": "embeddings.register_tokens",
    "encoder.backbone.pos_embed": "embeddings.position_embeddings.weight",
    "encoder.backbone.patch_embed.proj": "embeddings.patch_embeddings.projection",
    "encoder.backbone.norm": "layernorm",
    # DINOv3's, which come from transformers; the layers' names are the published ones already.
    "encoder.backbone.patch_embed.cls_token": "embeddings.cls_token",
    "encoder.backbone.patch_embed.register_tokens": "embeddings.register_tokens",
    "encoder.backbone.patch_embed.patch_embeddings": "embeddings.patch_embeddings",
}
# The same inside `encoder.backbone.blocks.N` -> `layers.N`, and inside `upscale.N` -> `upscale_block.block.N`.
_LAYER = {
    "norm1": "norm1",
    "attn.qkv": "attention.qkv",
    "attn.proj": "attention.out_proj",
    "ls1.gamma": "layer_scale1.lambda1",
    "norm2": "norm2",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
    "ls2.gamma": "layer_scale2.lambda1",
}
_DINOV3_LAYER = r"norm[12]|attention\.[qkvo]_proj|layer_scale[12]\.lambda1|mlp\.(gate|up|down)_proj"
_UPSCALE = {"conv1": "conv1", "conv2": "conv2", "norm": "layernorm2d"}

# Kept in the original's files and by the image processor here.
_DROPPED = ("encoder.pixel_mean", "encoder.pixel_std")

_HEAD_SIZE = 64  # of every DINOv2 backbone


def is_original(state: dict[str, Tensor]) -> bool:
    """Whether the names are those of the original repository."""
    return any(key.startswith("network.") for key in state)


def is_delta(state: dict[str, Tensor]) -> bool:
    """Whether this is an original file for DINOv3, which holds its backbone as the difference to Meta's."""
    return any(key.startswith("network.encoder.backbone.patch_embed.patch_embeddings.") for key in state)


def from_original(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of an original file under their published names.

    The packed query-key-value projections, and the giant's packed feed-forward weights, are cut into views. A name
    that the table lacks is kept as it is, so that loading reports it.
    """
    published: dict[str, Tensor] = {}
    for key, tensor in state.items():
        original = key.removeprefix("network.").replace("_orig_mod.", "")
        if original in _DROPPED:
            continue
        name = _published_name(original) or key
        if ".attention.qkv." in name:
            for part, chunk in zip("qkv", tensor.chunk(3), strict=True):
                published[name.replace("qkv", f"{part}_proj")] = chunk
        elif name == "embeddings.position_embeddings.weight":
            published[name] = tensor.squeeze(0)  # (1, P, D) -> (P, D)
        else:
            published[name] = tensor
    return _split_swiglu(published) if _is_gated(published) else published


def split_packed_swiglu(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename an older giant's `mlp.weights_in` (gate above up) and `mlp.weights_out`; anything else stays."""
    names = {"mlp.weights_in.": "mlp.fc1.", "mlp.weights_out.": "mlp.fc2."}
    if not any(".mlp.weights_in." in key for key in state):
        return state
    renamed = dict(state)
    for key in state:
        for old, new in names.items():
            if old in key:
                renamed[key.replace(old, new)] = renamed.pop(key)
    return _split_swiglu(renamed)


def infer_config(state: dict[str, Tensor]) -> EomtConfig:
    """The configuration that the shapes of published weights imply, for an original file without a `config.json`.

    Square images and heads of 64 channels are assumed, as in every DINOv2-based checkpoint; class names are not in
    the weights. Raises KeyError if one of the weights that it measures is not there.
    """
    patches, hidden_size = state["embeddings.position_embeddings.weight"].shape
    _, channels, patch_size, _ = state["embeddings.patch_embeddings.projection.weight"].shape
    gated = "layers.0.mlp.gate_proj.weight" in state
    mlp_ratio = 4 if gated else state["layers.0.mlp.fc1.weight"].shape[0] / hidden_size
    return EomtConfig(
        hidden_size=hidden_size,
        num_hidden_layers=_count(state, r"layers\.(\d+)\."),
        num_attention_heads=max(1, hidden_size // _HEAD_SIZE),
        image_size=math.isqrt(patches) * patch_size,
        patch_size=patch_size,
        num_channels=channels,
        mlp_ratio=int(mlp_ratio) if mlp_ratio == int(mlp_ratio) else mlp_ratio,
        use_swiglu_ffn=gated,
        num_register_tokens=state["embeddings.register_tokens"].shape[1],
        num_queries=state["query.weight"].shape[0],
        num_blocks=state["attn_mask_probs"].shape[0],
        num_upscale_blocks=_count(state, r"upscale_block\.block\.(\d+)\."),
        num_labels=state["class_predictor.weight"].shape[0] - 1,
    )


def _published_name(original: str) -> str | None:
    stem, dot, leaf = original.rpartition(".")
    if leaf not in ("weight", "bias"):
        stem, dot, leaf = original, "", ""
    if match := re.fullmatch(r"encoder\.backbone\.blocks\.(\d+)\.(.+)", stem):
        part = match[2] if re.fullmatch(_DINOV3_LAYER, match[2]) else _LAYER.get(match[2])
        module = f"layers.{match[1]}.{part}" if part else None
    elif match := re.fullmatch(r"upscale\.(\d+)\.(.+)", stem):
        module = f"upscale_block.block.{match[1]}.{_UPSCALE[match[2]]}" if match[2] in _UPSCALE else None
    else:
        module = _MODULES.get(stem)
    return module and f"{module}{dot}{leaf}"


def _is_gated(state: dict[str, Tensor]) -> bool:
    """A gated feed-forward part produces twice as many channels as it consumes: gate and up, packed."""
    wide, narrow = state.get("layers.0.mlp.fc1.weight"), state.get("layers.0.mlp.fc2.weight")
    return wide is not None and narrow is not None and wide.shape[0] == 2 * narrow.shape[1]


def _split_swiglu(state: dict[str, Tensor]) -> dict[str, Tensor]:
    split: dict[str, Tensor] = {}
    for key, tensor in state.items():
        if ".mlp.fc1." in key:
            gate, up = tensor.chunk(2)
            split[key.replace("fc1", "gate_proj")] = gate
            split[key.replace("fc1", "up_proj")] = up
        else:
            split[key.replace(".mlp.fc2.", ".mlp.down_proj.")] = tensor
    return split


def _count(state: dict[str, Tensor], pattern: str) -> int:
    return 1 + max((int(match[1]) for key in state if (match := re.match(pattern, key))), default=-1)
