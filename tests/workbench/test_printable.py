"""What others named cannot steer the terminal of those who look at it, nor turn the text of a report around."""

import json
import unicodedata
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.conftest import REPOSITORY
from tests.reference.few_scenes import coco_scenes
from workbench.cli import main
from workbench.cli.tables import table
from workbench.consoles import PrintableConsole
from workbench.printable import printable

EVIL = "cat\x1b]0;owned\x07\x1b[2J\u202etac\x9b1A"
SHOWN = r"cat\u001b]0;owned\u0007\u001b[2J\u202etac\u009b1A"


@pytest.fixture
def evil_dataset(tmp_path: Path) -> Path:
    definition = coco_scenes(tmp_path / "scenes", 2)
    annotations = definition.with_name("instances.json")
    content = json.loads(annotations.read_text())
    content["categories"][0]["name"] = EVIL
    annotations.write_text(json.dumps(content))
    return definition


def test_every_control_character_is_shown_as_its_code() -> None:
    for code in range(0x3000):
        character = chr(code)
        steers = unicodedata.category(character) == "Cc" and character not in "\n\t"
        turns = unicodedata.bidirectional(character) in {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
        assert printable(character) == (f"\\u{code:04x}" if steers or turns else character)


@pytest.mark.parametrize("text", ["Straße\n\tΔ 猫", "שלום", "👩‍🔬", r"a\b"])
def test_names_in_any_language_are_left_alone(text: str) -> None:
    assert printable(text) == text


def test_json_says_the_same_as_before() -> None:
    assert json.loads(printable(json.dumps({"name": EVIL}, ensure_ascii=False))) == {"name": EVIL}


def test_the_command_prints_names_without_their_codes(evil_dataset: Path) -> None:
    result = CliRunner().invoke(main, ["datasets", "show", str(evil_dataset)], color=True)
    assert result.exit_code == 0
    assert SHOWN in result.stdout
    assert printable(result.output) == result.output


def test_error_messages_too(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["datasets", "show", EVIL], color=True)
    assert result.exit_code == 1
    assert "owned" in result.stderr
    assert printable(result.output) == result.output


def test_json_of_the_command_is_the_name_itself(evil_dataset: Path) -> None:
    result = CliRunner().invoke(main, ["datasets", "show", str(evil_dataset), "--json"])
    assert json.loads(result.stdout)["categories"][0]["name"] == EVIL


def test_tables_show_names_printably_and_keep_their_own_bold(capsys: pytest.CaptureFixture[str]) -> None:
    console = PrintableConsole(force_terminal=True, color_system="standard", width=120)
    console.print(table("title", ("AP",), [(EVIL, {"AP": 0.5})]))
    out = capsys.readouterr().out
    assert SHOWN[:16] in out  # the column is as wide as the name itself
    assert "\x1b[1mtitle" in out
    assert not any(code in out for code in ("\x1b]", "\x07", "\x1b[2J", "\u202e"))


def test_every_console_is_a_printable_one() -> None:
    sources = [path for path in (REPOSITORY / "workbench").rglob("*.py") if path.name != "consoles.py"]
    assert not [path for path in sources if "rich.console import Console" in path.read_text(encoding="utf-8")]
