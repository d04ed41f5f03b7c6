"""`--profile` tells where the time went, and changes no row."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import workbench
from tests.reference.few_scenes import coco_scenes
from workbench.cli import main
from workbench.errors import ModelError
from workbench.prediction import profiling, session
from workbench.prediction.defaults import BUNDLED_MODEL
from workbench.prediction.engines import work
from workbench.prediction.model import Predictor
from workbench.prediction.profiling import (
    DECODE,
    ENCODE,
    MODEL,
    POST_PROCESS,
    POST_PROCESS_ON_GPU,
    PREPARE_ON_GPU,
    STAGES,
    WAIT_FOR_GPU,
    WAIT_FOR_IMAGES,
    WRITE,
    Profile,
    StageProfile,
    as_text,
)
from workbench.runs import Run


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(profiling, "perf_counter", clock)
    return clock


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return coco_scenes(tmp_path_factory.mktemp("dataset") / "scenes", 5)


def predict(dataset: Path, out: Path, **options: Any) -> Run:
    return workbench.predict(dataset, model=BUNDLED_MODEL, out=out, progress=False, **options)


def spend(profile: StageProfile, clock: Clock, **milliseconds: float) -> None:
    for name, spent in milliseconds.items():
        with profile.stage(getattr(profiling, name)):
            clock.now += spent / 1000


def test_stages_add_up_per_image_and_the_busiest_thread_is_the_limit(clock: Clock) -> None:
    profile = StageProfile()
    clock.now += 50  # loading the model
    profile.start()
    spend(profile, clock, DECODE=100, MODEL=600, WAIT_FOR_IMAGES=50, WRITE=50)
    spend(profile, clock, DECODE=100, MODEL=100)
    result = profile.result(images=2, workers=2)
    assert result["seconds"] == 1.0
    assert result["ms_per_image"] == dict.fromkeys((stage.name for stage in STAGES), 0.0) | {
        DECODE.name: 100.0,
        MODEL.name: 350.0,
        WAIT_FOR_IMAGES.name: 25.0,
        WRITE.name: 25.0,
    }
    assert result["busy"] == {"readers": 0.1, "model": 0.7, "writer": 0.05}
    assert result["limit"] == "model"


@pytest.mark.parametrize(
    ("spent", "limit", "advice"),
    [
        ({"DECODE": 700, "MODEL": 200, "WAIT_FOR_IMAGES": 500}, "readers", "Reading limits the run"),
        ({"POST_PROCESS": 400, "ENCODE": 300, "MODEL": 600, "WAIT_FOR_WRITER": 400}, "writer", "Post-processing and"),
        ({"MODEL": 300, "DECODE": 200, "WAIT_FOR_IMAGES": 600}, "model", "The model limits"),
    ],
)
def test_waiting_is_no_work_and_the_text_names_the_limit(
    clock: Clock, spent: dict[str, float], limit: str, advice: str
) -> None:
    profile = StageProfile()
    spend(profile, clock, **spent)
    result = profile.result(images=1, workers=1)
    assert result["limit"] == limit
    text = as_text(result, workers=1)
    assert advice in text
    for stage in STAGES:
        assert (stage.name in text) is not stage.gpu_only


def test_a_stage_that_fails_counts_too(clock: Clock) -> None:
    profile = StageProfile()
    with pytest.raises(ValueError), profile.stage(ENCODE):
        clock.now += 0.25
        raise ValueError
    assert profile.result(images=1, workers=1)["ms_per_image"][ENCODE.name] == 250.0


class Gpu:
    """A GPU that takes twice as long for its work as it takes to ask for it, and is done when it is told so."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.done = clock, True

    def mark(self) -> float:
        return self.clock.now

    def passed(self, mark: float) -> bool:
        return self.done

    def seconds(self, begin: float, end: float) -> float:
        return 2 * (end - begin)


def test_a_gpus_own_time_counts_where_the_work_is_its(clock: Clock) -> None:
    profile = StageProfile(Gpu(clock))
    spend(profile, clock, MODEL=100, PREPARE_ON_GPU=10, POST_PROCESS_ON_GPU=50, WRITE=100)
    result = profile.result(images=1, workers=1)
    per_image = result["ms_per_image"]
    assert [per_image[stage.name] for stage in (PREPARE_ON_GPU, MODEL, POST_PROCESS_ON_GPU, WRITE)] == [
        20,
        200,
        100,
        100,
    ]
    assert result["busy"] == {"readers": 0.0, "model": pytest.approx(220 / 260, abs=1e-4), "writer": 0.3846}
    assert "GPU: 85% of the time busy with the model, 38% beside it." in as_text(result, workers=1)


def test_nobody_waits_for_a_gpu_to_measure_it(clock: Clock) -> None:
    gpu = Gpu(clock)
    profile = StageProfile(gpu)
    gpu.done = False
    spend(profile, clock, MODEL=100)
    assert profile.result(images=1, workers=1)["ms_per_image"][MODEL.name] == 0
    gpu.done = True
    assert profile.result(images=1, workers=1)["ms_per_image"][MODEL.name] == 200


def test_a_stage_within_a_stage_is_counted_once(clock: Clock) -> None:
    profile = StageProfile(Gpu(clock))
    with profile.stage(POST_PROCESS):
        clock.now += 0.1
        spend(profile, clock, WAIT_FOR_GPU=300)
        clock.now += 0.1
    per_image = profile.result(images=1, workers=1)["ms_per_image"]
    assert (per_image[POST_PROCESS.name], per_image[WAIT_FOR_GPU.name]) == (200.0, 300.0)


