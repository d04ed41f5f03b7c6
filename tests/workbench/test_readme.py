"""What the README shows works as it stands: its commands, its Python, its links."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from PIL import Image

from eomt import EomtForUniversalSegmentation
from workbench.cli import COMMANDS as KNOWN_COMMANDS
from workbench.cli import main
from workbench.prediction.checkpoint import BUNDLED_CHECKPOINTS

REPOSITORY = Path(__file__).parents[2]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
COMMANDS = re.findall(r"^\$ (workbench [^#\n]*)", README, re.MULTILINE)
NEEDS_DOWNLOADS = ("coco_val",)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("readme")


def test_its_commands_run_as_they_stand(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workplace)
    ran = 0
    for command in COMMANDS:
        arguments = shlex.split(command)[1:]
        if any(name in arguments for name in NEEDS_DOWNLOADS):
            assert arguments[0] in KNOWN_COMMANDS
            continue
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 0, f"{command}: {result.output}"
        ran += 1
    assert ran == 4  # predict, evaluate and report of that run, evaluate of the newest


# pycocotools' decode has not caught up with NumPy 2.
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")
def test_its_python_runs_after_its_commands(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workplace)
    results: dict[str, Any] = {}
    for block in PYTHON[:2]:
        exec(compile(block, "README.md", "exec"), results)
    assert results["mask"].shape == (results["row"].height, results["row"].width)
    assert results["mask"].sum() == results["row"].area
    assert len(results["large"])


def test_its_model_example_runs_with_a_local_checkpoint() -> None:
    block = PYTHON[2].replace("tue-mps/coco_panoptic_eomt_large_640", str(BUNDLED_CHECKPOINTS / "eomt_scenes_panoptic"))
    names: dict[str, Any] = {"image": Image.open(next((REPOSITORY / "datasets/scenes/images").glob("*.jpg")))}
    exec(compile(block, "README.md", "exec"), names)
    assert isinstance(names["model"], EomtForUniversalSegmentation)
    assert names["panoptic"]["segmentation"].shape == (names["image"].height, names["image"].width)
    assert names["panoptic"]["segments_info"]


def test_its_links_lead_somewhere() -> None:
    links = re.findall(r"\]\((?!https:)([^)#]+)", README)
    assert links
    assert [link for link in links if not (REPOSITORY / link).exists()] == []


def test_its_table_names_every_command() -> None:
    shown = set(re.findall(r"`([a-z]+)`", README.split("## What is in the box")[1].split("Every command")[0]))
    assert set(KNOWN_COMMANDS) - {"demo", "parity", "sample"} <= shown
