"""`workbench train` on the command line: what it prints, its recipe files, and its exit codes."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.reference.tiny_training import tiny_config
from workbench.cli import main


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["train", *arguments], catch_exceptions=False)


@pytest.fixture
def tiny(in_empty_folder: Path) -> str:
    return str(tiny_config(in_empty_folder))


def test_the_last_line_of_stdout_is_the_checkpoint_and_json_tells_more(tiny: str) -> None:
    arguments = ("--dataset", "scenes_val", "--config", tiny, "--steps", "2", "--batch-size", "2", "--out", "out")
    validated = (*arguments, "--val", "scenes_val", "--eval-limit", "2", "--eval-every", "2")
    plain = run(*validated)
    assert plain.exit_code == 0 and plain.stdout == "out/best\n"
    assert "best PQ" in plain.stderr and "at step 2" in plain.stderr
    told = json.loads(run(*validated, "--json").stdout)
    assert told["status"] == "complete" and told["checkpoint"] == "out/best" and told["metric"] == "PQ"


def test_a_recipe_gives_defaults_that_the_command_line_overrules(tiny: str) -> None:
    recipe = f'dataset = "scenes_val"\nconfig = "{tiny}"\nsteps = 3\nbatch-size = 1\nscale = [1.0, 2.0]\nema = 0.5\n'
    Path("recipe.toml").write_text(recipe)
    assert run("--recipe", "recipe.toml", "--steps", "2", "--out", "out").exit_code == 0
    identity = json.loads(Path("out/train.json").read_text())["identity"]
    assert identity["recipe"]["total_steps"] == 2 and identity["recipe"]["average_decay"] == 0.5
    assert identity["batch_size"] == 1 and identity["augmentation"]["scale"] == [1.0, 2.0]


@pytest.mark.parametrize(
    ("recipe", "message"),
    [("batchsize = 3", "unknown key 'batchsize'. Did you mean 'batch-size'"), ("steps = ", "not a readable TOML file")],
)
def test_a_recipe_that_cannot_be_read_is_misuse(in_empty_folder: Path, recipe: str, message: str) -> None:
    Path("recipe.toml").write_text(recipe)
    result = run("--recipe", "recipe.toml", "--dataset", "scenes_val")
    assert result.exit_code == 2 and message in result.stderr


def test_an_input_size_is_a_number_or_height_x_width(tiny: str) -> None:
    common = ("--dataset", "scenes_val", "--config", tiny, "--steps", "1", "--batch-size", "1", "--out", "out")
    assert run(*common, "--image-size", "24x32").exit_code == 0
    assert json.loads(Path("out/last/config.json").read_text())["image_size"] == [24, 32]
    wrong = run(*common, "--image-size", "24*32")
    assert wrong.exit_code == 2 and "such as 480x640" in wrong.stderr


def test_nowhere_to_start_from_is_misuse(in_empty_folder: Path) -> None:
    result = run("--dataset", "scenes_val")
    assert result.exit_code == 2 and "give one of --from" in result.stderr


def test_a_start_that_is_not_there_is_a_failure(in_empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    result = run("--dataset", "scenes_val", "--from", "./nothing_here")
    assert result.exit_code in (1, 2) and "nothing_here" in result.stderr
