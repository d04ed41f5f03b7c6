"""Data sets of `bench scale-evaluate`: the same whatever their shards, and scored like any other."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from workbench.bench import many_images
from workbench.bench.many_images import ManyImages
from workbench.bench.scale_evaluate import Measured, growth
from workbench.evaluation.evaluation import evaluate
from workbench.segments import concat

COUNT = 40


@pytest.fixture(autouse=True)
def few_drawings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(many_images, "DISTINCT", 4)
    monkeypatch.setattr(many_images, "IMAGES_PER_SHARD", 16)


def test_the_same_images_come_in_shards_of_any_size(tmp_path: Path) -> None:
    first, second = (
        concat([segments for segments, _ in ManyImages(tmp_path, COUNT, seed=3).ground_truth("panoptic", size)])
        for size in (7, 40)
    )
    assert first.equals(second)
    assert first["image_id"].to_pylist() == sorted(first["image_id"].to_pylist(), key=int)
    covered = np.bincount(first["image_id"].to_numpy().astype(np.int64), weights=first["area"].to_numpy())
    assert covered.tolist() == [64 * 64] * COUNT  # with void, a segment for each pixel


@pytest.mark.parametrize("task", ["panoptic", "instance"])
def test_they_are_scored_like_any_other_data_set(tmp_path: Path, task: str) -> None:
    dataset = ManyImages(tmp_path, COUNT, task)  # type: ignore[arg-type]
    run = dataset.make_run()
    metrics = evaluate(run, dataset).metrics
    assert 0 < metrics["instance"]["segm"]["AP"] < 1
    assert (task == "instance") == (metrics["panoptic"] is None)
    assert metrics["images"]["instance"]["scored"] == COUNT
    assert tuple(dataset.image_ids()) == tuple(image.image_id for image in dataset.images())


def test_growth_is_over_the_smallest_size_of_its_kind() -> None:
    small = Measured("panoptic", 10, 100, 1, 1.0, 1.0, 5000, 0, 0)
    large, other = replace(small, images=110, peak_bytes=7000), replace(small, images=20, processes=2)
    assert growth([small, large, other]) == [(large, 20.0)]
    assert small.cpu_ms == 100.0
