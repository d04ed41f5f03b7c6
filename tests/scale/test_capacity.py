"""The capacity model multiplies right, stands on committed reports, and docs/scale.md shows what it gives."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.scale_document import DOCUMENT, newest, stages, written
from workbench.bench.capacity import (
    MEASURED,
    QUANTILES,
    SMALL_MODEL_SECONDS,
    Capacity,
    Costs,
    cpu_fleet,
    gpu_fleet,
    need,
    split,
)
from workbench.bench.fleet import Fleet
from workbench.cli import main

ROUND = Costs(
    gpu_images_per_second=100,
    read_ms=10,
    post_process_ms=6,
    encode_ms=4,
    driver_ms=0.1,
    shard_seconds=0.0512,
    prediction_bytes=2000,
    evaluate_ms=0.5,
    evaluation_bytes=100,
    image_bytes=150_000,
)


def test_a_workload_needs_what_its_images_cost() -> None:
    found = need(3_600_000, ROUND)
    assert found.gpu_hours == pytest.approx(10)
    assert found.core_hours == pytest.approx(20)
    assert found.prediction_bytes == pytest.approx(7.2e9)
    assert found.evaluation_core_hours == pytest.approx(0.5)
    assert ROUND.cores_a_gpu == pytest.approx(2)


def test_so_many_runs_that_no_driver_is_full() -> None:
    fleet = gpu_fleet(ROUND)  # a driver takes 5,000 images a second
    assert fleet.driver_images_per_second == pytest.approx(5000)
    calm = replace(fleet, stragglers=0.0)
    assert split(1e9, replace(calm, workers=40)).runs == 1
    assert split(1e9, replace(calm, workers=41)).runs == 2
    thousand = split(1e9, replace(calm, workers=1000))
    assert thousand.runs == 25
    assert thousand.each.limit == "workers"
    assert thousand.each.seconds == pytest.approx(1e9 / 100_000, rel=0.02)


def test_twice_the_speed_halves_the_gpu_hours() -> None:
    assert need(1e6, replace(ROUND, gpu_images_per_second=200)).gpu_hours == pytest.approx(
        need(1e6, ROUND).gpu_hours / 2
    )
    tables = Capacity(ROUND, Fleet(), {"mine": 3_600_000}, gpus=(1,)).tables()
    assert "| GPU hours | 10 |" in tables["needs"]
    assert "| predictions | 7.2 GB |" in tables["needs"]


def test_the_measured_costs_are_those_of_the_committed_reports() -> None:
    found = stages()
    around, shards = found["Around the model, panoptic"], found["Shards on disk"]
    assert pytest.approx(around["read, decode and prepare"], rel=0.01) == MEASURED.read_ms
    assert pytest.approx(around["post-process"], rel=0.01) == MEASURED.post_process_ms
    assert pytest.approx(around["encode"], rel=0.01) == MEASURED.encode_ms
    assert pytest.approx(shards["a shard of drawn panoptic scenes"] * 0.512, rel=0.01) == MEASURED.shard_seconds
    assert pytest.approx(found["EoMT-S"]["model"] / 1000, rel=0.01) == SMALL_MODEL_SECONDS
    report = newest("stages-cpu")
    sizes = report["bytes_an_image"]["a shard of drawn panoptic scenes"]
    assert pytest.approx(sizes["files"], rel=0.01) == MEASURED.prediction_bytes
    assert report["service_quantiles"] == list(QUANTILES)
    scored = next(
        each
        for section in newest("evaluate-pq")["sections"]
        for each in section["results"]
        if each["what"].startswith("all of `workbench evaluate`")
    )
    assert pytest.approx(1000 * scored["ours"]["median_seconds"] / 300, rel=0.01) == MEASURED.evaluate_ms
    assert pytest.approx(newest("ray-driver")["ms_an_image"], rel=0.01) == MEASURED.driver_ms
    grown = next(
        each for each in newest("evaluate-scale")["growth"] if each["task"] == "panoptic" and each["images"] == 10**6
    )
    assert pytest.approx(grown["bytes_an_image"], rel=0.01) == MEASURED.evaluation_memory


def test_the_committed_simulation_is_of_todays_costs_and_the_formula_is_near_it() -> None:
    rows = {row["name"]: row for row in newest("fleet")["scenarios"]}
    assert rows["1,000 CPU workers, as assumed"]["fleet"] == json.loads(json.dumps(asdict(cpu_fleet(MEASURED))))
    assert rows["1,000 GPUs"]["fleet"] == json.loads(json.dumps(asdict(gpu_fleet(MEASURED))))
    wide = [row for row in rows.values() if row["fleet"]["window"] >= 8]
    assert len(wide) >= 8
    assert all(abs(row["difference"]) < 0.05 for row in wide)


def test_the_document_shows_the_models_tables() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert written(text) == text


def test_the_command_takes_ones_own_figures() -> None:
    result = CliRunner().invoke(main, ["bench", "capacity", "--images", "3.6e6", "--images-per-second", "100"])
    assert result.exit_code == 0, result.output
    assert "| GPU hours | 10 |" in result.stdout


def test_the_fleet_command_reports_a_small_simulation(tmp_path: Path) -> None:
    command = ["bench", "fleet", "--images", "16000", "--seeds", "1", "--out", str(tmp_path)]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    assert "1,000 CPU workers, nothing fails | 16,000" in result.stdout
    written_files = sorted(path.suffix for path in tmp_path.iterdir())
    assert written_files == [".json", ".md"]
