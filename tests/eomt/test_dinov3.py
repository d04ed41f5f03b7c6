"""EoMT on DINOv3 computes what transformers' `eomt_dinov3` computes, and its checkpoints load both ways."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from eomt import (
    CheckpointError,
    ConfigError,
    EomtDinov3Config,
    EomtDinov3ForUniversalSegmentation,
    EomtForUniversalSegmentation,
    load_model,
)
from eomt.dinov3 import patch_centres
from tests.reference.tiny_models import model_pair, random_dinov3_settings, random_images

SETTINGS: dict[str, Any] = {
    "hidden_size": 24,
    "num_attention_heads": 2,
    "num_hidden_layers": 3,
    "num_blocks": 2,
    "image_size": 32,
    "patch_size": 8,
    "num_queries": 6,
    "num_labels": 5,
    "intermediate_size": 40,
    "train_num_points": 40,
}


@pytest.mark.parametrize("seed", range(15))
def test_inference_equals_transformers(seed: int) -> None:
    ours, theirs = model_pair(random_dinov3_settings(seed), seed)
    images = random_images(ours.config, seed=seed)
    for prob in (0.0, 1.0):
        ours.attn_mask_probs.fill_(prob)
        theirs.attn_mask_probs.fill_(prob)
        with torch.no_grad():
            actual, expected = ours(images), theirs(images)
        for name in ("masks_queries_logits", "class_queries_logits", "last_hidden_state"):
            torch.testing.assert_close(actual[name], expected[name], rtol=0, atol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_training_equals_transformers_in_loss_and_gradients(seed: int) -> None:
    changes = {"pos_embed_shift": 0.1, "pos_embed_jitter": 1.2, "pos_embed_rescale": 2.0}
    ours, theirs = model_pair(SETTINGS | changes, seed)
    images, masks = random_images(ours.config, seed=seed), torch.zeros(2, 2, 32, 32)
    masks[:, 0, :16], masks[:, 1, 16:] = 1, 1
    losses, gradients = [], []
    for model in (ours.train(), theirs.train()):
        model.attn_mask_probs.copy_(torch.tensor([1.0, 0.5]))
        torch.manual_seed(seed)
        loss = model(images, list(masks), [torch.tensor([0, 3])] * 2).loss
        loss.backward()
        losses.append(loss.detach())
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    torch.testing.assert_close(*losses, rtol=1e-5, atol=1e-5)
    for name, gradient in gradients[1].items():
        scale = max(1.0, float(gradient.abs().max()))
        assert float((gradients[0][name] - gradient).abs().max()) / scale < 1e-5, name


def test_positions_matter_and_move_at_random_in_training_only() -> None:
    model, _ = model_pair(SETTINGS | {"pos_embed_rescale": 2.0})
    images = random_images(model.config)
    flipped = images.flip(-1)
    with torch.no_grad():
        assert not torch.allclose(model(images).masks_queries_logits.flip(-1), model(flipped).masks_queries_logits)
        assert torch.equal(model(images).last_hidden_state, model(images).last_hidden_state)
        assert not torch.equal(model.train()(images).last_hidden_state, model(images).last_hidden_state)


def test_patch_centres_go_row_by_row() -> None:
    expected = [[-0.5, -0.75], [-0.5, -0.25], [-0.5, 0.25], [-0.5, 0.75]]
    assert patch_centres((2, 4)).tolist() == expected + [[0.5, x] for _, x in expected]


@pytest.mark.parametrize("seed", [0, 1])
def test_checkpoints_load_both_ways_with_transformers(tmp_path: Path, seed: int) -> None:
    ours, theirs = model_pair(random_dinov3_settings(seed), seed)
    ours.save_pretrained(tmp_path / "ours", max_shard_size=8000)
    loaded, notes = transformers.EomtDinov3ForUniversalSegmentation.from_pretrained(
        tmp_path / "ours", output_loading_info=True
    )
    assert not any(notes.values()), notes
    theirs.save_pretrained(tmp_path / "theirs")
    for model in (loaded, load_model(tmp_path / "theirs")):
        assert model.state_dict().keys() == ours.state_dict().keys()
        assert all(torch.equal(model.state_dict()[key], value) for key, value in ours.state_dict().items())
        with torch.no_grad():
            images = random_images(ours.config)
            torch.testing.assert_close(model(images).class_queries_logits, ours(images).class_queries_logits)


@pytest.mark.parametrize("size", ["small", "base", "large"])
def test_every_size_has_the_weights_of_transformers(size: str) -> None:
    config = EomtDinov3Config.from_size(size, num_labels=133)
    with torch.device("meta"):
        ours = EomtDinov3ForUniversalSegmentation(config).state_dict()
        theirs = transformers.EomtDinov3ForUniversalSegmentation(
            transformers.EomtDinov3Config(**config.to_dict())
        ).state_dict()
    assert {key: tensor.shape for key, tensor in ours.items()} == {key: value.shape for key, value in theirs.items()}


def test_load_model_takes_the_class_that_fits(tmp_path: Path) -> None:
    model_pair(SETTINGS)[0].save_pretrained(tmp_path / "dinov3")
    plain = {key: value for key, value in SETTINGS.items() if key != "intermediate_size"}
    model_pair(plain)[0].save_pretrained(tmp_path / "plain")
    assert type(load_model(tmp_path / "dinov3")) is EomtDinov3ForUniversalSegmentation
    assert type(load_model(tmp_path / "plain")) is EomtForUniversalSegmentation
    config = EomtDinov3Config.from_pretrained(tmp_path / "dinov3")
    assert load_model(tmp_path / "dinov3", config=config).config is config


def test_the_other_class_refuses_and_names_the_way_out(tmp_path: Path) -> None:
    model_pair(SETTINGS)[0].save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"'eomt_dinov3' model, not an 'eomt' one\. \(eomt\.load_model"):
        EomtForUniversalSegmentation.from_pretrained(tmp_path)


def test_defaults_are_the_documented_ones() -> None:
    names = set(transformers.EomtDinov3Config.__annotations__) - {"transformers_version"}
    documented = transformers.EomtDinov3Config()
    ours = EomtDinov3Config()
    assert {name: getattr(ours, name) for name in names} == {name: getattr(documented, name) for name in names}


def test_an_older_files_rope_theta_is_read() -> None:
    config = EomtDinov3Config.from_dict({"model_type": "eomt_dinov3", "rope_theta": 50.0})
    assert config.rope_parameters == {"rope_type": "default", "rope_theta": 50.0}
    assert EomtDinov3Config.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 24, "num_attention_heads": 4}, "must be divisible by 4"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "'yarn' is unknown"),
    ],
)
def test_what_makes_no_rotation_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EomtDinov3Config(**changes)


def test_there_is_no_giant() -> None:
    with pytest.raises(ConfigError, match="'giant' has no DINOv3 version"):
        EomtDinov3Config.from_size("giant")
