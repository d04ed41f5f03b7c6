"""A run that was killed or stopped at any moment resumes to the rows of an undisturbed one."""

import os
import random
import signal
import time
from pathlib import Path

import pytest

import workbench
from tests.reference.few_scenes import coco_scenes
from tests.reference.sessions import finish, start, wait_for
from workbench.prediction.defaults import BUNDLED_MODEL
from workbench.runs import Run

FOLDER = f"runs/few_scenes-panoptic-{BUNDLED_MODEL}"


def command(dataset: Path) -> list[str]:
    return ["predict", "--dataset", str(dataset), "--model", BUNDLED_MODEL]


def shard(number: int) -> str:
    return f"{FOLDER}/images/part-{number:05}.parquet"


def assert_same_rows(run: Run, undisturbed: Run) -> None:
    assert run.complete
    assert run.images().equals(undisturbed.images())
    assert run.segments().equals(undisturbed.segments())


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return coco_scenes(tmp_path_factory.mktemp("dataset") / "scenes", 23)


@pytest.fixture(scope="module")
def undisturbed(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("run") / "undisturbed"
    return workbench.predict(dataset, model=BUNDLED_MODEL, out=out, progress=False)


def kill_and_resume(dataset: Path, folder: Path, kills: int, seed: int) -> tuple[Run, int]:
    """Kill the command `kills` times, each after a shard and a random moment more, then let it finish."""
    draw = random.Random(seed)
    killed = 0
    for number in range(kills):
        process = start(folder, command(dataset))
        if draw.random() < 0.7:
            wait_for(folder / shard(number), process)
        time.sleep(draw.uniform(0, 0.2))
        process.kill()
        killed += finish(process) == -signal.SIGKILL
    assert finish(start(folder, command(dataset))) == 0
    return Run.open(folder / FOLDER), killed


def test_three_kills_cost_no_row_and_double_none(dataset: Path, undisturbed: Run, tmp_path: Path) -> None:
    run, killed = kill_and_resume(dataset, tmp_path / "here", kills=3, seed=0)
    assert killed == 3
    assert_same_rows(run, undisturbed)
    assert [path.name for path in (tmp_path / "here" / "runs").iterdir()] == [Path(FOLDER).name]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_ten_kills_cost_no_row_and_double_none(dataset: Path, undisturbed: Run, tmp_path: Path, seed: int) -> None:
    run, killed = kill_and_resume(dataset, tmp_path / "here", kills=10, seed=seed)
    assert killed >= 3
    assert_same_rows(run, undisturbed)


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_at_a_batch_and_the_same_command_goes_on(
    dataset: Path, undisturbed: Run, tmp_path: Path, signal_number: int
) -> None:
    process = start(tmp_path, command(dataset))
    assert wait_for(tmp_path / shard(0), process)
    assert process.pid is not None
    os.kill(process.pid, signal_number)
    assert finish(process) == 130
    told = (tmp_path / "stderr.txt").read_text()
    assert "Stopping after this batch" in told
    stopped = Run.open(tmp_path / FOLDER)
    assert not stopped.complete
    images = stopped.images().num_rows
    assert 0 < images < 23
    assert f"Stopped: {images} of 23 images are in {FOLDER}. Run the same command again to go on." in told
    assert (tmp_path / "stdout.txt").read_text() == ""

    assert finish(start(tmp_path, command(dataset))) == 0
    assert f"Resuming: {images} of 23 images are in." in (tmp_path / "stderr.txt").read_text()
    assert (tmp_path / "stdout.txt").read_text() == f"{FOLDER}\n"
    run = Run.open(tmp_path / FOLDER)
    assert_same_rows(run, undisturbed)
    sessions = run.manifest["provenance"]["sessions"]
    assert [session["images"] for session in sessions] == [images, 23 - images]


def test_a_run_in_progress_is_not_joined_by_a_second_process(dataset: Path, tmp_path: Path) -> None:
    first = start(tmp_path, command(dataset))
    assert wait_for(tmp_path / shard(0), first)
    second = start(tmp_path, command(dataset))
    assert finish(second) == 1
    assert f"in use by process {first.pid}" in (tmp_path / "stderr.txt").read_text()
    first.kill()
    finish(first)


def test_a_resume_keeps_the_batch_size_of_the_first_session(dataset: Path, tmp_path: Path) -> None:
    process = start(tmp_path, [*command(dataset), "--batch-size", "3"])
    assert wait_for(tmp_path / shard(1), process)
    process.kill()
    finish(process)
    assert finish(start(tmp_path, command(dataset))) == 0
    run = Run.open(tmp_path / FOLDER)
    assert [session["batch_size"] for session in run.manifest["provenance"]["sessions"]] == [3, 3]
    assert run.images()["image_id"].to_pylist() == [str(number) for number in range(1, 24)]
