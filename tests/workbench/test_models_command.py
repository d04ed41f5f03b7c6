"""`workbench models`: what is listed and shown, from folders, the bundle and a stand-in for the hub."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from eomt import CheckpointError, EomtConfig, EomtDinov3Config
from tests.reference.checkpoint_forms import NAMES, save_delta, save_original, save_published
from tests.reference.hub_server import Hub, serving_hub
from workbench import cli
from workbench.errors import ModelError
from workbench.models.listing import list_models
from workbench.models.published import ARCHITECTURES, PUBLISHED
from workbench.models.showing import describe
from workbench.prediction.checkpoint import open_checkpoint
from workbench.prediction.defaults import BUNDLED_MODEL, FAMILIES

LARGE = "tue-mps/coco_panoptic_eomt_large_640"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, ["models", *arguments])


def shown(*arguments: str) -> dict[str, Any]:
    result = run("show", *arguments, "--json")
    assert result.exit_code == 0, result.stderr
    told: dict[str, Any] = json.loads(result.stdout)
    return told


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with one checkpoint under a published id, and an empty local cache."""
    save_published(tmp_path / "hub" / LARGE)
    with serving_hub(tmp_path / "hub") as running:
        running.point_client_at(monkeypatch, tmp_path / "cache")
        yield running


def test_the_table_has_the_architectures_that_the_library_knows_by_size() -> None:
    for model in PUBLISHED:
        if model.size == "7b":
            continue  # no size of the library's
        config_class = EomtDinov3Config if model.backbone == "DINOv3" else EomtConfig
        config = config_class.from_size(model.size)
        for name in ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_blocks"):
            assert getattr(config, name) == getattr(model.architecture, name), (model.name, name)
    assert len({model.model_id for model in PUBLISHED}) == len(PUBLISHED) == 21
    assert {model.size for model in PUBLISHED} == set(ARCHITECTURES)


def test_names_and_columns_of_the_table_agree() -> None:
    for model in PUBLISHED:
        assert model.task in model.name
        assert model.size in model.name
        assert f"{model.image_size}" in model.name
        assert ("dinov3" in model.name) == (model.backbone == "DINOv3")
        assert model.num_labels == (
            {"panoptic": 133, "instance": 80}[model.task]
            if "coco" in model.name
            else 19
            if "city" in model.name
            else 150
        )


def test_every_default_model_is_in_the_table() -> None:
    defaults = {name for family in FAMILIES for name in family.models.values()}
    assert defaults <= {model.model_id for model in PUBLISHED}


def test_the_list_names_bundled_and_published_models_and_fetches_nothing(hub: Hub) -> None:
    listed = {model["id"]: model for model in list_models()}
    assert listed[BUNDLED_MODEL]["local"] == "bundled"
    assert listed[BUNDLED_MODEL]["image_size"] == [192, 192]
    assert listed[LARGE] == {
        "id": LARGE,
        "task": "panoptic",
        "size": "large",
        "image_size": [640, 640],
        "queries": 200,
        "blocks": 4,
        "labels": 133,
        "backbone": "DINOv2",
        "local": None,
    }
    assert hub.requests == []
    table = run("list").stdout.splitlines()
    assert len(table) == 1 + len(listed)
    assert table[0].split()[:3] == ["ID", "TASK", "SIZE"]
    assert json.loads(run("list", "--json").stdout) == list(listed.values())


def test_showing_a_published_model_fetches_nothing_until_told_to(hub: Hub) -> None:
    told = shown(LARGE)
    assert (told["source"], told["task"], told["published"]["hidden_size"]) == ("hub", "panoptic", 1024)
    assert (told["form"], told["parameters"], told["weights_sha256"], told["files"]) == (None, None, None, [])
    assert hub.requests == []
    assert "--download fetches them" in run("show", LARGE).stderr

    fetched = shown(LARGE, "--download")
    assert (fetched["form"], fetched["model_type"], fetched["labels"]) == ("published", "eomt", list(NAMES.values()))
    assert {Path(file["path"]).name for file in fetched["files"]} == {
        "config.json",
        "preprocessor_config.json",
        "model.safetensors",
    }
    assert {model["id"]: model["local"] for model in list_models()}[LARGE] == "weights"

    hub.requests.clear()
    assert shown(LARGE) == fetched
    assert hub.requests == []


