"""Weights under the original repository's names, and older giants', load to the last bit."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from eomt import CheckpointError, EomtConfig, EomtForUniversalSegmentation
from eomt.conversion import from_original, infer_config
from tests.reference.original_layout import to_original
from tests.reference.tiny_models import random_images, randomise

SETTINGS: dict[str, Any] = {
    "hidden_size": 128,
    "num_attention_heads": 2,
    "num_hidden_layers": 3,
    "num_blocks": 2,
    "image_size": 32,
    "patch_size": 8,
    "num_queries": 5,
    "num_labels": 3,
    "num_register_tokens": 2,
}
GATED = pytest.mark.parametrize("gated", [False, True], ids=["mlp", "swiglu"])


def tiny_model(**changes: Any) -> EomtForUniversalSegmentation:
    model = EomtForUniversalSegmentation(EomtConfig(**SETTINGS | changes)).eval()
    randomise(model, 0)
    model.attn_mask_probs.copy_(torch.tensor([0.25, 0.75]))
    return model


def assert_same_model(actual: EomtForUniversalSegmentation, expected: EomtForUniversalSegmentation) -> None:
    state = actual.state_dict()
    assert state.keys() == expected.state_dict().keys()
    assert all(torch.equal(state[key], tensor) for key, tensor in expected.state_dict().items())
    images = random_images(expected.config)
    with torch.no_grad():
        for model in (actual, expected):
            model.attn_mask_probs.fill_(1)
        assert torch.equal(actual(images).masks_queries_logits, expected(images).masks_queries_logits)


@GATED
def test_an_original_file_loads_bit_for_bit(tmp_path: Path, gated: bool) -> None:
    model = tiny_model(use_swiglu_ffn=gated)
    model.config.save_pretrained(tmp_path)
    torch.save(to_original(model.state_dict()), tmp_path / "pytorch_model.bin")
    assert_same_model(EomtForUniversalSegmentation.from_pretrained(tmp_path), model)


@GATED
def test_without_a_config_the_shapes_imply_it(tmp_path: Path, gated: bool) -> None:
    model = tiny_model(use_swiglu_ffn=gated, num_upscale_blocks=1)
    torch.save(to_original(model.state_dict()), tmp_path / "pytorch_model.bin")
    loaded = EomtForUniversalSegmentation.from_pretrained(tmp_path)
    assert loaded.config == model.config
    assert_same_model(loaded, model)


def test_the_originals_own_notes_are_not_taken_for_a_configuration(tmp_path: Path) -> None:
    model = tiny_model()
    (tmp_path / "config.json").write_text('{"image_size": 640, "num_queries": 5, "num_blocks": 2}')
    torch.save(to_original(model.state_dict()), tmp_path / "pytorch_model.bin")
    assert_same_model(EomtForUniversalSegmentation.from_pretrained(tmp_path), model)


def test_an_original_file_in_shards_loads(tmp_path: Path) -> None:
    model = tiny_model()
    state = to_original(model.state_dict())
    weight_map = {key: f"pytorch_model-0000{1 + index % 2}-of-00002.bin" for index, key in enumerate(state)}
    for name in set(weight_map.values()):
        torch.save({key: tensor for key, tensor in state.items() if weight_map[key] == name}, tmp_path / name)
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert_same_model(EomtForUniversalSegmentation.from_pretrained(tmp_path), model)


def test_the_published_large_model_is_recognised_by_its_shapes() -> None:
    config = EomtConfig.from_size("large", image_size=1280, num_labels=80)
    with torch.device("meta"):
        state = to_original(EomtForUniversalSegmentation(config).state_dict())
    assert infer_config(from_original(state)) == config


def test_names_of_a_compiled_model_and_a_trainers_wrapper_are_accepted(tmp_path: Path) -> None:
    model = tiny_model()
    model.config.save_pretrained(tmp_path)
    original = to_original(model.state_dict())
    wrapped = {key.replace("network.", "network._orig_mod."): tensor for key, tensor in original.items()}
    wrapped["criterion.empty_weight"] = model.criterion.empty_weight
    torch.save({"state_dict": wrapped}, tmp_path / "pytorch_model.bin")
    assert_same_model(EomtForUniversalSegmentation.from_pretrained(tmp_path), model)


def test_an_unknown_original_name_is_reported_as_it_stands(tmp_path: Path) -> None:
    model = tiny_model()
    model.config.save_pretrained(tmp_path)
    original = to_original(model.state_dict())
    original["network.encoder.backbone.blocks.0.attn.surprise"] = torch.zeros(1)
    del original["network.q.weight"]
    torch.save(original, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError) as error:
        EomtForUniversalSegmentation.from_pretrained(tmp_path)
    assert "1 missing: query.weight" in str(error.value)
    assert "1 unknown: network.encoder.backbone.blocks.0.attn.surprise" in str(error.value)


def test_shapes_that_imply_no_configuration_are_refused(tmp_path: Path) -> None:
    original = to_original(tiny_model().state_dict())
    del original["network.encoder.backbone.pos_embed"]
    torch.save(original, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"no config\.json, nor do its weights imply one .*position_embeddings"):
        EomtForUniversalSegmentation.from_pretrained(tmp_path)


def test_published_names_in_a_pickle_need_a_config(tmp_path: Path) -> None:
    model = tiny_model()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"no config\.json of an EoMT .*; without it, pass config"):
        EomtForUniversalSegmentation.from_pretrained(tmp_path)
    assert_same_model(EomtForUniversalSegmentation.from_pretrained(tmp_path, config=model.config), model)


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    tiny_model().config.save_pretrained(tmp_path)
    torch.save({"network.q.weight": Trap()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin"):
        EomtForUniversalSegmentation.from_pretrained(tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"not a pickle", pickle.dumps({"a": 1})])
def test_a_file_that_is_no_torch_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    tiny_model().config.save_pretrained(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin"):
        EomtForUniversalSegmentation.from_pretrained(tmp_path)


def test_a_pickle_of_other_things_is_refused(tmp_path: Path) -> None:
    tiny_model().config.save_pretrained(tmp_path)
    torch.save({"epoch": 3, "network.q.weight": torch.zeros(1)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="does not hold a state dict"):
        EomtForUniversalSegmentation.from_pretrained(tmp_path)


def test_an_older_giants_packed_feed_forward_weights_are_split(tmp_path: Path) -> None:
    model = tiny_model(use_swiglu_ffn=True)
    model.config.save_pretrained(tmp_path)
    packed = {}
    for key, tensor in model.state_dict().items():
        if "gate_proj" in key:
            packed[key.replace("gate_proj", "weights_in")] = torch.cat(
                [tensor, model.state_dict()[key.replace("gate_proj", "up_proj")]]
            )
        elif "up_proj" not in key:
            packed[key.replace("down_proj", "weights_out")] = tensor
    assert sum("weights_in.weight" in key for key in packed) == model.config.num_hidden_layers
    save_file(packed, tmp_path / "model.safetensors")
    assert_same_model(EomtForUniversalSegmentation.from_pretrained(tmp_path), model)
