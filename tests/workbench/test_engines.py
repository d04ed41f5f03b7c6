"""Every engine writes the rows of the local one in the same order, and workers may be killed meanwhile."""

import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pyarrow.compute as pc
import pytest
from click.testing import CliRunner

import workbench
from tests.reference.few_scenes import coco_scenes
from tests.reference.s3_server import S3Server
from workbench.cli import main
from workbench.errors import OptionError
from workbench.prediction.defaults import BUNDLED_MODEL
from workbench.prediction.engines import processes, ray_data
from workbench.prediction.engines.reports import merged
from workbench.prediction.interrupt import Interrupted
from workbench.prediction.profiling import (
    DECODE,
    ENCODE,
    MODEL,
    MODEL_THREAD,
    POST_PROCESS,
    READERS,
    STAGES,
    WRITE,
    WRITER,
)
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


@pytest.fixture(params=list(ENGINES))
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "ray":
        request.getfixturevalue("ray_cluster")
        monkeypatch.setattr(ray_data, "IMAGES_PER_BLOCK", 4)
    return str(request.param)


def workers_of(engine: str) -> list[psutil.Process]:
    mine = psutil.Process().children(recursive=True)
    return [process for process in mine if PROGRAMS[engine] in " ".join(process.cmdline())]


def test_rows_candidates_and_failures_are_those_of_the_local_engine(
    engine: str, dataset: Path, local: Run, tmp_path: Path
) -> None:
    progress = At(1, lambda: None)
    run = predict(dataset, tmp_path / "run", keep_candidates=True, profile=True, progress=progress, **ENGINES[engine])
    assert_same(run, local)
    assert run.candidates().equals(local.candidates())
    assert run.images()["status"].to_pylist().count("failed") == 1
    (session,) = run.manifest["provenance"]["sessions"]
    assert (session["engine"], session["num_workers"], session["devices"]) == (engine, 2, ["cpu"])
    assert_profile_of_all_workers(session["profile"], progress.notes)


def assert_profile_of_all_workers(profile: dict[str, Any], told: str) -> None:
    """Its stages are of all images and fit in the time of two workers."""
    per_image = profile["ms_per_image"]
    assert profile["images"] == 24
    assert all(per_image[stage.name] > 0 for stage in (DECODE, MODEL, POST_PROCESS, ENCODE, WRITE))
    assert 24 * per_image[MODEL.name] / 1000 <= 2 * profile["seconds"]
    assert all(0 < share <= 1 for share in profile["busy"].values())
    assert profile["limit"] in profile["busy"]
    assert "Profile of 24 images" in told
    assert f"{per_image[MODEL.name]:.1f} ms" in told


def test_profiles_of_workers_add_up_by_their_images() -> None:
    def part(images: int, ms: float, seconds: float, busy: float) -> dict[str, Any]:
        of_each = {**dict.fromkeys((stage.name for stage in STAGES), 0.0), MODEL.name: ms}
        kinds = {READERS: 0.1, MODEL_THREAD: busy, WRITER: 0.2}
        return {"images": images, "seconds": seconds, "ms_per_image": of_each, "busy": kinds, "limit": MODEL_THREAD}

    own = part(4, 0.0, 10.0, 0.0)
    own["ms_per_image"][WRITE.name] = 7.0
    found = merged([part(1, 10.0, 4.0, 0.5), part(3, 20.0, 12.0, 0.9)], own)
    assert (found["images"], found["seconds"], found["limit"]) == (4, 10.0, MODEL_THREAD)
    assert found["ms_per_image"][MODEL.name] == 17.5
    assert found["ms_per_image"][WRITE.name] == 7.0
    assert found["busy"] == {READERS: 0.1, MODEL_THREAD: 0.8, WRITER: 0.2}


@pytest.mark.slow
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


def test_a_stopped_run_goes_on_with_another_engine_there_and_back(
    engine: str, dataset: Path, local: Run, tmp_path: Path
) -> None:
    def interrupt() -> None:
        os.kill(os.getpid(), signal.SIGINT)

    out = tmp_path / "run"
    with pytest.raises(Interrupted, match="Run the same command again to go on"):
        predict(dataset, out, keep_candidates=True, progress=At(4, interrupt), **ENGINES[engine])
    assert 4 <= Run.open(out).images().num_rows < 24
    before = Run.open(out).images().num_rows
    with pytest.raises(Interrupted):
        predict(dataset, out, keep_candidates=True, progress=At(before + 1, interrupt))
    assert before < Run.open(out).images().num_rows < 24
    run = predict(dataset, out, keep_candidates=True, **ENGINES[engine])
    assert_same(run, local)
    assert [session["engine"] for session in run.manifest["provenance"]["sessions"]] == [engine, "local", engine]


def test_remote_images_and_a_remote_run_folder_give_the_local_rows_whatever_the_workers_cache(
    s3: S3Server, dataset: Path, local: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.put("bucket", "data", dataset.parent)
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "here"))
    monkeypatch.setenv("WORKERS_CACHE", str(tmp_path / "there"))
    monkeypatch.setattr(processes, "process_worker", SimpleNamespace(__name__="tests.reference.worker_elsewhere"))
    run = workbench.predict(
        f"s3://bucket/data/{dataset.name}", model=BUNDLED_MODEL, out="s3://bucket/runs/x", limit=4, progress=False,
        processes=2,
    )  # fmt: skip
    assert run.complete
    expected = local.segments()
    wanted = pc.is_in(expected["image_id"], run.images()["image_id"])
    assert run.images().num_rows == 4
    assert run.segments().equals(expected.filter(wanted))
    assert "runs/x/run.json" in s3.keys("bucket")


def test_ray_that_is_not_installed_is_told_in_a_sentence(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    ended = CliRunner().invoke(
        main, ["predict", "--dataset", str(dataset), "--engine", "ray", "--out", str(tmp_path / "run")]
    )
    assert ended.exit_code == 1
    assert ended.stderr.startswith("Error: --engine ray needs Ray")
    assert "pip install 'eomt-workbench[ray]'" in ended.stderr
    assert "Traceback" not in ended.output
    assert not (tmp_path / "run").exists()


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
