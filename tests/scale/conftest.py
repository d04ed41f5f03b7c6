"""The demo's run, made once: the bundled checkpoint over the bundled scenes, scored."""

from pathlib import Path

import pytest

import workbench
from workbench.runs import Run


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the cookbook's commands have been run: `runs/demo`, `runs/strict` and `lake/`."""
    folder = tmp_path_factory.mktemp("cookbook")
    for name, threshold in (("demo", None), ("strict", 0.98)):
        run = workbench.predict("scenes_val", out=folder / "runs" / name, threshold=threshold, progress=False)
        workbench.evaluate(run)
    workbench.export(folder / "runs" / "demo", "parquet", folder / "lake")
    workbench.export(folder / "runs" / "strict", "parquet", folder / "lake")
    return folder


@pytest.fixture(scope="session")
def demo_run(demo_folder: Path) -> Run:
    """The demo's run with its default thresholds. Read only."""
    return Run.open(demo_folder / "runs" / "demo")
