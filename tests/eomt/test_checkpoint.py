"""A checkpoint is read and written in the published layout, and anything that does not fit is refused by name."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from eomt import CheckpointError, CheckpointWarning, EomtConfig, EomtForUniversalSegmentation
from tests.reference.tiny_models import model_pair, random_images, random_settings, randomise

SETTINGS: dict[str, Any] = {
    "hidden_size": 16,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "num_blocks": 1,
    "image_size": 16,
    "patch_size": 8,
    "num_queries": 3,
    "num_labels": 2,
    "num_upscale_blocks": 1,
}

PUBLISHED = {
    "attn_mask_probs": (1,),
    "class_predictor.bias": (3,),
    "class_predictor.weight": (3, 16),
    "criterion.empty_weight": (3,),
    "embeddings.cls_token": (1, 1, 16),
    "embeddings.patch_embeddings.projection.bias": (16,),
    "embeddings.patch_embeddings.projection.weight": (16, 3, 8, 8),
    "embeddings.position_embeddings.weight": (4, 16),
    "embeddings.register_tokens": (1, 4, 16),
    "layernorm.bias": (16,),
    "layernorm.weight": (16,),
    "layers.0.attention.k_proj.bias": (16,),
    "layers.0.attention.k_proj.weight": (16, 16),
    "layers.0.attention.out_proj.bias": (16,),
    "layers.0.attention.out_proj.weight": (16, 16),
    "layers.0.attention.q_proj.bias": (16,),
    "layers.0.attention.q_proj.weight": (16, 16),
    "layers.0.attention.v_proj.bias": (16,),
    "layers.0.attention.v_proj.weight": (16, 16),
    "layers.0.layer_scale1.lambda1": (16,),
    "layers.0.layer_scale2.lambda1": (16,),
    "layers.0.mlp.fc1.bias": (64,),
    "layers.0.mlp.fc1.weight": (64, 16),
    "layers.0.mlp.fc2.bias": (16,),
    "layers.0.mlp.fc2.weight": (16, 64),
    "layers.0.norm1.bias": (16,),
    "layers.0.norm1.weight": (16,),
    "layers.0.norm2.bias": (16,),
    "layers.0.norm2.weight": (16,),
    "mask_head.fc1.bias": (16,),
    "mask_head.fc1.weight": (16, 16),
    "mask_head.fc2.bias": (16,),
    "mask_head.fc2.weight": (16, 16),
    "mask_head.fc3.bias": (16,),
    "mask_head.fc3.weight": (16, 16),
    "query.weight": (3, 16),
    "upscale_block.block.0.conv1.bias": (16,),
    "upscale_block.block.0.conv1.weight": (16, 16, 2, 2),
    "upscale_block.block.0.conv2.weight": (16, 1, 3, 3),
    "upscale_block.block.0.layernorm2d.bias": (16,),
    "upscale_block.block.0.layernorm2d.weight": (16,),
}
SWIGLU = {
    "layers.0.mlp.down_proj.bias": (16,),
    "layers.0.mlp.down_proj.weight": (16, 48),
    "layers.0.mlp.gate_proj.bias": (48,),
    "layers.0.mlp.gate_proj.weight": (48, 16),
    "layers.0.mlp.up_proj.bias": (48,),
    "layers.0.mlp.up_proj.weight": (48, 16),
}


def tiny_model(**changes: Any) -> EomtForUniversalSegmentation:
    model = EomtForUniversalSegmentation(EomtConfig(**SETTINGS | changes)).eval()
    randomise(model, 0)
    return model


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A folder with a tiny model in one weights file."""
    tiny_model().save_pretrained(tmp_path)
    return tmp_path


def rewrite(folder: Path, **changes: torch.Tensor | None) -> None:
    """Replace weights of a saved model, or take them away (None)."""
    state = load_file(folder / "model.safetensors") | changes
    save_file({key: tensor for key, tensor in state.items() if tensor is not None}, folder / "model.safetensors")


def assert_same_weights(actual: torch.nn.Module, expected: torch.nn.Module) -> None:
    assert actual.state_dict().keys() == expected.state_dict().keys()
    for key, tensor in expected.state_dict().items():
        assert torch.equal(actual.state_dict()[key], tensor), key


@pytest.mark.parametrize("gated", [False, True])
def test_weight_names_and_shapes_are_the_published_ones(gated: bool) -> None:
    model = tiny_model(num_hidden_layers=1, use_swiglu_ffn=gated)
    expected = PUBLISHED
    if gated:
        expected = {key: shape for key, shape in PUBLISHED.items() if ".fc1" not in key or "layers" not in key} | SWIGLU
        expected = {key: shape for key, shape in expected.items() if "layers.0.mlp.fc2" not in key}
    assert {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()} == expected