def test_without_a_gpu_nothing_is_told_of_one(clock: Clock) -> None:
    profile = StageProfile()
    spend(profile, clock, MODEL=100, PREPARE_ON_GPU=10, WAIT_FOR_GPU=10)
    result = profile.result(images=1, workers=1)
    assert result["ms_per_image"][PREPARE_ON_GPU.name] == result["ms_per_image"][WAIT_FOR_GPU.name] == 0
    assert "GPU" not in as_text(result, workers=1)


def test_threads_lose_no_time_of_each_other() -> None:
    profile = StageProfile()

    def work() -> None:
        for _ in range(20):
            with profile.stage(DECODE):
                time.sleep(0.001)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert profile.result(images=80, workers=4)["ms_per_image"][DECODE.name] >= 1.0


def test_off_nothing_is_measured() -> None:
    profile = Profile()
    with profile.stage(MODEL), profile.stage(WRITE):
        pass
    assert profile.result(images=1, workers=1) is None


def test_a_profiled_run_has_the_rows_of_another_and_keeps_its_profile(dataset: Path, tmp_path: Path) -> None:
    plain, profiled = predict(dataset, tmp_path / "plain"), predict(dataset, tmp_path / "profiled", profile=True)
    assert profiled.segments().equals(plain.segments())
    assert profiled.manifest["identity"] == plain.manifest["identity"]
    assert "profile" not in plain.manifest["provenance"]["sessions"][-1]
    kept = profiled.manifest["provenance"]["sessions"][-1]["profile"]
    assert kept["images"] == 5
    worked = [stage.name for stage in STAGES if not stage.waits and not stage.gpu_only]
    assert all(kept["ms_per_image"][name] > 0 for name in worked)
    assert 0 < kept["busy"]["model"] <= 1
    model_thread = sum(kept["ms_per_image"][stage.name] for stage in STAGES if stage.threads == "model")
    assert model_thread * kept["images"] <= 1000 * kept["seconds"] + 1


@pytest.mark.parametrize("task", ["panoptic", "semantic", "instance"])
def test_a_run_on_a_gpus_way_has_the_rows_of_a_cpus(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    """Through readers, model and writer, side by side; on a CPU a GPU's marks are its clock."""
    plain = predict(dataset, tmp_path / "plain", task=task)
    usual = Predictor.__init__

    def like_a_gpu(self: Predictor, *given: Any, **options: Any) -> None:
        usual(self, *given, **options, like_a_gpu=True)

    monkeypatch.setattr(Predictor, "__init__", like_a_gpu)
    monkeypatch.setattr(work, "stage_profile", lambda device: StageProfile(Immediate()))
    monkeypatch.setattr(session, "stage_profile", lambda device: StageProfile(Immediate()))
    found = predict(dataset, tmp_path / "gpu", task=task, profile=True)
    columns = [name for name in plain.segments().column_names if name != "score"]
    assert found.segments().select(columns).equals(plain.segments().select(columns))
    for mine, other in zip(found.segments()["score"].to_pylist(), plain.segments()["score"].to_pylist(), strict=True):
        assert mine == (None if other is None else pytest.approx(other, abs=1e-6))
    per_image = found.manifest["provenance"]["sessions"][-1]["profile"]["ms_per_image"]
    for stage in (PREPARE_ON_GPU, MODEL, POST_PROCESS_ON_GPU, POST_PROCESS, DECODE):
        assert per_image[stage.name] > 0


class Immediate:
    """A device that has done all work when it is asked for the next."""

    def mark(self) -> float:
        return time.perf_counter()

    def passed(self, mark: float) -> bool:
        return True

    def seconds(self, begin: float, end: float) -> float:
        return end - begin


def test_the_command_prints_the_profile_on_stderr(dataset: Path, tmp_path: Path) -> None:
    arguments = ["predict", "--dataset", str(dataset), "--model", BUNDLED_MODEL, "--out", str(tmp_path / "run")]
    done = CliRunner().invoke(main, [*arguments, "--profile"])
    assert done.exit_code == 0, done.output
    assert "Profile of 5 images" in done.stderr and "post-process" in done.stderr and "Busy: readers" in done.stderr
    assert done.stdout.strip() == str(tmp_path / "run")


def test_post_processing_leaves_the_models_thread_to_the_model(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: dict[str, set[str]] = {"forward": set(), "post_process": set()}
    for name in threads:
        whole = getattr(Predictor, name)

        def noting(self: Predictor, *given: Any, name: str = name, whole: Any = whole) -> Any:
            threads[name].add(threading.current_thread().name.partition("_")[0])
            return whole(self, *given)

        monkeypatch.setattr(Predictor, name, noting)
    predict(dataset, tmp_path / "run")
    assert threads == {"forward": {threading.current_thread().name}, "post_process": {"write"}}


def test_an_error_in_post_processing_keeps_the_batches_before_it(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    post_process, calls = Predictor.post_process, iter(range(9))

    def fail_at_the_second(self: Predictor, *given: Any) -> Any:
        if next(calls) == 1:
            raise ModelError("no such luck")
        return post_process(self, *given)

    with monkeypatch.context() as patched:
        patched.setattr(Predictor, "post_process", fail_at_the_second)
        with pytest.raises(ModelError, match="no such luck"):
            predict(dataset, tmp_path / "run")
    assert Run.open(tmp_path / "run").images().num_rows == 2
    assert predict(dataset, tmp_path / "run").segments().equals(predict(dataset, tmp_path / "other").segments())
