"""Whoever counts an evaluation, this process, others or a Ray cluster, the files that it leaves are the same bytes."""

import json
import os
import pickle
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner

from tests.reference.scene_dataset import SceneDataset, make_run, with_columns
from tests.reference.scenes import CATEGORIES, Listed, PanopticImage
from workbench.cli import main
from workbench.errors import EngineError, EvaluationError, OptionError
from workbench.evaluation import engines, partitions
from workbench.evaluation.engines import Processes, Ray, Workers
from workbench.evaluation.evaluation import evaluate
from workbench.evaluation.merging import merged
from workbench.evaluation.resampling import Bootstrap
from workbench.formats.base import Task
from workbench.runs import Run
from workbench.segments import read_parquet, write_parquet

IMAGES = 11
SIZE_HW = (9, 12)
CASES: dict[str, tuple[Task, dict[str, Any]]] = {
    "panoptic": ("panoptic", {"boundary": True, "bootstrap": Bootstrap(resamples=20), "by": ("area", "segments")}),
    "panoptic corrected": ("panoptic", {"corrected": True}),
    "instance": ("instance", {"boundary": True, "bootstrap": Bootstrap(resamples=20)}),
    "instance corrected": ("instance", {"corrected": True}),
    "semantic": ("semantic", {"boundary": True, "bootstrap": Bootstrap(resamples=20)}),
}


@pytest.fixture(autouse=True)
def small_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(partitions, "IMAGES_PER_CHUNK", 2)


@pytest.fixture(scope="module")
def processes() -> Iterator[Workers]:
    """Two processes for all tests of this module."""
    with Processes(2).workers() as workers:
        yield workers


