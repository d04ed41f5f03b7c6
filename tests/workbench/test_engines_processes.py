"""Worker processes may die at any moment, and the run may end at any moment: no row is lost, no process stays."""

import errno
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

import workbench
from tests.reference.few_scenes import coco_scenes
from tests.reference.sessions import finish, start
from workbench.errors import EngineError, RunError
from workbench.prediction import session
from workbench.prediction.defaults import BUNDLED_MODEL
from workbench.prediction.engines import processes
from workbench.prediction.interrupt import Interrupted, StopRequest
from workbench.prediction.progress import Progress
from workbench.runs import INCOMPLETE, Run
from workbench.store import SegmentStoreWriter

IMAGES = 12
Dying = Callable[..., Path]


class Told(Progress):
    """Keeps what is told; `at_first` is done when the first rows are in."""

    def __init__(self, at_first: Callable[[], None] = lambda: None) -> None:
        self.text, self._at_first = "", at_first

    def note(self, text: str) -> None:
        self.text += f"{text}\n"

    def advance(self, images: int) -> None:
        first = self.done == self.before
        super().advance(images)
        if first:
            self._at_first()


def predict(dataset: Path, out: Path, **options: Any) -> Run:
    given = {"model": BUNDLED_MODEL, "out": out, "progress": False, "processes": 2, **options}
    return workbench.predict(dataset, **given)


def assert_same(run: Run, other: Run) -> None:
    assert run.complete
    assert run.images().equals(other.images())
    assert run.segments().equals(other.segments())


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return coco_scenes(tmp_path_factory.mktemp("dataset") / "scenes", IMAGES)


@pytest.fixture(scope="module")
def local(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return predict(dataset, tmp_path_factory.mktemp("local") / "run", processes=1)


@pytest.fixture(autouse=True)
def no_process_stays() -> Iterator[None]:
    """Neither alive nor as a zombie."""
    before = set(psutil.Process().children())
    yield
    left = set(psutil.Process().children()) - before
    assert not [each for each in left if each.status() == psutil.STATUS_ZOMBIE or "_worker" in "".join(each.cmdline())]


@pytest.fixture
def dying(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Dying:
    """Makes so many worker processes die at that moment; returns a folder with a file for each that has."""

    def prepare(moment: str, deaths: int) -> Path:
        marks = tmp_path / "marks"
        marks.mkdir()
        for name, value in (("DIES", moment), ("DEATHS", deaths), ("MARKS", marks)):
            monkeypatch.setenv(name, str(value))
        monkeypatch.setattr(processes, "process_worker", SimpleNamespace(__name__="tests.reference.dying_worker"))
        return marks

    return prepare


def workers() -> list[psutil.Process]:
    mine = psutil.Process().children()
    return [process for process in mine if "process_worker" in " ".join(process.cmdline())]


@pytest.mark.parametrize("moment", [pytest.param("starting", marks=pytest.mark.slow), "sending"])
def test_a_worker_that_dies_at_an_awkward_moment_costs_no_row(
    moment: str, dying: Dying, dataset: Path, local: Run, tmp_path: Path
) -> None:
    marks = dying(moment, deaths=1)
    progress = Told()
    assert_same(predict(dataset, tmp_path / "run", progress=progress), local)
    assert len(list(marks.iterdir())) == 1
    assert ("died while it started" if moment == "starting" else "died while it predicted image") in progress.text


@pytest.mark.slow
def test_all_workers_killed_at_once_cost_no_row(dataset: Path, local: Run, tmp_path: Path) -> None:
    def kill_all() -> None:
        for worker in workers():
            worker.kill()

    progress = Told(kill_all)
    assert_same(predict(dataset, tmp_path / "run", progress=progress), local)
    assert progress.text.count("killed by SIGKILL") == 2


def test_the_images_that_no_worker_survives_are_named_and_all_before_them_kept(
    dying: Dying, dataset: Path, local: Run, tmp_path: Path
) -> None:
    dying("7", deaths=100)
    with pytest.raises(EngineError, match=r"died while they predicted images 7, 8; .*Leave these images out"):
        predict(dataset, tmp_path / "run", batch_size=2)
    assert Run.open(tmp_path / "run").images().equals(local.images().slice(0, 6))


@pytest.mark.slow
def test_a_first_batch_that_no_worker_survives_is_told_from_workers_that_cannot_start(
    dying: Dying, dataset: Path, tmp_path: Path
) -> None:
    dying("1", deaths=100)
    with pytest.raises(EngineError, match="died while they predicted image 1;"):
        predict(dataset, tmp_path / "run", batch_size=1, limit=1)


def test_workers_that_cannot_start_are_not_started_for_ever(dying: Dying, dataset: Path, tmp_path: Path) -> None:
    marks = dying("starting", deaths=100)
    with pytest.raises(EngineError, match=r"die while they start .killed by SIGKILL.* With fewer --processes"):
        predict(dataset, tmp_path / "run")
    assert 3 <= len(list(marks.iterdir())) <= 4


def test_workers_that_can_start_go_on_without_those_that_cannot(
    dying: Dying, dataset: Path, local: Run, tmp_path: Path
) -> None:
    dying("starting", deaths=3)
    progress = Told()
    assert_same(predict(dataset, tmp_path / "run", progress=progress), local)
    assert "Going on with 1 of the processes" in progress.text


def test_a_full_disk_ends_the_workers_and_the_same_command_goes_on(
    dataset: Path, local: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: SegmentStoreWriter, *tables: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(SegmentStoreWriter, "commit", full)
        patch.setattr("workbench.prediction.pipeline.IMAGES_PER_SHARD", 2)
        with pytest.raises(RunError, match="No space left on device"):
            predict(dataset, tmp_path / "run")
    assert not workers()
    assert_same(predict(dataset, tmp_path / "run", processes=1), local)


def test_a_stop_before_the_first_batch_waits_for_no_worker(
    dying: Dying, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def stopped() -> Iterator[StopRequest]:
        request = StopRequest()
        request.requested = True
        yield request

    monkeypatch.setattr(session, "stop_on_signals", stopped)
    with pytest.raises(Interrupted, match=f"0 of {IMAGES} images"):
        predict(dataset, tmp_path / "run")


def test_a_run_that_lacks_no_image_needs_no_worker(dying: Dying, dataset: Path, local: Run, tmp_path: Path) -> None:
    run = predict(dataset, tmp_path / "run", processes=1)
    run.updated(status=INCOMPLETE)  # as a process leaves it that is killed at the very end
    dying("starting", deaths=100)
    assert_same(predict(dataset, tmp_path / "run"), local)


def test_a_killed_command_leaves_no_worker(dataset: Path, tmp_path: Path) -> None:
    command = ["predict", "--dataset", str(dataset), "--model", BUNDLED_MODEL, "--out", "run", "--processes", "2"]
    driver = start(tmp_path, command)
    assert driver.pid is not None
    left: list[psutil.Process] = []
    while driver.is_alive() and len(left) < 2:
        left = psutil.Process(driver.pid).children()
        time.sleep(0.01)
    driver.kill()
    assert finish(driver) == -signal.SIGKILL
    _, alive = psutil.wait_procs(left, timeout=60)
    assert not alive