def test_with_only_its_config_fetched_parameters_are_counted_from_that(hub: Hub, tmp_path: Path) -> None:
    EomtConfig.from_pretrained(LARGE)
    told = shown(LARGE)
    assert told["weights_sha256"] is None
    assert told["parameters"] == describe(str(tmp_path / "hub" / LARGE))["parameters"]
    assert {model["id"]: model["local"] for model in list_models()}[LARGE] == "config"


def test_the_form_of_a_folder_is_told(tmp_path: Path) -> None:
    models = {"published": save_published(tmp_path / "published"), "original": save_original(tmp_path / "original")}
    models["delta"] = save_delta(tmp_path / "delta", tmp_path / "backbone")
    for form, model in models.items():
        told = describe(str(tmp_path / form))
        assert (told["form"], told["source"], told["dtype"]) == (form, "folder", "float32")
        assert told["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert describe(str(tmp_path / "backbone"))["form"] == "backbone"
    assert describe(str(tmp_path / "backbone"))["model_type"] == "dinov3_vit"
    assert describe(str(tmp_path / "original"))["config"]["num_queries"] == 5  # as the shapes imply


def test_a_folder_without_weights_tells_what_its_config_says_and_an_empty_one_is_refused(tmp_path: Path) -> None:
    model = save_published(tmp_path / "published")
    (tmp_path / "published" / "model.safetensors").unlink()
    told = describe(str(tmp_path / "published"))
    assert (told["form"], told["weights_sha256"]) == (None, None)
    assert told["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="has no weights: neither"):
        describe(str(tmp_path / "empty"))


def test_the_bundled_checkpoint_is_shown_with_the_hash_that_runs_record() -> None:
    told = shown(BUNDLED_MODEL)
    assert told["source"] == "bundled"
    assert told["weights_sha256"] == open_checkpoint(BUNDLED_MODEL).weights_sha256()
    text = run("show", BUNDLED_MODEL).stdout
    assert "8 x 192" in text
    assert "12: person, " in text
    assert "pads, size" in text


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("someone/unknown", "not in the hub's local cache. Fetch it with --download"),
        ("no_such_folder", "neither a folder, nor a bundled checkpoint, nor a hub id"),
        ("a/b/c", "neither a folder, nor a bundled checkpoint, nor a hub id"),
    ],
)
def test_what_is_not_there_is_told_with_a_remedy(hub: Hub, name: str, message: str) -> None:
    result = run("show", name)
    assert result.exit_code == 1
    assert message in result.stderr


def test_convert_prints_the_folder_and_what_it_cost(tmp_path: Path) -> None:
    save_published(tmp_path / "panoptic")
    result = run("convert", str(tmp_path / "panoptic"), str(tmp_path / "out"), "--dtype", "float16")
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path / 'out'}\n")
    assert "published checkpoint of" in result.stderr
    again = run("convert", str(tmp_path / "panoptic"), str(tmp_path / "out"))
    assert again.exit_code == 2
    assert "replace it with --yes" in again.stderr
    made = json.loads(run("convert", str(tmp_path / "panoptic"), str(tmp_path / "out"), "--yes", "--json").stdout)
    assert (made["folder"], made["task"], made["largest_difference"]) == (str(tmp_path / "out"), "panoptic", 0)


def test_predicting_with_an_original_file_points_to_convert(tmp_path: Path) -> None:
    save_original(tmp_path / "original")
    with pytest.raises(ModelError, match=r"has no config\.json.*workbench models convert"):
        open_checkpoint(str(tmp_path / "original"))