class Known:
    """An engine of workers that are there already."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers

    @contextmanager
    def workers(self) -> Iterator[Workers]:
        yield self._workers


def by_pickle(function: Callable[[Any], Any], item: Any) -> Callable[[], Any]:
    """Done at once in this process, but for what pickling makes of it."""
    function, item = pickle.loads(pickle.dumps((function, item)))
    result = pickle.dumps(function(item))
    return lambda: pickle.loads(result)


def scenes(count: int, seed: int) -> list[PanopticImage]:
    """Blocks of four categories, some crowds, some void; ids neither ascending nor of one length."""
    rng = np.random.default_rng(seed)
    images = []
    for number in range(count):
        blocks = rng.integers(0, 6, size=(3, 4))
        label_map = np.kron(blocks, np.ones((3, 3), np.int64))
        label_map = np.where(rng.random(SIZE_HW) < 0.1, 0, label_map)
        listed = [
            Listed(int(key), int(rng.choice(list(CATEGORIES))), bool(rng.random() < 0.1))
            for key in np.unique(label_map)
            if key
        ]
        images.append(PanopticImage(str((number * 7) % 100), label_map, tuple(listed)))
    return images


def guesses(truth: list[PanopticImage], seed: int) -> list[PanopticImage]:
    """The same with noise, and some segments renamed."""
    rng = np.random.default_rng(seed)
    found = []
    for image in truth:
        keys = [each.id for each in image.listed]
        noisy = np.where(rng.random(SIZE_HW) < 0.2, rng.choice([0, *keys], size=SIZE_HW), image.label_map)
        renamed = [
            Listed(each.id, int(rng.choice(list(CATEGORIES))) if rng.random() < 0.3 else each.category_id)
            for each in image.listed
            if (noisy == each.id).any()
        ]
        found.append(replace(image, label_map=noisy, listed=tuple(renamed)))
    return found


def a_run(folder: Path, task: Task, count: int = IMAGES) -> tuple[Run, SceneDataset]:
    """A run with scores from 0 to 1, some of them equal; shards that end within chunks."""
    truth = scenes(count, 1)
    dataset = SceneDataset(truth, semantic=scenes(count, 3) if task == "semantic" else None)
    run = make_run(folder, dataset, guesses(truth, 2), task=task, shard=3)
    rng = np.random.default_rng(4)
    for part in run.store.parts:
        rows = read_parquet([run.store.segments_folder / part])
        write_parquet(with_columns(rows, score=np.round(rng.random(len(rows)), 1)), run.store.segments_folder / part)
    return run, dataset


def left_by(run: Run) -> dict[str, Any]:
    """The content of every file that an evaluation leaves."""
    found: dict[str, Any] = {path.name: path.read_bytes() for path in run.path.glob("*.parquet")}
    metrics = json.loads((run.path / "metrics.json").read_text())
    metrics["provenance"].pop("evaluated")
    return {**found, "metrics.json": metrics}


def through(monkeypatch: pytest.MonkeyPatch, engine: Any) -> None:
    """Evaluations take that engine, whatever they are asked."""
    monkeypatch.setattr(engines, "chosen", lambda *options: engine)


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=[pytest.mark.slow] if "corrected" in case else []) for case in CASES]
)
def test_processes_and_ray_leave_the_bytes_that_one_process_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: Workers, ray_cluster: Any, case: str
) -> None:
    task, options = CASES[case]
    run, dataset = a_run(tmp_path / "run", task)
    evaluate(run, dataset, **options)
    alone = left_by(run)
    assert {"matches.parquet", "per_image.parquet", "detections.parquet", "per_category.parquet"} < set(alone)
    assert len(run.matches()) > 50
    for engine in (Known(processes), Ray()):
        through(monkeypatch, engine)
        evaluate(run, dataset, **options)
        assert left_by(run) == alone


@pytest.mark.parametrize("case", [case for case in CASES if "corrected" in case])
def test_corrected_numbers_are_the_same_from_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    task, options = CASES[case]
    run, dataset = a_run(tmp_path / "run", task)
    evaluate(run, dataset, **options)
    alone = left_by(run)
    through(monkeypatch, Known(Workers(2, 4, by_pickle)))
    evaluate(run, dataset, **options)
    assert left_by(run) == alone


@pytest.mark.parametrize("images", [1, 2, 3, 4, 9])
def test_partitions_end_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: int) -> None:
    run, dataset = a_run(tmp_path / "run", "panoptic", images)
    evaluate(run, dataset)
    alone = left_by(run)
    for workers in (1, 3, 20):
        through(monkeypatch, Known(Workers(workers, 2 * workers, by_pickle)))
        evaluate(run, dataset)
        assert left_by(run) == alone, workers


def test_progress_reaches_all_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, dataset = a_run(tmp_path / "run", "instance")
    told: list[tuple[str, int, int]] = []
    through(monkeypatch, Known(Workers(2, 4, by_pickle)))
    evaluate(run, dataset, progress=lambda *what: told.append(what))
    done = [done for what, done, total in told if what == "Scoring against instance ground truth"]
    assert done == sorted(done)
    assert done[-1] == IMAGES


def test_what_a_worker_raises_is_our_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: Workers, ray_cluster: Any
) -> None:
    run, dataset = a_run(tmp_path / "run", "panoptic")
    last = run.store.segments_folder / run.store.parts[-1]
    rows = read_parquet([last])
    write_parquet(with_columns(rows, category_id=np.full(len(rows), 5)), last)
    with pytest.raises(EvaluationError, match="has the category 5") as alone:
        evaluate(run, dataset)
    for engine in (Known(processes), Ray()):
        through(monkeypatch, engine)
        with pytest.raises(EvaluationError) as found:
            evaluate(run, dataset)
        assert type(found.value) is EvaluationError
        assert str(found.value) == str(alone.value)
    assert not (run.path / "metrics.json").exists()


def test_ray_begins_the_work_of_a_killed_worker_again(tmp_path: Path, ray_cluster: Any) -> None:
    mark = str(tmp_path / "been here")

    def dies_once(number: int) -> int:
        if number == 1 and not os.path.exists(mark):  # noqa: PTH110 - pickled as it stands
            open(mark, "w").close()  # noqa: PTH123
            os._exit(1)
        return number * number

    with Ray(num_workers=1).workers() as workers:
        assert list(workers.map(dies_once, range(4))) == [0, 1, 4, 9]


def test_a_killed_process_is_an_error_with_a_remedy() -> None:
    with pytest.raises(EngineError, match="--engine ray"), Processes(1).workers() as workers:
        list(workers.map(os._exit, [1]))


def test_results_come_in_order_and_no_more_is_under_way_than_allowed() -> None:
    begun: list[int] = []

    def work(number: int) -> int:
        time.sleep(0.02 if number % 3 == 0 else 0.0)
        return number

    def items() -> Iterator[int]:
        for number in range(12):
            begun.append(number)
            yield number

    with ThreadPoolExecutor(4) as pool:
        workers = Workers(4, 5, lambda function, item: pool.submit(function, item).result)
        for taken, number in enumerate(workers.map(work, items())):
            assert number == taken
            assert len(begun) <= taken + 5
    assert begun == list(range(12))


def test_parts_are_merged_by_what_they_are() -> None:
    first = {"rows": pa.table({"a": [1]}), "column": np.array([1.5]), "count": 2, "nothing": None}
    second = {"rows": pa.table({"a": [2]}), "column": np.array([2.5]), "count": 3, "nothing": None}
    found = merged([first, second])
    assert found["rows"]["a"].to_pylist() == [1, 2]
    assert found["column"].tolist() == [1.5, 2.5]
    assert (found["count"], found["nothing"]) == (5, None)
    assert merged([first]) is first


def test_ray_that_is_not_installed_is_an_error_that_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, dataset = a_run(tmp_path / "run", "panoptic")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EngineError, match=r"pip install 'eomt-workbench\[ray\]'"):
        evaluate(run, dataset, engine="ray")


def test_options_that_do_not_go_together_are_misuse() -> None:
    for options, words in (
        (["--address", "auto"], "--engine ray"),
        (["--num-workers", "2"], "--engine ray"),
        (["--engine", "ray", "--processes", "2"], "--num-workers"),
    ):
        result = CliRunner().invoke(main, ["evaluate", "anything", *options])
        assert result.exit_code == 2
        assert words in result.stderr
    with pytest.raises(OptionError, match="Did you mean 'ray'"):
        engines.chosen("rai")
    with pytest.raises(OptionError, match="at least 1"):
        engines.chosen(processes=0)
    assert engines.chosen() is engines.chosen(processes=1) is None


def test_the_command_spreads_its_work(tmp_path: Path) -> None:
    run, dataset = a_run(tmp_path / "run", "instance")
    evaluate(run, dataset)
    alone = left_by(run)
    evaluate(run, dataset, processes=2)
    assert left_by(run) == alone
