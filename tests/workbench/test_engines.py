"""Every engine writes the rows of the local one in the same order, and workers may be killed meanwhile."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import workbench
from tests.reference.few_scenes import coco_scenes
from workbench.errors import OptionError
from workbench.prediction.defaults import BUNDLED_MODEL
from workbench.prediction.engines import ray_data
from workbench.prediction.interrupt import Interrupted
from workbench.prediction.progress import Progress
from workbench.runs import Run

# Ray's own settings warn of each other when they are read for the first time.
pytestmark = pytest.mark.filterwarnings(r"ignore:`use_.*` is deprecated:DeprecationWarning")

BROKEN = 3
ENGINES: dict[str, dict[str, Any]] = {
    "processes": {"processes": 2},
    "ray": {"engine": "ray", "num_workers": 2, "address": "auto"},
}
PROGRAMS = {"processes": "process_worker", "ray": "MapWorker"}


class At(Progress):
    """Does something once, when so many images are in."""

    def __init__(self, images: int, act: Any) -> None:
        self._images, self._act, self.notes = images, act, ""

    def note(self, text: str) -> None:
        self.notes += text

    def advance(self, images: int) -> None:
        super().advance(images)
        if self._act is not None and self.done >= self._images:
            act, self._act = self._act, None
            act()


def predict(dataset: Path, out: Path, **options: Any) -> Run:
    return workbench.predict(dataset, **{"model": BUNDLED_MODEL, "out": out, "progress": False, **options})


def assert_same(run: Run, other: Run) -> None:
    assert run.complete
    assert run.images().equals(other.images())
    assert run.segments().equals(other.segments())


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dataset") / "scenes"
    definition = coco_scenes(folder, 24)
    (folder / "images" / f"{BROKEN:06}.jpg").write_text("no image")
    return definition


@pytest.fixture(scope="module")
def local(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return predict(dataset, tmp_path_factory.mktemp("local") / "run", keep_candidates=True)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A Ray cluster of this machine, which the engine finds connected."""
    ray = pytest.importorskip("ray", reason="the extra [ray] is not installed")
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(params=list(ENGINES))
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "ray":
        request.getfixturevalue("cluster")
        monkeypatch.setattr(ray_data, "IMAGES_PER_BLOCK", 4)
    return str(request.param)


def workers_of(engine: str) -> list[psutil.Process]:
    mine = psutil.Process().children(recursive=True)
    return [process for process in mine if PROGRAMS[engine] in " ".join(process.cmdline())]


def test_rows_candidates_and_failures_are_those_of_the_local_engine(
    engine: str, dataset: Path, local: Run, tmp_path: Path
) -> None:
    run = predict(dataset, tmp_path / "run", keep_candidates=True, **ENGINES[engine])
    assert_same(run, local)
    assert run.candidates().equals(local.candidates())
    assert run.images()["status"].to_pylist().count("failed") == 1
    (session,) = run.manifest["provenance"]["sessions"]
    assert (session["engine"], session["num_workers"], session["devices"]) == (engine, 2, ["cpu"])


@pytest.mark.parametrize("task", ["instance", "semantic"])
def test_other_tasks_and_a_limit_give_the_local_rows(engine: str, dataset: Path, tmp_path: Path, task: str) -> None:
    expected = predict(dataset, tmp_path / "local", task=task, limit=5)
    assert_same(predict(dataset, tmp_path / "run", task=task, limit=5, **ENGINES[engine]), expected)


def test_a_killed_worker_costs_no_row(engine: str, dataset: Path, local: Run, tmp_path: Path) -> None:
    killed: list[int] = []

    def kill() -> None:
        worker = workers_of(engine)[0]
        worker.kill()
        killed.append(worker.pid)

    progress = At(2, kill)
    assert_same(predict(dataset, tmp_path / "run", keep_candidates=True, progress=progress, **ENGINES[engine]), local)
    assert killed
    assert engine != "processes" or "killed by SIGKILL" in progress.notes


def test_a_stopped_run_goes_on_with_another_engine(engine: str, dataset: Path, local: Run, tmp_path: Path) -> None:
    def interrupt() -> None:
        os.kill(os.getpid(), signal.SIGINT)

    out = tmp_path / "run"
    with pytest.raises(Interrupted, match="Run the same command again to go on"):
        predict(dataset, out, keep_candidates=True, progress=At(4, interrupt), **ENGINES[engine])
    assert 4 <= Run.open(out).images().num_rows < 24
    run = predict(dataset, out, keep_candidates=True)
    assert_same(run, local)
    assert [session["engine"] for session in run.manifest["provenance"]["sessions"]] == [engine, "local"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_workers": 2}, "--num-workers 2 is for --engine ray"),
        ({"address": "auto"}, "--address auto is for --engine ray"),
        ({"engine": "spark"}, "no engine 'spark'"),
        ({"engine": "ray", "processes": 2}, "with --engine ray it is --num-workers"),
        ({"engine": "ray", "device": "cuda:1"}, "Ray chooses which GPU"),
        ({"processes": 0}, "--processes is 0"),
        ({"device": "cuda:0,0"}, "named twice"),
        ({"device": "cpu,cpu"}, "several devices are GPUs"),
        ({"device": "cuda:97,98"}, "device 'cuda:97' cannot be used"),
    ],
)
def test_options_that_do_not_go_together_are_told(
    dataset: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        predict(dataset, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()
