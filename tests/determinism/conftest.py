"""A small data set, and runs of it that nothing disturbed."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.determinism.rounding import predict
from tests.reference.few_scenes import coco_scenes
from workbench.runs import Run

IMAGES = 11


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return coco_scenes(tmp_path_factory.mktemp("determinism") / "scenes", IMAGES)


@pytest.fixture(scope="session")
def undisturbed(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Run]:
    """The run of a task in one process, with one reader; made once."""
    made: dict[str, Run] = {}

    def run_of(task: str) -> Run:
        if task not in made:
            out = tmp_path_factory.mktemp("undisturbed") / task
            made[task] = predict(scenes, out, task, workers=1, batch_size=2)
        return made[task]

    return run_of
