"""`EomtConfig` has the documented arguments, reads and writes config.json, and refuses what makes no model."""

import json
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import pytest
import transformers

from eomt import CheckpointError, ConfigError, EomtConfig


def test_defaults_are_the_documented_ones() -> None:
    names = set(transformers.EomtConfig.__annotations__) - {"transformers_version"}
    assert len(names) > 20
    documented = transformers.EomtConfig()
    assert {name: getattr(EomtConfig(), name) for name in names} == {name: getattr(documented, name) for name in names}


def test_the_two_default_classes_are_those_of_transformers() -> None:
    assert EomtConfig().id2label == transformers.EomtConfig().id2label
    assert EomtConfig().label2id == transformers.EomtConfig().label2id
    assert EomtConfig().num_labels == 2


def test_num_labels_names_the_classes() -> None:
    config = EomtConfig(num_labels=3)
    assert config.id2label == {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}
    assert config.label2id == {"LABEL_0": 0, "LABEL_1": 1, "LABEL_2": 2}


def test_id2label_counts_the_classes() -> None:
    config = EomtConfig(id2label={0: "sky", 1: "cat"})
    assert config.num_labels == 2
    assert config.label2id == {"sky": 0, "cat": 1}


def test_other_classes_keep_the_architecture() -> None:
    config = EomtConfig(num_labels=3, num_queries=7).with_labels({0: "sky", 1: "cat"})
    assert (config.num_labels, config.label2id, config.num_queries) == (2, {"sky": 0, "cat": 1}, 7)


def test_a_saved_configuration_comes_back_equal(tmp_path: Path) -> None:
    config = EomtConfig(id2label={0: "sky", 1: "cat"}, image_size=(32, 64), use_swiglu_ffn=True, extra={"note": [1, 2]})
    config.save_pretrained(tmp_path)
    assert EomtConfig.from_pretrained(tmp_path) == config


def test_unknown_keys_are_kept_and_written_back() -> None:
    values = {"model_type": "eomt", "hidden_size": 32, "num_attention_heads": 2, "problem_type": None, "mine": {"a": 1}}
    config = EomtConfig.from_dict(values)
    assert config.extra == {"problem_type": None, "mine": {"a": 1}}
    assert config.to_dict().items() >= values.items()


def test_transformers_reads_what_we_write(tmp_path: Path) -> None:
    config = EomtConfig(hidden_size=48, num_attention_heads=3, id2label={0: "sky", 1: "cat", 2: "dog"}, num_queries=7)
    config.save_pretrained(tmp_path)
    theirs = transformers.EomtConfig.from_pretrained(tmp_path)
    assert (theirs.hidden_size, theirs.num_attention_heads, theirs.num_queries) == (48, 3, 7)
    assert theirs.id2label == config.id2label
    assert theirs.label2id == config.label2id


def test_we_read_what_transformers_writes(tmp_path: Path) -> None:
    theirs = transformers.EomtConfig(hidden_size=48, num_attention_heads=3, num_labels=5, num_blocks=2, my_note="x")
    theirs.save_pretrained(tmp_path)
    config = EomtConfig.from_pretrained(tmp_path)
    assert (config.hidden_size, config.num_labels, config.num_blocks) == (48, 5, 2)
    assert config.id2label == theirs.id2label
    assert config.extra["my_note"] == "x"


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ("small", (384, 12, 6, 3, False)),
        ("base", (768, 12, 12, 3, False)),
        ("large", (1024, 24, 16, 4, False)),
        ("giant", (1536, 40, 24, 5, True)),
        ("L", (1024, 24, 16, 4, False)),
    ],
)
def test_published_sizes_are_known_by_name(size: str, expected: tuple[int, int, int, int, bool]) -> None:
    config = EomtConfig.from_size(size, image_size=1280, num_labels=133)
    assert (
        config.hidden_size,
        config.num_hidden_layers,
        config.num_attention_heads,
        config.num_blocks,
        config.use_swiglu_ffn,
    ) == expected
    assert (config.image_size, config.num_labels, config.patch_size) == (1280, 133, 16)


def test_the_giants_feed_forward_width_is_that_of_its_checkpoints() -> None:
    assert EomtConfig.from_size("giant").mlp_size == 4096


def test_a_pair_is_height_and_width() -> None:
    config = EomtConfig(image_size=[64, 96], patch_size=(16, 8))
    assert config.image_size == (64, 96)
    assert config.grid_size == (4, 12)
    assert config.num_patches == 48


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 100, "num_attention_heads": 16}, "hidden_size 100 is not divisible by num_attention_heads 16"),
        ({"image_size": 650}, "height 650 is not a multiple of the patch's, 16"),
        ({"image_size": (640, 650)}, "width 650"),
        ({"image_size": 0}, "image_size 0"),
        ({"image_size": "640"}, "image_size is '640'"),
        ({"num_blocks": 25}, "num_blocks 25 exceeds num_hidden_layers 24"),
        ({"num_queries": 0}, "num_queries is 0"),
        ({"num_queries": 1.5}, "num_queries is 1.5"),
        ({"num_register_tokens": -1}, "num_register_tokens is -1"),
        ({"hidden_act": "gleu"}, "Did you mean 'gelu'"),
        ({"drop_path_rate": 1}, "drop_path_rate is 1.0"),
        ({"class_weight": "2"}, "class_weight is .2.; it must be a number"),
        ({"num_labels": 0}, "numbered 0, 1, 2"),
        ({"num_labels": 3, "id2label": {0: "sky"}}, "num_labels is 3, but id2label names 1"),
        ({"id2label": {1: "sky", 2: "cat"}}, r"id2label has \[1, 2\]"),
    ],
)
def test_what_makes_no_model_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EomtConfig(**changes)


def test_an_unknown_size_is_refused_with_the_choices() -> None:
    with pytest.raises(ConfigError, match="'huge' is unknown; choose one of small, base, large, giant"):
        EomtConfig.from_size("huge")


def test_a_misspelt_argument_is_refused() -> None:
    with pytest.raises(TypeError, match="num_query"):
        EomtConfig(num_query=5)  # type: ignore[call-arg]


def test_a_valid_configuration_stays_valid() -> None:
    config = EomtConfig()
    with pytest.raises(FrozenInstanceError):
        config.num_queries = 0  # type: ignore[misc]
    with pytest.raises(ConfigError, match="num_queries is 0"):
        replace(config, num_queries=0)


def test_another_model_type_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mask2former"}))
    with pytest.raises(CheckpointError, match=r"config\.json: it describes a 'mask2former' model"):
        EomtConfig.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"), [("{", "not readable as JSON"), ("[1]", "JSON list, not an object"), ("\xff\xfe", "JSON")]
)
def test_a_bad_config_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(CheckpointError, match=message) as error:
        EomtConfig.from_pretrained(tmp_path)
    assert str(tmp_path / "config.json") in str(error.value)


def test_a_folder_without_config_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no config\.json") as error:
        EomtConfig.from_pretrained(tmp_path)
    assert str(tmp_path) in str(error.value)


def test_a_path_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="neither an existing folder nor a hub id"):
        EomtConfig.from_pretrained(tmp_path / "nowhere")
