"""The cookbook's runs, made once: the bundled checkpoint over the bundled scenes, scored, and both in a lake."""

from pathlib import Path

import pytest

from tests.cookbook_document import DOCUMENT, run_commands
from workbench.runs import Run


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the cookbook's commands have been run: `runs/demo`, `runs/strict` and `lake/`. Read only."""
    folder = tmp_path_factory.mktemp("cookbook")
    run_commands(DOCUMENT.read_text(encoding="utf-8"), folder)
    return folder


@pytest.fixture(scope="session")
def demo_run(demo_folder: Path) -> Run:
    """The demo's run with its default thresholds. Read only."""
    return Run.open(demo_folder / "runs" / "demo")
