"""Start from a backbone: DINOv2 with registers or DINOv3, as Meta published them in transformers' layout.

`from_backbone` makes a model to train: the backbone's weights and random heads. `load_delta` makes a trained model from
an original DINOv3 file, which holds only the difference to the backbone. B, P, D as in `eomt.modeling`.
"""

import re
from os import PathLike
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from eomt.checkpoint import build_model, check_keys
from eomt.configuration import EomtConfig
from eomt.conversion import from_original, split_packed_swiglu
from eomt.dinov3 import EomtDinov3Config, EomtDinov3ForUniversalSegmentation
from eomt.errors import CheckpointError, ConfigError
from eomt.hub import HubOptions, find_file, place, read_json
from eomt.modeling import EomtForUniversalSegmentation
from eomt.weight_files import read_weights

BACKBONE_TYPES = ("dinov2_with_registers", "dinov3_vit")
"""The `model_type` of the backbones that can be started from."""

# Name in the backbone's file -> in ours.
_DINOV2_NAMES = (
    (r"^encoder\.layer\.", "layers."),
    (r"\.attention\.attention\.query\.", ".attention.q_proj."),
    (r"\.attention\.attention\.key\.", ".attention.k_proj."),
    (r"\.attention\.attention\.value\.", ".attention.v_proj."),
    (r"\.attention\.output\.dense\.", ".attention.out_proj."),
)
_DINOV3_NAMES = ((r"^layer\.", "layers."), (r"^norm\.", "layernorm."))

_DINOV2_SETTINGS = ("mlp_ratio", "use_swiglu_ffn")
_DINOV3_SETTINGS = (
    *("intermediate_size", "use_gated_mlp", "query_bias", "key_bias", "value_bias", "proj_bias", "mlp_bias"),
    *("rope_theta", "rope_parameters", "pos_embed_shift", "pos_embed_jitter", "pos_embed_rescale"),
)
_SHARED_SETTINGS = (
    *("hidden_size", "num_hidden_layers", "num_attention_heads", "num_register_tokens", "num_channels"),
    *("hidden_act", "layer_norm_eps"),
)
_QUERY_BLOCKS = {12: 3, 24: 4, 40: 5}  # by depth, in the published models
_BACKBONE_PREFIXES = ("embeddings.", "layers.", "layernorm.")


def from_backbone(
    id_or_folder: str | PathLike[str],
    *,
    image_size: int | tuple[int, int] = 640,
    patch_size: int = 16,
    options: HubOptions | None = None,
    **settings: Any,
) -> EomtForUniversalSegmentation:
    """A model to train, in training mode, whose ViT has a backbone's weights and whose heads are random.

    The backbone is a `dinov2_with_registers` or `dinov3_vit` model (hub id or folder), such as
    "facebook/dinov2-with-registers-large". DINOv2's learned positions are resized to the image's grid (bicubic) and its
    patch projection to `patch_size`; the class token takes up its own position. DINOv3's positions need neither, and
    its projection is of 16 x 16 pixels already.

    settings: of `EomtConfig` or `EomtDinov3Config`, such as `id2label` or `num_queries`; they take precedence

    Raises `CheckpointError` where the files are missing, of another model, or do not fit.
    """
    config, weights = _read_backbone(
        id_or_folder, {"image_size": image_size, "patch_size": patch_size, **settings}, options
    )
    model = (
        EomtDinov3ForUniversalSegmentation(config)
        if isinstance(config, EomtDinov3Config)
        else EomtForUniversalSegmentation(config)
    )
    expected = {key: tensor for key, tensor in model.state_dict().items() if key.startswith(_BACKBONE_PREFIXES)}
    check_keys(weights, expected, str(id_or_folder))
    model.load_state_dict(weights, strict=False)
    return model


def load_delta(
    id_or_folder: str | PathLike[str],
    backbone: str | PathLike[str],
    *,
    image_size: int | tuple[int, int],
    options: HubOptions | None = None,
    **settings: Any,
) -> EomtDinov3ForUniversalSegmentation:
    """A trained EoMT on DINOv3, in eval mode, from the original's `pytorch_model.bin` and the backbone it started from.

    The file adds to the backbone's weights and holds its heads as they are. Its mask probabilities are differences too
    and its training ended with none, so they become zeros.

    image_size: which the weights do not tell; 640, 1280 or 512 in the published names
    settings: of `EomtDinov3Config`, such as `id2label`
    """
    published = from_original(read_weights(id_or_folder, options))
    heads = {key: tensor for key, tensor in published.items() if not key.startswith(_BACKBONE_PREFIXES)}
    try:
        implied = {
            "num_queries": heads["query.weight"].shape[0],
            "num_labels": heads["class_predictor.weight"].shape[0] - 1,
            "num_blocks": heads["attn_mask_probs"].shape[0],
            "num_upscale_blocks": sum(key.endswith(".conv2.weight") for key in heads),
        }
    except KeyError as error:
        raise CheckpointError(f"{place(id_or_folder)} is not an original EoMT file: it has no {error}.") from error
    if "id2label" in settings:
        del implied["num_labels"]
    config, weights = _read_backbone(backbone, {"image_size": image_size, **implied, **settings}, options)
    if not isinstance(config, EomtDinov3Config):
        raise CheckpointError(f"{place(backbone)} is not a DINOv3 backbone, to which {id_or_folder} could be added.")
    delta = {key: tensor for key, tensor in published.items() if key.startswith(_BACKBONE_PREFIXES)}
    check_keys(delta, weights, f"{id_or_folder} on {backbone}")
    state = heads | {key: weights[key] + difference for key, difference in delta.items()}
    state["attn_mask_probs"] = torch.zeros(config.num_blocks)
    state.pop("criterion.empty_weight", None)
    return build_model(EomtDinov3ForUniversalSegmentation, config, state, f"{id_or_folder} on {backbone}")


