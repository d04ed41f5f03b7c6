"""The same images, version and device give the same rows, byte for byte, whoever does the work and however often.

A way of predicting that must not move a bit is one entry of `WAYS`; another engine is one more.
"""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.determinism.rounding import TASKS, predict
from workbench.prediction import pipeline
from workbench.prediction.interrupt import Interrupted
from workbench.prediction.progress import Progress
from workbench.runs import Run

# Ray warns of its own settings.
pytestmark = pytest.mark.filterwarnings(r"ignore::DeprecationWarning:ray\.data\..*")

WAYS: dict[str, dict[str, Any]] = {
    "again": {"workers": 1},
    "two readers": {"workers": 2},
    "four readers": {"workers": 4},
    "two processes": {"processes": 2},
    "a Ray cluster": {"engine": "ray", "num_workers": 2, "device": "cpu"},
}
"""Options of `predict`."""
SLOW = ("two readers", "a Ray cluster")
"""That four readers and tests/workbench/test_engines.py promise too, but for the bytes of Ray's files."""


def files_of(run: Run, *folders: str) -> dict[str, bytes]:
    """Name and content of each shard."""
    return {
        f"{folder}/{path.name}": path.read_bytes()
        for folder in folders or ("predictions", "images")
        for path in sorted((run.path / folder).iterdir())
    }


def assert_same_rows(run: Run, expected: Run) -> None:
    """Column by column, RLE bytes and all; how rows are divided into shards may differ."""
    assert run.complete
    assert run.images().equals(expected.images())
    rows, expected_rows = run.segments(), expected.segments()
    assert rows.num_rows == expected_rows.num_rows > 0
    for name in expected_rows.column_names:
        assert rows[name].equals(expected_rows[name]), name


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three shards of eleven images."""
    monkeypatch.setattr(pipeline, "IMAGES_PER_SHARD", 4)
    monkeypatch.setattr(pipeline, "SECONDS_PER_SHARD", float("inf"))


@pytest.mark.parametrize("way", [pytest.param(way, marks=[pytest.mark.slow] if way in SLOW else []) for way in WAYS])
def test_rows_do_not_depend_on_who_predicts_them(
    way: str, scenes: Path, undisturbed: Callable[[str], Run], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if WAYS[way].get("engine") == "ray":
        request.getfixturevalue("ray_cluster")
    run = predict(scenes, tmp_path / "run", "panoptic", batch_size=2, **WAYS[way])
    assert_same_rows(run, undisturbed("panoptic"))
    assert files_of(run) == files_of(undisturbed("panoptic"))


@pytest.mark.parametrize("task", ["instance", "semantic"])
def test_nor_do_those_of_the_other_tasks(
    task: str, scenes: Path, undisturbed: Callable[[str], Run], tmp_path: Path
) -> None:
    run = predict(scenes, tmp_path / "run", task, batch_size=2, workers=4)
    assert_same_rows(run, undisturbed(task))
    assert files_of(run) == files_of(undisturbed(task))


def test_candidates_are_the_same_too(scenes: Path, undisturbed: Callable[[str], Run], tmp_path: Path) -> None:
    runs = [
        predict(scenes, tmp_path / f"{workers}", "panoptic", batch_size=2, workers=workers, keep_candidates=True)
        for workers in (1, 4)
    ]
    assert files_of(runs[0], "candidates") == files_of(runs[1], "candidates")
    assert_same_rows(runs[0], undisturbed("panoptic"))


@pytest.mark.parametrize("task", TASKS)
def test_the_number_of_threads_moves_no_bit(
    task: str, scenes: Path, undisturbed: Callable[[str], Run], tmp_path: Path
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        run = predict(scenes, tmp_path / "run", task, batch_size=2)
    finally:
        torch.set_num_threads(before)
    assert_same_rows(run, undisturbed(task))


class CtrlC(Progress):
    """Stops the prediction after so many images."""

    def __init__(self, after: int) -> None:
        self.after = after

    def advance(self, images: int) -> None:
        super().advance(images)
        if self.done - self.before >= self.after:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize(
    "ways",
    [("again", "four readers"), pytest.param(("two readers", "two processes"), marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("after", [1, 5])
def test_resumed_rows_are_those_of_an_undisturbed_run(
    ways: tuple[str, str], after: int, scenes: Path, undisturbed: Callable[[str], Run], tmp_path: Path
) -> None:
    first, then = (WAYS[way] for way in ways)
    with pytest.raises(Interrupted):
        predict(scenes, tmp_path / "run", "panoptic", batch_size=2, **first | {"progress": CtrlC(after)})
    done = Run.open(tmp_path / "run").images().num_rows
    assert after <= done < undisturbed("panoptic").images().num_rows
    assert_same_rows(predict(scenes, tmp_path / "run", "panoptic", **then), undisturbed("panoptic"))


def test_shards_that_were_lost_come_back_as_they_were(
    scenes: Path, undisturbed: Callable[[str], Run], tmp_path: Path
) -> None:
    run = predict(scenes, tmp_path / "run", "panoptic", batch_size=2)
    for folder in ("images", "predictions"):
        (run.path / folder / "part-00001.parquet").unlink()
    again = predict(scenes, tmp_path / "run", "panoptic")
    key = [("image_id", "ascending"), ("segment_id", "ascending")]
    assert again.segments().sort_by(key).equals(undisturbed("panoptic").segments().sort_by(key))
