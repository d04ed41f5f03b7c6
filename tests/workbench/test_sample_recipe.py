"""The recipe of the bundled checkpoint, which `make checkpoint` runs: both halves train, and make what is bundled."""

import json
import tomllib
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from eomt.modeling import EomtForUniversalSegmentation
from workbench.cli import main
from workbench.prediction.checkpoint import BUNDLED_CHECKPOINTS
from workbench.prediction.defaults import BUNDLED_MODEL
from workbench.sample.classes import CLASSES
from workbench.sample.publish import publish

REPOSITORY = Path(__file__).parents[2]
RECIPES = REPOSITORY / "workbench" / "sample" / "recipes"


def train(recipe: str, *arguments: object) -> None:
    """A recipe with its data replaced by the bundled images, for one step of one image."""
    few = ("--dataset", "scenes_val", "--val", "scenes_val", "--eval-limit", 1, "--steps", 1, "--batch-size", 1)
    command = ["train", "--recipe", str(RECIPES / recipe), *map(str, (*few, *arguments))]
    result = CliRunner().invoke(main, command, catch_exceptions=False)
    assert result.exit_code == 0, result.stderr


def test_both_halves_of_the_recipe_train_a_model_that_can_be_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(REPOSITORY)  # where `make` runs
    train("stage1.toml", "--out", tmp_path / "stage1")
    train("stage2.toml", "--from", tmp_path / "stage1/last", "--out", tmp_path / "stage2")
    publish(tmp_path / "stage2/last", tmp_path / "published")
    model = EomtForUniversalSegmentation.from_pretrained(tmp_path / "published")
    assert model.dtype == torch.float16 and not model.attn_mask_probs.any()
    assert model.config.id2label == {index: scene_class.name for index, scene_class in enumerate(CLASSES)}
    bundled = BUNDLED_CHECKPOINTS / BUNDLED_MODEL
    for name in ("config.json", "preprocessor_config.json"):
        assert json.loads((tmp_path / "published" / name).read_text()) == json.loads((bundled / name).read_text())
    assert sum(path.stat().st_size for path in (tmp_path / "published").iterdir()) <= 12e6


def test_the_second_half_goes_on_where_the_first_ends() -> None:
    first, second = (tomllib.loads((RECIPES / f"stage{number}.toml").read_text()) for number in (1, 2))
    assert second["lr"] == pytest.approx(first["lr"] * first["lr-end"])
    assert first["annealing"][1] == 1 and second["annealing"] == [0, 0]
    assert (
        json.loads((RECIPES / "architecture.json").read_text())["image_size"] * first["scale"][1]
        == second["image-size"]
    )