@pytest.mark.parametrize("shard_size", ["5GB", 8000], ids=["one-file", "sharded"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_transformers_loads_what_we_save(tmp_path: Path, seed: int, shard_size: int | str) -> None:
    ours, _ = model_pair(random_settings(seed), seed)
    ours.save_pretrained(tmp_path, max_shard_size=shard_size)
    theirs, notes = transformers.EomtForUniversalSegmentation.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(notes.values()), notes
    assert_same_weights(theirs, ours)
    images = random_images(ours.config)
    with torch.no_grad():
        expected, actual = ours(images), theirs(images)
    torch.testing.assert_close(actual.masks_queries_logits, expected.masks_queries_logits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(actual.class_queries_logits, expected.class_queries_logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shard_size", ["5GB", 8000], ids=["one-file", "sharded"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_we_load_what_transformers_saves(tmp_path: Path, seed: int, shard_size: int | str) -> None:
    _, theirs = model_pair(random_settings(seed), seed)
    theirs.save_pretrained(tmp_path, max_shard_size=shard_size)
    ours = EomtForUniversalSegmentation.from_pretrained(tmp_path)
    assert_same_weights(ours, theirs)
    assert not ours.training
    images = random_images(ours.config)
    with torch.no_grad():
        expected, actual = theirs(images), ours(images)
    torch.testing.assert_close(actual.masks_queries_logits, expected.masks_queries_logits, rtol=1e-5, atol=1e-5)


def test_a_saved_model_comes_back_with_its_configuration(tmp_path: Path) -> None:
    model = tiny_model(id2label={0: "sky", 1: "cat"}, extra={"mine": 1, "torch_dtype": "float16"})
    model.save_pretrained(tmp_path)
    loaded = EomtForUniversalSegmentation.from_pretrained(tmp_path)
    assert_same_weights(loaded, model)
    assert loaded.config.id2label == {0: "sky", 1: "cat"}
    assert loaded.config.extra == {"mine": 1, "architectures": ["EomtForUniversalSegmentation"], "dtype": "float32"}
    assert all(parameter.requires_grad for parameter in loaded.parameters())


def test_shards_hold_each_weight_once_and_stay_within_the_limit(tmp_path: Path) -> None:
    model = tiny_model()
    model.save_pretrained(tmp_path, max_shard_size=8000)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    shards = sorted(tmp_path.glob("*.safetensors"))
    assert len(shards) > 2
    held = [key for shard in shards for key in load_file(shard)]
    assert sorted(held) == sorted(index["weight_map"]) == sorted(model.state_dict())
    total = sum(tensor.nbytes for tensor in model.state_dict().values())
    assert index["metadata"]["total_size"] == total


def test_the_file_says_that_it_is_for_pytorch(saved: Path) -> None:
    with safe_open(saved / "model.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt"}  # transformers refuses a file without it


def test_saving_again_leaves_no_older_weights_behind(tmp_path: Path) -> None:
    model = tiny_model()
    model.save_pretrained(tmp_path, max_shard_size=8000)
    model.save_pretrained(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    model.save_pretrained(tmp_path, max_shard_size=8000)
    assert not (tmp_path / "model.safetensors").exists()
    assert_same_weights(EomtForUniversalSegmentation.from_pretrained(tmp_path), model)


def test_a_model_can_be_saved_over_the_files_that_it_is_mapped_from(saved: Path) -> None:
    loaded = EomtForUniversalSegmentation.from_pretrained(saved)
    with torch.no_grad():
        loaded.query.weight.add_(1)
    expected = {key: tensor.clone() for key, tensor in loaded.state_dict().items()}
    loaded.save_pretrained(saved)
    again = EomtForUniversalSegmentation.from_pretrained(saved).state_dict()
    assert all(torch.equal(again[key], tensor) for key, tensor in expected.items())
    assert all(torch.equal(tensor, expected[key]) for key, tensor in loaded.state_dict().items())


def test_training_a_loaded_model_leaves_its_file_alone(saved: Path) -> None:
    before = (saved / "model.safetensors").read_bytes()
    loaded = EomtForUniversalSegmentation.from_pretrained(saved)
    with torch.no_grad():
        for parameter in loaded.parameters():
            parameter.zero_()
    assert (saved / "model.safetensors").read_bytes() == before


def test_every_key_that_does_not_fit_is_listed_in_one_error(saved: Path) -> None:
    rewrite(
        saved,
        **{
            "query.weight": None,
            "layers.1.norm1.bias": None,
            "layers.7.norm1.bias": torch.zeros(16),
            "class_predictor.weight": torch.zeros(4, 16),
        },
    )
    with pytest.raises(CheckpointError) as error:
        EomtForUniversalSegmentation.from_pretrained(saved)
    message = str(error.value)
    assert message.startswith(str(saved))
    assert "2 missing: layers.1.norm1.bias, query.weight" in message
    assert "1 unknown: layers.7.norm1.bias" in message
    assert "1 misshapen: class_predictor.weight is (4, 16) and should be (3, 16)" in message


def test_a_long_list_of_keys_is_cut(saved: Path) -> None:
    rewrite(saved, **{f"surprise.{index:02}": torch.zeros(1) for index in range(25)})
    with pytest.raises(CheckpointError, match=r"25 unknown: surprise\.00, .*surprise\.19, \.\.\. \(5 more\)"):
        EomtForUniversalSegmentation.from_pretrained(saved)


def test_a_giants_weights_do_not_pass_for_another_models(tmp_path: Path) -> None:
    tiny_model(use_swiglu_ffn=True).save_pretrained(tmp_path)
    EomtConfig(**SETTINGS).save_pretrained(tmp_path)
    with pytest.raises(
        CheckpointError, match=r"missing: layers\.0\.mlp\.fc1\.bias.*\n.*unknown: layers\.0\.mlp\.down_proj"
    ):
        EomtForUniversalSegmentation.from_pretrained(tmp_path)


def test_the_weight_of_no_object_may_be_missing(saved: Path) -> None:
    rewrite(saved, **{"criterion.empty_weight": None})
    loaded = EomtForUniversalSegmentation.from_pretrained(saved)
    torch.testing.assert_close(loaded.criterion.empty_weight, torch.tensor([1, 1, 0.1]))


def test_missing_mask_probabilities_are_ones_and_said_so(saved: Path) -> None:
    rewrite(saved, attn_mask_probs=None)
    with pytest.warns(CheckpointWarning, match="attn_mask_probs is missing and taken as ones") as warned:
        loaded = EomtForUniversalSegmentation.from_pretrained(saved)
    assert warned[0].filename == __file__
    assert torch.equal(loaded.attn_mask_probs, torch.ones(1))


def test_weights_keep_their_dtype_unless_told_otherwise(tmp_path: Path) -> None:
    tiny_model().to(torch.bfloat16).save_pretrained(tmp_path)
    assert EomtForUniversalSegmentation.from_pretrained(tmp_path).dtype == torch.bfloat16
    assert EomtForUniversalSegmentation.from_pretrained(tmp_path, dtype=torch.float32).dtype == torch.float32
    assert EomtForUniversalSegmentation.from_pretrained(tmp_path, torch_dtype="float16").dtype == torch.float16


def test_casting_keeps_probabilities_and_loss_weights_exact(saved: Path) -> None:
    rewrite(saved, attn_mask_probs=torch.tensor([0.1]))
    loaded = EomtForUniversalSegmentation.from_pretrained(saved, dtype="bfloat16")
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.bfloat16}
    assert loaded.attn_mask_probs.tolist() == torch.tensor([0.1]).tolist()
    assert loaded.criterion.empty_weight.dtype == torch.float32


def test_a_dtype_that_holds_no_weights_is_refused(saved: Path) -> None:
    for dtype in ("int8", "float33", torch.int32):
        with pytest.raises(ValueError, match="not usable for weights"):
            EomtForUniversalSegmentation.from_pretrained(saved, dtype=dtype)


def test_loading_draws_no_random_numbers(saved: Path) -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    EomtForUniversalSegmentation.from_pretrained(saved)
    assert torch.equal(torch.rand(3), expected)


def test_a_given_configuration_replaces_the_files(saved: Path) -> None:
    (saved / "config.json").write_text("broken")
    config = EomtConfig(**SETTINGS).with_labels({0: "sky", 1: "cat"})
    assert EomtForUniversalSegmentation.from_pretrained(saved, config=config).config is config


def test_another_models_checkpoint_is_refused_by_its_type(saved: Path) -> None:
    (saved / "config.json").write_text(json.dumps({"model_type": "mask2former"}))
    with pytest.raises(CheckpointError, match="'mask2former'"):
        EomtForUniversalSegmentation.from_pretrained(saved)


def test_a_configuration_that_makes_no_model_is_refused_with_its_file(saved: Path) -> None:
    values = json.loads((saved / "config.json").read_text()) | {"num_attention_heads": 5}
    (saved / "config.json").write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match=r"config\.json: hidden_size 16 is not divisible"):
        EomtForUniversalSegmentation.from_pretrained(saved)


def test_a_folder_without_weights_names_the_files_it_looked_for(tmp_path: Path) -> None:
    EomtConfig(**SETTINGS).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"neither model\.safetensors nor pytorch_model\.bin, nor an index"):
        EomtForUniversalSegmentation.from_pretrained(tmp_path)


@pytest.mark.parametrize("kept", [0, 5, 100, -1])
def test_a_truncated_file_is_refused_by_name(saved: Path, kept: int) -> None:
    file = saved / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged or incomplete .*again"):
        EomtForUniversalSegmentation.from_pretrained(saved)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    tiny_model().save_pretrained(tmp_path, max_shard_size=8000)
    shard = sorted(tmp_path.glob("*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(CheckpointError, match=shard.name):
        EomtForUniversalSegmentation.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({"weight_map": {"query.weight": "../elsewhere.safetensors"}}, "outside its folder"),
        ({"weight_map": 3}, "no weight_map"),
        ([], "not an object"),
    ],
)
def test_a_bad_index_is_refused(saved: Path, index: Any, message: str) -> None:
    (saved / "model.safetensors").unlink()
    (saved / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=message):
        EomtForUniversalSegmentation.from_pretrained(saved)


@pytest.mark.parametrize("name", ["no-such-folder", "a/b/c", "owner/", "/no/such"])
def test_what_is_neither_folder_nor_hub_id_is_refused(name: str) -> None:
    with pytest.raises(CheckpointError, match="neither an existing folder nor a hub id"):
        EomtForUniversalSegmentation.from_pretrained(name)
