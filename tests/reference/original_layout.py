"""The original repository's file layout (tue-mps/eomt, backbone by timm), made from published weights, rule by rule."""

import torch
from torch import Tensor


def to_original(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Published names and tensors as the original's `pytorch_model.bin` holds them."""
    original = {
        "network.encoder.pixel_mean": torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1),
        "network.encoder.pixel_std": torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1),
    }
    for key, tensor in state.items():
        if key == "criterion.empty_weight":
            continue
        if ".attention.k_proj." in key or ".attention.v_proj." in key or ".mlp.up_proj." in key:
            continue
        name = key
        if ".attention.q_proj." in key:
            tensor = torch.cat([state[key.replace("q_proj", part)] for part in ("q_proj", "k_proj", "v_proj")])
            name = name.replace("attention.q_proj", "attn.qkv")
        if ".mlp.gate_proj." in key:
            tensor = torch.cat([tensor, state[key.replace("gate_proj", "up_proj")]])
            name = name.replace("gate_proj", "fc1")
        if key == "embeddings.position_embeddings.weight":
            tensor, name = tensor[None], "encoder.backbone.pos_embed"
        name = name.replace("mlp.down_proj", "mlp.fc2")
        name = name.replace("attention.out_proj", "attn.proj")
        name = name.replace("layer_scale1.lambda1", "ls1.gamma").replace("layer_scale2.lambda1", "ls2.gamma")
        if name.startswith("layers."):
            name = name.replace("layers.", "encoder.backbone.blocks.", 1)
        if name.startswith("layernorm."):
            name = name.replace("layernorm.", "encoder.backbone.norm.", 1)
        name = name.replace("embeddings.cls_token", "encoder.backbone.cls_token")
        name = name.replace("embeddings.register_tokens", "encoder.backbone.reg_token")
        name = name.replace("embeddings.patch_embeddings.projection", "encoder.backbone.patch_embed.proj")
        name = name.replace("query.weight", "q.weight").replace("class_predictor", "class_head")
        name = name.replace("mask_head.fc1", "mask_head.0")
        name = name.replace("mask_head.fc2", "mask_head.2")
        name = name.replace("mask_head.fc3", "mask_head.4")
        name = name.replace("upscale_block.block", "upscale").replace("layernorm2d", "norm")
        original[f"network.{name}"] = tensor
    return original


def to_original_delta(state: dict[str, Tensor], base: dict[str, Tensor]) -> dict[str, Tensor]:
    """Published `eomt_dinov3` weights as the original's DINOv3 file: the backbone's minus `base` (Meta's names)."""
    original = {"criterion.empty_weight": torch.zeros(1)}
    heads = {}
    for key, tensor in state.items():
        if not key.startswith(("embeddings.", "layers.", "layernorm.")):
            heads[key] = tensor
        elif key.startswith("embeddings."):
            original[key.replace("embeddings.", "network.encoder.backbone.patch_embed.", 1)] = tensor - base[key]
        elif key.startswith("layers."):
            name = key.replace("layers.", "network.encoder.backbone.blocks.", 1)
            original[name] = tensor - base[key.replace("layers.", "layer.", 1)]
        else:
            name = key.replace("layernorm.", "network.encoder.backbone.norm.", 1)
            original[name] = tensor - base[key.replace("layernorm.", "norm.", 1)]
    return original | to_original(heads) | {"network.attn_mask_probs": -torch.ones(len(state["attn_mask_probs"]))}
