"""Long runs: memory and file handles stay flat, progress tells the truth, many shards read as quickly as few.

The short form; `make long-runs` is the long one. Both predict with a simulated model: see `simulated.py`.
"""

import os
import signal
from pathlib import Path

import pytest

from tests.long_runs import cutting, watching
from tests.long_runs.cutting import Timing
from tests.long_runs.simulated import make_dataset, predict
from tests.long_runs.watching import Sample, Watch
from workbench.prediction import pipeline
from workbench.prediction.interrupt import Interrupted
from workbench.runs import Run

IMAGES, IMAGES_PER_SHARD, BATCH_SIZE = 800, 100, 8


@pytest.fixture(scope="module", autouse=True)
def small_shards():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "IMAGES_PER_SHARD", IMAGES_PER_SHARD)
        yield


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("simulated") / "data", IMAGES)


@pytest.fixture(scope="module")
def watched(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Watch]:
    folder = tmp_path_factory.mktemp("runs") / "run"
    watch = Watch(folder, IMAGES // 10)
    return predict(dataset, folder, watch), watch


def test_memory_and_file_handles_stay_flat(watched: tuple[Run, Watch]) -> None:
    samples = watched[1].samples
    assert [sample.done for sample in samples] == list(range(IMAGES // 10, IMAGES + 1, IMAGES // 10))
    assert watching.growth_mb(samples) < 32
    assert max(sample.handles for sample in samples) <= min(sample.handles for sample in samples) + 4
    assert max(sample.threads for sample in samples) <= samples[0].threads


def test_progress_tells_the_truth(watched: tuple[Run, Watch]) -> None:
    run, watch = watched
    assert watching.wrong_counts(watch, IMAGES_PER_SHARD, BATCH_SIZE) == []
    assert watch.shown[0] == 0
    assert watch.shown[-1] == run.images().num_rows == IMAGES


class StoppedHalfway(Watch):
    """Presses Ctrl-C at half of the images."""

    def advance(self, images: int) -> None:
        super().advance(images)
        if self.done == IMAGES // 2:
            os.kill(os.getpid(), signal.SIGINT)


def test_a_resumed_run_counts_on_from_what_is_on_disk(
    dataset: Path, watched: tuple[Run, Watch], tmp_path: Path
) -> None:
    stopped = StoppedHalfway(tmp_path / "run", IMAGES // 10)
    with pytest.raises(Interrupted):
        predict(dataset, tmp_path / "run", stopped)
    assert IMAGES // 2 <= stopped.shown[-1] < IMAGES
    on_disk = Run.open(tmp_path / "run").images().num_rows
    assert on_disk == stopped.shown[-1]
    resumed = Watch(tmp_path / "run", IMAGES // 10)
    run = predict(dataset, tmp_path / "run", resumed)
    assert resumed.shown[0] == on_disk
    assert resumed.shown[-1] == IMAGES
    assert watching.wrong_counts(resumed, IMAGES_PER_SHARD, BATCH_SIZE) == []
    assert run.segments().equals(watched[0].segments())


def sample(done: int, committed: int, seconds: float, told_left: float) -> Sample:
    return Sample(done, 100, committed, 500.0, 7, 4, seconds, told_left)


def test_untrue_counts_would_be_found(tmp_path: Path) -> None:
    watch = Watch(tmp_path, 10)
    watch.start(0, 100)
    watch.shown += [60, 50]
    watch.samples = [sample(60, 20, 1.0, 5.0), sample(100, 100, 10.0, 0.0)]
    assert len(watching.wrong_counts(watch, 10, 1)) == 2


def test_untrue_times_would_be_found() -> None:
    samples = [sample(10, 10, 10.0, 900.0), sample(20, 20, 20.0, 80.0), sample(50, 50, 50.0, 500.0)]
    assert watching.wrong_times([*samples, sample(100, 100, 100.0, 0.0)]) == [
        "at 50 images 500 s were said to be left, it took 50 s"
    ]


def test_many_shards_read_as_quickly_per_row_as_few(watched: tuple[Run, Watch]) -> None:
    cuts = cutting.cuts(watched[0].path.parent, 100)
    few, many, _ = cuts.values()
    assert (len(few.store.parts), len(many.store.parts)) == (1, 100)
    assert many.segments().equals(few.segments())
    # 100 shards are too few for the bounds of 1,000: what happens once a read counts for more.
    assert cutting.too_slow(*cutting.timings(cuts, rounds=2).values(), most_times=2.0, most_ms=12.0) == []


def test_slow_reads_would_be_found() -> None:
    few, many, small = (
        Timing(rows, shards, dict.fromkeys(cutting.WAYS, seconds))
        for rows, shards, seconds in ((1000, 1, 1.0), (1000, 101, 2.0), (100, 10, 0.2))
    )
    assert cutting.too_slow(few, many, small, most_times=1.1, most_ms=11.0) == []
    assert len(cutting.too_slow(few, many, small, most_times=0.9, most_ms=11.0)) == len(cutting.WAYS)
    assert len(cutting.too_slow(few, many, small, most_times=1.1, most_ms=9.0)) == len(cutting.WAYS)
