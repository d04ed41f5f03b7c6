"""A model starts from Meta's backbones: its ViT computes what theirs does, at other image and patch sizes too."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import nn

from eomt import (
    CheckpointError,
    EomtDinov3Config,
    EomtDinov3ForUniversalSegmentation,
    EomtForUniversalSegmentation,
    from_backbone,
    load_delta,
)
from eomt.backbones import resize_patch_projection, resize_positions
from tests.reference.original_layout import to_original_delta
from tests.reference.tiny_models import random_images, randomise

SIZES: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 42,
    "patch_size": 14,
    "num_register_tokens": 4,
}


def save_dinov2(folder: Path, **changes: Any) -> nn.Module:
    model = transformers.Dinov2WithRegistersModel(transformers.Dinov2WithRegistersConfig(**SIZES | changes)).eval()
    randomise(model, 0)
    model.save_pretrained(folder)
    return model


def save_dinov3(folder: Path, **changes: Any) -> nn.Module:
    settings = SIZES | {"intermediate_size": 24, "patch_size": 16, "image_size": 48} | changes
    model = transformers.DINOv3ViTModel(transformers.DINOv3ViTConfig(**settings)).eval()
    randomise(model, 0)
    model.save_pretrained(folder)
    return model


def assert_same_tokens(model: EomtForUniversalSegmentation, backbone: nn.Module) -> None:
    """Up to where the queries join, the tokens are the backbone's."""
    images = random_images(model.config)
    with torch.no_grad():
        ours = model.eval()(images, output_hidden_states=True).hidden_states
        theirs = backbone(images, output_hidden_states=True).hidden_states
    depth = model.config.num_hidden_layers - model.config.num_blocks
    assert depth == 2
    for mine, reference in zip(ours[: depth + 1], theirs, strict=False):
        torch.testing.assert_close(mine, reference, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("gated", [False, True], ids=["mlp", "swiglu"])
@pytest.mark.parametrize("image_size", [42, 70, 28], ids=["same", "larger", "smaller"])
def test_dinov2_with_its_positions_resized(tmp_path: Path, image_size: int, gated: bool) -> None:
    backbone = save_dinov2(tmp_path, use_swiglu_ffn=gated)
    model = from_backbone(tmp_path, image_size=image_size, patch_size=14, num_queries=5, num_labels=3)
    assert type(model) is EomtForUniversalSegmentation
    assert model.training and model.config.num_labels == 3
    assert_same_tokens(model, backbone)


def test_dinov2s_final_norm_is_ours(tmp_path: Path) -> None:
    backbone = save_dinov2(tmp_path)
    model = from_backbone(tmp_path, image_size=32, patch_size=16)
    assert torch.equal(model.layernorm.weight, backbone.layernorm.weight)
    assert torch.equal(model.layernorm.bias, backbone.layernorm.bias)


def test_dinov3_at_any_image_size(tmp_path: Path) -> None:
    backbone = save_dinov3(tmp_path)
    model = from_backbone(tmp_path, image_size=(32, 64), num_queries=5, id2label={0: "sky", 1: "cat"})
    assert type(model) is EomtDinov3ForUniversalSegmentation
    assert model.config.layer_norm_eps == backbone.config.layer_norm_eps == 1e-5
    assert_same_tokens(model, backbone)


def test_a_projection_for_larger_patches_sees_in_an_enlarged_patch_what_the_old_one_saw() -> None:
    torch.manual_seed(0)
    weight, patch = torch.randn(5, 3, 14, 14), torch.randn(2, 3, 14, 14)
    new = resize_patch_projection(weight, (16, 16))
    enlarged = nn.functional.interpolate(patch, size=(16, 16), mode="bicubic", antialias=True)
    torch.testing.assert_close(
        torch.einsum("bcij,dcij->bd", enlarged, new), torch.einsum("bcij,dcij->bd", patch, weight), rtol=1e-4, atol=1e-4
    )
    assert resize_patch_projection(weight, (14, 14)) is weight


def test_positions_keep_their_order() -> None:
    rows, columns = torch.meshgrid(torch.arange(4.0), torch.arange(4.0), indexing="ij")
    positions = torch.stack([rows, columns], dim=-1).flatten(0, 1)  # (P, 2)
    resized = resize_positions(positions, (8, 2)).reshape(8, 2, 2)
    assert (resized[1:, :, 0] > resized[:-1, :, 0]).all()
    assert (resized[:, 1, 1] > resized[:, 0, 1]).all()


def test_a_backbone_that_lacks_weights_is_refused_with_the_list(tmp_path: Path) -> None:
    save_dinov2(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    del state["encoder.layer.1.norm2.weight"]
    state["encoder.layer.1.surprise"] = torch.zeros(1)
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"missing: layers\.1\.norm2\.weight\n.*unknown: layers\.1\.surprise"):
        from_backbone(tmp_path, image_size=32)


def test_positions_that_are_missing_are_named(tmp_path: Path) -> None:
    save_dinov2(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    del state["embeddings.position_embeddings"]
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"not a DINOv2 backbone: it has no 'embeddings\.position_embeddings'"):
        from_backbone(tmp_path, image_size=32)


def test_another_kind_of_model_is_no_backbone(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit"}))
    with pytest.raises(CheckpointError, match="describes a 'vit' model; a backbone is 'dinov2_with_registers' or"):
        from_backbone(tmp_path)


def test_settings_that_make_no_model_are_refused(tmp_path: Path) -> None:
    save_dinov2(tmp_path)
    with pytest.raises(CheckpointError, match="make no EoMT: num_queries is 0"):
        from_backbone(tmp_path, num_queries=0)
    with pytest.raises(TypeError, match="num_query: not an argument of EomtConfig"):
        from_backbone(tmp_path, num_query=5)


@pytest.fixture
def trained(tmp_path: Path) -> EomtDinov3ForUniversalSegmentation:
    """A model, and in the folders `backbone` and `delta` the files that it can be made of."""
    backbone = save_dinov3(tmp_path / "backbone")
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "layer_norm_eps")
    settings = {name: getattr(backbone.config, name) for name in names}
    config = EomtDinov3Config(
        **settings, image_size=32, num_queries=5, num_blocks=2, num_labels=3, num_upscale_blocks=1
    )
    model = EomtDinov3ForUniversalSegmentation(config).eval()
    randomise(model, 1)
    (tmp_path / "delta").mkdir()
    base = load_file(tmp_path / "backbone" / "model.safetensors")
    torch.save(to_original_delta(model.state_dict(), base), tmp_path / "delta" / "pytorch_model.bin")
    return model


def test_a_delta_is_added_to_its_backbone(trained: EomtDinov3ForUniversalSegmentation, tmp_path: Path) -> None:
    loaded = load_delta(tmp_path / "delta", tmp_path / "backbone", image_size=32)
    assert loaded.config == trained.config
    assert not loaded.training
    expected = trained.state_dict() | {"attn_mask_probs": torch.zeros(2)}
    for key, tensor in loaded.state_dict().items():
        torch.testing.assert_close(tensor, expected[key], rtol=0, atol=1e-6)
    names = load_delta(tmp_path / "delta", tmp_path / "backbone", image_size=64, id2label={0: "a", 1: "b", 2: "c"})
    assert (names.config.image_size, names.config.id2label[2]) == (64, "c")


def test_a_delta_alone_is_refused_with_the_way_out(trained: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"difference to a DINOv3 backbone.*eomt\.load_delta"):
        EomtDinov3ForUniversalSegmentation.from_pretrained(tmp_path / "delta")


def test_a_delta_for_another_backbone_is_refused(trained: nn.Module, tmp_path: Path) -> None:
    save_dinov3(tmp_path / "other", num_hidden_layers=4)
    with pytest.raises(CheckpointError, match=r"missing: layers\.3\."):
        load_delta(tmp_path / "delta", tmp_path / "other", image_size=32)
    save_dinov2(tmp_path / "dinov2")
    with pytest.raises(CheckpointError, match="not a DINOv3 backbone"):
        load_delta(tmp_path / "delta", tmp_path / "dinov2", image_size=28, patch_size=14)


def test_what_is_no_delta_is_refused(trained: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"not an original EoMT file: it has no 'query\.weight'"):
        load_delta(tmp_path / "backbone", tmp_path / "backbone", image_size=32)
