"""A fleet with failures commits every batch once and in order; the formula says how long it takes."""

from dataclasses import replace
from pathlib import Path
from statistics import mean

import pytest

from tests.reference.sharded_runs import one_image_each
from workbench.bench.fleet import Fleet, estimate
from workbench.bench.fleet_report import Scenario, compare, scenarios, table
from workbench.bench.fleet_simulation import CheckedStore, Simulation
from workbench.store import SegmentStore, SegmentStoreWriter

NEVER = 1e9
CALM = Fleet(
    workers=40,
    batch_seconds=10.0,
    stragglers=0.0,
    worker_mtbf_hours=NEVER,
    node_mtbf_hours=NEVER,
    driver_mtbf_hours=NEVER,
    driver_batch_seconds=0.0,
    shard_seconds=0.0,
    shard_images=64,
)
ROUGH = replace(
    CALM,
    quantiles=(0.5, 0.8, 1.0, 1.2, 1.5),
    stragglers=0.01,
    driver_batch_seconds=0.01,
    shard_seconds=0.1,
    worker_mtbf_hours=0.5,
    node_mtbf_hours=6.0,
    driver_mtbf_hours=1.0,
)


class RunFolder:
    """Real shards, one image a batch; whoever asks what is done opens the folder anew, as a resumed run does."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer = SegmentStoreWriter(folder)

    def commit(self, batches: range) -> None:
        self._writer.commit(*one_image_each(batches))

    def done(self) -> int:
        return SegmentStore(self._folder).count_images()


class CrashingRunFolder(RunFolder):
    """Its third commit writes the segments and not the images: the driver dies between the two renames."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._commits = 0

    def commit(self, batches: range) -> None:
        self._commits += 1
        if self._commits == 3:
            orphan = f"part-{len(self._writer.store.parts) + 90:05d}.parquet"
            (self._folder / "predictions" / orphan).write_bytes(b"half a shard")
            self._writer = SegmentStoreWriter(self._folder)
        super().commit(batches)


def test_without_failures_it_takes_what_the_work_takes() -> None:
    outcome = Simulation(CALM, batches=400).run()
    assert outcome.seconds == pytest.approx(CALM.worker_restart + 400 / 40 * 10.0)
    assert outcome.useful == pytest.approx(400 * 10.0)
    assert (outcome.lost_with_workers, outcome.lost_with_driver, outcome.retried) == (0, 0, 0)


def test_the_same_seed_gives_the_same_run_and_another_gives_another() -> None:
    assert Simulation(ROUGH, 2000, seed=1).run() == Simulation(ROUGH, 2000, seed=1).run()
    assert Simulation(ROUGH, 2000, seed=1).run() != Simulation(ROUGH, 2000, seed=2).run()


@pytest.mark.parametrize("seed", range(8))
def test_every_batch_is_committed_once_and_in_order_whatever_dies(seed: int) -> None:
    store = CheckedStore()  # which raises where it is not so
    outcome = Simulation(replace(ROUGH, driver_mtbf_hours=0.04), 3000, seed, store).run()
    assert store.done() == 3000
    assert outcome.worker_failures > 10
    assert outcome.driver_deaths > 0
    assert outcome.retried > 0


def test_the_checking_store_notices_gaps_and_repeats() -> None:
    store = CheckedStore()
    store.commit(range(3))
    for wrong in (range(4, 5), range(2, 4), range(3, 3)):
        with pytest.raises(RuntimeError, match="committed behind 3"):
            store.commit(wrong)


@pytest.mark.parametrize("store", [RunFolder, CrashingRunFolder])
def test_a_real_run_folder_ends_with_every_image_once(store: type[RunFolder], tmp_path: Path) -> None:
    fleet = replace(ROUGH, driver_mtbf_hours=0.05, shard_images=160)
    outcome = Simulation(fleet, 600, seed=3, store=store(tmp_path)).run()
    assert outcome.driver_deaths > 0
    images = SegmentStore(tmp_path).images()["image_id"].to_pylist()
    assert images == [str(number) for number in range(600)]
    assert SegmentStore(tmp_path).segments()["image_id"].to_pylist() == images


@pytest.mark.parametrize(
    ("fleet", "bound"),
    [
        (CALM, 0.01),
        (replace(ROUGH, driver_mtbf_hours=NEVER), 0.05),
        (replace(ROUGH, worker_mtbf_hours=24.0, node_mtbf_hours=NEVER), 0.05),
        (replace(CALM, workers=200, batch_seconds=0.5, driver_batch_seconds=0.02), 0.05),
    ],
)
def test_the_formula_is_near_the_simulation(fleet: Fleet, bound: float) -> None:
    found = compare(Scenario("a fleet", fleet, 48_000), seeds=4)
    assert abs(found.difference) < bound
    assert found.fewest_seconds <= found.seconds <= found.most_seconds


def test_a_driver_that_cannot_keep_up_limits_the_run() -> None:
    fleet = replace(CALM, workers=200, batch_seconds=0.5, driver_batch_seconds=0.02)
    few = replace(fleet, workers=10)
    assert estimate(few, 1000).limit == "workers"
    assert estimate(fleet, 1000).limit == "driver"
    outcome = Simulation(fleet, 6000).run()
    assert outcome.driver_busy > 0.98 * (outcome.seconds - fleet.worker_restart)
    assert 48_000 / (outcome.seconds - fleet.worker_restart) == pytest.approx(fleet.driver_images_per_second, rel=0.01)
    assert outcome.most_waiting <= fleet.window * fleet.workers


def test_a_window_shorter_than_a_straggler_makes_all_wait_for_it() -> None:
    fleet = replace(CALM, workers=100, stragglers=0.005, straggler_factor=6.0)
    narrow, wide = (Simulation(replace(fleet, window=each), 6000).run() for each in (3, 12))
    assert narrow.seconds > 1.2 * wide.seconds


def test_what_the_driver_had_not_committed_is_predicted_again() -> None:
    fleet = replace(CALM, driver_mtbf_hours=0.1, shard_images=4000)
    outcomes = [Simulation(fleet, 2000, seed).run() for seed in range(6)]
    assert sum(outcome.driver_deaths for outcome in outcomes) > 3
    assert mean(outcome.lost_with_driver for outcome in outcomes) > 0
    assert all(outcome.useful == pytest.approx(20_000) for outcome in outcomes)


def test_the_scenarios_are_a_thousand_workers_and_gpus_until_a_driver_is_full() -> None:
    cpu = replace(ROUGH, workers=1000)
    chosen = scenarios(cpu, replace(cpu, batch_seconds=0.1), 8000)
    assert {each.fleet.workers for each in chosen[:7]} == {1000}
    rows = [vars(compare(each, seeds=1)) for each in (chosen[0], chosen[-1])]
    assert len(table(rows).splitlines()) == 4
    assert rows[-1]["limit"] == "driver"
