"""What commands print and how they end: narrow terminals, files that cannot be written, exit codes."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from tests.reference.few_scenes import coco_scenes
from workbench.cli import main
from workbench.cli.tables import table

NUMBERS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100", "gt")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def shell(command: str) -> subprocess.CompletedProcess[str]:
    line = f"set -o pipefail; {command.replace('workbench', f'{sys.executable} -m workbench')}"
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)


def rendered(columns: tuple[str, ...]) -> str:
    console = Console(width=80)
    rows = [(name, dict.fromkeys(columns, 1.0)) for name in ("all", "119 playingfield-other-merged")]
    with console.capture() as captured:
        console.print(table("Average precision by category (boundary)", columns, rows))
    return captured.get()


@pytest.mark.parametrize("columns", [NUMBERS, (*NUMBERS, "pq"), NUMBERS[:6]])
def test_tables_fit_eighty_columns(columns: tuple[str, ...]) -> None:
    text = rendered(columns)
    assert "…" not in text
    assert text.count("100.00") == 2 * len(columns)
    assert all(column in text for column in columns if column != "pq")
    assert all(len(line) <= 80 for line in text.splitlines())


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (PermissionError(13, "Permission denied", "/proc/x"), "Error: /proc/x: Permission denied.\n"),
        (OSError("the share is gone"), "Error: the share is gone.\n"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_message(monkeypatch: pytest.MonkeyPatch, error: OSError, told: str) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise error

    monkeypatch.setattr("workbench.exports.api.export", fail)
    result = run("export", "runs/mine", "--format", "index-png", "--out", "/proc/x")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", told)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_a_full_disk_behind_stdout_is_one_message() -> None:
    done = shell("workbench datasets list > /dev/full")
    assert (done.returncode, done.stderr) == (1, "Error: No space left on device.\n")


def test_a_reader_that_goes_away_ends_the_command_quietly() -> None:
    done = shell("workbench datasets list --json | true")
    assert (done.returncode, done.stderr) == (141, "")


def test_a_run_after_confidence_is_told_what_to_write() -> None:
    result = run("evaluate", "--confidence", "runs/mine")
    assert result.exit_code == 2
    assert "'runs/mine' is no number. Put RUN before --confidence, or write --confidence=0.95." in result.stderr


@pytest.mark.parametrize("arguments", [(), ("predict",), ("train",)])
def test_help_says_what_an_exit_code_means(arguments: tuple[str, ...]) -> None:
    told = " ".join(run(*arguments, "--help").stdout.split())
    assert "1 a failure, names that are not found among them" in told
    assert "2 wrong options" in told


@pytest.mark.parametrize("group", ["models", "sample", "datasets"])
def test_lists_of_commands_cut_no_sentence_short(group: str) -> None:
    assert "..." not in run(group, "--help").stdout.split("Commands:")[1]


def test_replacing_a_definition_without_a_terminal_names_the_option(in_empty_folder: Path) -> None:
    definition = coco_scenes(in_empty_folder / "data", 1)
    arguments = ["datasets", "add", "mine", "--format", "images", "--root", str(definition.parent), "--images", "."]
    assert run(*arguments).exit_code == 0
    again = run(*arguments)
    assert again.exit_code == 1
    assert again.stderr.endswith("Error: nothing was written. To replace it without being asked, add --yes.\n")
    assert run(*arguments, "--yes").exit_code == 0
