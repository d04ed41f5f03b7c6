"""The recipe of the bundled checkpoint, which `make checkpoint` runs: both halves train, and fit together."""

import json
import tomllib
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from eomt.image_processing import EomtImageProcessor
from eomt.modeling import EomtForUniversalSegmentation
from workbench.cli import main
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
    processor = EomtImageProcessor.from_pretrained(tmp_path / "published")
    assert processor.size == {"shortest_edge": 192, "longest_edge": 192} and processor.do_pad
    assert sum(path.stat().st_size for path in (tmp_path / "published").iterdir()) <= 12e6


def test_the_second_half_goes_on_where_the_first_ends() -> None:
    first, second = (tomllib.loads((RECIPES / f"stage{number}.toml").read_text()) for number in (1, 2))
    assert second["lr"] == pytest.approx(first["lr"] * first["lr-end"])
    assert first["annealing"][1] == 1 and second["annealing"] == [0, 0]
    assert (
        json.loads((RECIPES / "architecture.json").read_text())["image_size"] * first["scale"][1]
        == second["image-size"]
    )
