"""The command line: every command explains itself, errors are one message, and start-up is quick."""

import inspect
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from eomt.errors import CheckpointError
from tests.cli_reference import all_commands, reference
from tests.conftest import REPOSITORY
from tests.reference.few_scenes import coco_scenes
from workbench import cli
from workbench.errors import RunError
from workbench.prediction.defaults import BUNDLED_MODEL

LEAVES = [(name, command) for name, command, _ in all_commands() if not isinstance(command, click.Group)]
HEAVY = ("torch", "numpy", "pandas", "pyarrow", "pycocotools", "scipy", "numba", "PIL", "rich", "huggingface_hub")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, list(arguments))


def imported_by(code: str, names: Sequence[str]) -> list[str]:
    """Which of the modules a fresh interpreter has imported after running `code`."""
    report = f"import sys, json\nsys.stderr.write(json.dumps([name for name in {names!r} if name in sys.modules]))"
    process = subprocess.run([sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=True)
    names_found: list[str] = json.loads(process.stderr)
    return names_found


def heavy_imports_of(arguments: Sequence[str], names: Sequence[str]) -> list[str]:
    return imported_by(f"from workbench.cli import main\nmain({list(arguments)!r}, standalone_mode=False)", names)


def test_the_reference_page_is_what_the_commands_say() -> None:
    page = (REPOSITORY / "docs" / "cli.md").read_text(encoding="utf-8")
    assert page == reference(), "docs/cli.md is stale: run `make docs`"


@pytest.mark.parametrize(("name", "command"), LEAVES, ids=[name for name, _ in LEAVES])
def test_every_command_has_help_an_example_and_described_options(name: str, command: click.Command) -> None:
    assert command.help
    assert f"\n{name}" in inspect.cleandoc(command.help), f"no line of the help of `{name}` is an example of it"
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{name} {parameter.opts[0]}"


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_the_summary_in_the_list_goes_with_a_command_that_exists(name: str) -> None:
    command = cli.main.get_command(click.Context(cli.main), name)
    assert command is not None
    assert command.name == name
    assert cli.COMMANDS[name][1].endswith(".")


def test_help_is_quick() -> None:
    seconds = []
    for _ in range(3):
        before = _work_of_children()
        subprocess.run([sys.executable, "-m", "workbench", "--help"], capture_output=True, check=True)
        seconds.append(_work_of_children() - before)
    # Measured 0.05 s; this leaves room for a slow machine, but not for torch or pandas.
    assert min(seconds) < 0.3


def _work_of_children() -> float:
    """Seconds of the processor, which other programs do not lengthen as they do those of the clock."""
    times = os.times()
    return times.children_user + times.children_system


def test_the_list_of_commands_imports_nothing_heavy() -> None:
    assert heavy_imports_of(["--help"], HEAVY) == []


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_the_help_of_a_command_imports_neither_torch_nor_pandas(name: str) -> None:
    assert heavy_imports_of([name, "--help"], ("torch", "pandas", "numba", "pyarrow")) == []


def test_importing_the_package_imports_nothing_heavy() -> None:
    assert imported_by("import workbench", HEAVY) == []


def test_every_public_name_can_be_imported() -> None:
    import workbench

    for name in workbench.__all__:
        assert getattr(workbench, name) is not None
    assert set(workbench.__all__) <= set(dir(workbench))
    with pytest.raises(AttributeError, match="no attribute 'predicted'"):
        _ = workbench.predicted


def test_an_unknown_command_gets_a_suggestion() -> None:
    result = run("predcit")
    assert result.exit_code == 2
    assert "no command 'predcit'. Did you mean 'predict'?" in result.stderr


def test_an_unknown_option_gets_a_suggestion() -> None:
    result = run("predict", "--datset", "x")
    assert result.exit_code == 2
    assert "--dataset" in result.stderr


def test_an_unknown_dataset_is_one_message() -> None:
    result = run("predict", "--dataset", "scene_val")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("Error: no dataset 'scene_val'. Did you mean 'scenes_val'?")
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("raised", "code", "told"),
    [
        (RunError("runs/a: in use."), 1, "Error: runs/a: in use.\n"),
        (CheckpointError("x: damaged."), 1, "Error: x: damaged.\n"),
        (KeyboardInterrupt(), 130, "\nStopped.\n"),
        (KeyboardInterrupt("Stopped: 3 of 5."), 130, "\nStopped: 3 of 5.\n"),
    ],
)
def test_errors_become_a_message_and_an_exit_code(
    monkeypatch: pytest.MonkeyPatch, raised: BaseException, code: int, told: str
) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise raised

    monkeypatch.setattr("workbench.prediction.api.predict", fail)
    result = run("predict", "--dataset", "scenes_val")
    assert (result.exit_code, result.stdout, result.stderr) == (code, "", told)


def test_our_own_mistakes_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("workbench.prediction.api.predict", fail)
    assert isinstance(run("predict", "--dataset", "scenes_val").exception, ZeroDivisionError)


def test_options_that_contradict_the_task_are_misuse() -> None:
    result = run("predict", "--dataset", "scenes_val", "--task", "semantic", "--top-k", "5")
    assert result.exit_code == 2
    assert "--top-k 5 has no meaning for semantic segmentation" in result.stderr


@pytest.mark.parametrize("value", ["0", "-1", "2.5", "many"])
def test_a_batch_size_is_a_number_or_auto(value: str) -> None:
    result = run("predict", "--dataset", "scenes_val", "--batch-size", value)
    assert result.exit_code == 2
    assert "neither a whole number from 1 nor 'auto'" in result.stderr


def test_predict_prints_the_run_folder_and_tells_the_rest_on_stderr(in_empty_folder: Path) -> None:
    dataset = coco_scenes(in_empty_folder / "data", 3)
    result = run("predict", "--dataset", str(dataset), "--model", BUNDLED_MODEL)
    assert result.exit_code == 0
    assert result.stdout == f"runs/few_scenes-panoptic-{BUNDLED_MODEL}\n"
    assert "3/3 images" in result.stderr
    assert "3 images, " in result.stderr


def test_predict_fails_and_says_so_where_an_image_failed(in_empty_folder: Path) -> None:
    dataset = coco_scenes(in_empty_folder / "data", 8)
    for number in range(1, 8):
        (in_empty_folder / "data" / "images" / f"00000{number}.jpg").unlink()
    result = run("predict", "--dataset", str(dataset), "--model", BUNDLED_MODEL, "--out", "here", "--json")
    assert result.exit_code == 1
    summary = json.loads(result.stdout)
    assert {key: summary[key] for key in ("path", "status", "task", "images", "failed")} == {
        "path": "here",
        "status": "complete",
        "task": "panoptic",
        "images": 8,
        "failed": 7,
    }
    assert len(summary["errors"]) == 7
    assert "8 images, " in result.stderr
    assert "7 failed" in result.stderr
    assert result.stderr.count("No such file") == 5
    assert "... and 2 more: see the image table." in result.stderr


def test_the_demo_prints_metrics_and_where_the_files_are(in_empty_folder: Path) -> None:
    result = run("demo", "--out", "demo", "--json")
    assert result.exit_code == 0, result.stderr
    assert 0 < json.loads(result.stdout)["panoptic"]["all"]["pq"] < 1
    assert "$ workbench predict --dataset scenes_val" in result.stderr
    assert "pandas.read_parquet('demo/predictions')" in result.stderr
    assert (in_empty_folder / "demo" / "metrics.json").exists()
    assert (in_empty_folder / "reports" / "demo" / "index.html").exists()