def _read_backbone(
    id_or_folder: str | PathLike[str], settings: dict[str, Any], options: HubOptions | None
) -> tuple[EomtConfig, dict[str, Tensor]]:
    """The configuration of an EoMT on this backbone, and the backbone's weights under our names and in our sizes."""
    path = find_file(id_or_folder, "config.json", options)
    values = read_json(path)
    model_type = values.get("model_type")
    if model_type not in BACKBONE_TYPES:
        raise CheckpointError(
            f"{path} describes a {model_type!r} model; a backbone is 'dinov2_with_registers' or 'dinov3_vit'."
        )
    weights = read_weights(id_or_folder, options)
    weights.pop("embeddings.mask_token", None)  # for pre-training only
    is_dinov3 = model_type == "dinov3_vit"
    names = _SHARED_SETTINGS + (_DINOV3_SETTINGS if is_dinov3 else _DINOV2_SETTINGS)
    kept = {name: values[name] for name in names if name in values}
    kept["num_blocks"] = _QUERY_BLOCKS.get(kept.get("num_hidden_layers", 0), 1)
    config_class = EomtDinov3Config if is_dinov3 else EomtConfig
    try:
        config = config_class.from_dict({**kept, **settings})
    except ConfigError as error:
        raise CheckpointError(f"{path} and the given settings make no EoMT: {error}") from error
    if config.extra:
        raise TypeError(f"{', '.join(config.extra)}: not an argument of {config_class.__name__}.")
    if is_dinov3:
        return config, _renamed(weights, _DINOV3_NAMES)
    return config, _fit_dinov2(split_packed_swiglu(_renamed(weights, _DINOV2_NAMES)), config, place(id_or_folder))


def _renamed(weights: dict[str, Tensor], names: tuple[tuple[str, str], ...]) -> dict[str, Tensor]:
    renamed = {}
    for key, tensor in weights.items():
        for pattern, name in names:
            key = re.sub(pattern, name, key)
        renamed[key] = tensor
    return renamed


def _fit_dinov2(weights: dict[str, Tensor], config: EomtConfig, source: str) -> dict[str, Tensor]:
    """Give the class token its position, and the patches positions and a projection of the new sizes."""
    projection = "embeddings.patch_embeddings.projection.weight"
    try:
        positions = weights.pop("embeddings.position_embeddings")  # (1, 1+P, D)
        fitted = {
            "embeddings.cls_token": weights["embeddings.cls_token"] + positions[:, :1],
            "embeddings.position_embeddings.weight": resize_positions(positions[0, 1:], config.grid_size),
            projection: resize_patch_projection(weights[projection], config.patch_size_hw),
        }
    except KeyError as error:
        raise CheckpointError(f"{source} is not a DINOv2 backbone: it has no {error}.") from error
    return weights | fitted


def resize_positions(positions: Tensor, grid_size: tuple[int, int]) -> Tensor:
    """Position embeddings (P, D) of a square grid, row by row, for another grid of (rows, columns); bicubic.

    Source: DINOv2's own handling of other image sizes, antialiased as in its version with registers.
    """
    side = round(len(positions) ** 0.5)
    if (side, side) == grid_size:
        return positions
    grid = positions.float().T.reshape(1, -1, side, side)  # (1, D, side, side)
    resized = F.interpolate(grid, size=grid_size, mode="bicubic", antialias=True)
    return resized.flatten(2)[0].T.to(positions.dtype).contiguous()  # (rows * columns, D)


def resize_patch_projection(weight: Tensor, patch_size: tuple[int, int]) -> Tensor:
    """Patch projection (D, C, h, w) for patches of another size, such that a patch and its enlargement project alike.

    The new weights are the least-squares solution of <enlarged patch, new> = <patch, old> for all patches, with bicubic
    resampling. Source: Beyer et al. 2023 (FlexiViT), section 3.4.
    """
    height, width = weight.shape[2:]
    if (height, width) == patch_size:
        return weight
    patches = torch.eye(height * width, dtype=torch.float64).reshape(-1, 1, height, width)
    enlarged = F.interpolate(patches, size=patch_size, mode="bicubic", antialias=True).flatten(1)  # (h*w, h'*w')
    new: Tensor = weight.double().flatten(2) @ torch.linalg.pinv(enlarged).T  # (D, C, h'*w')
    return new.reshape(*new.shape[:2], *patch_size).to(weight.dtype)
