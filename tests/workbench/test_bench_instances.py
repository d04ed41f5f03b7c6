"""The data that AP is measured on: like COCO's, the same for a seed, and the same for pycocotools and us."""

import json

import numpy as np
import pyarrow as pa
import pytest

from workbench.bench.instance_scenes import SIZE_HW, InstanceScenes, draw
from workbench.segments import check_rle


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> InstanceScenes:
    return InstanceScenes(tmp_path_factory.mktemp("bench"), 20)


@pytest.fixture(scope="module")
def detections(scenes: InstanceScenes) -> pa.Table:
    return scenes.make_run().segments()


def test_a_seed_draws_the_same_again() -> None:
    first, second, other = (draw(seed) for seed in (5, 5, 6))
    assert [each.rle for each in first[1]] == [each.rle for each in second[1]]
    assert [each.score for each in first[1]] != [each.score for each in other[1]]


def test_objects_and_detections_are_like_those_of_coco(scenes: InstanceScenes, detections: pa.Table) -> None:
    ((gt, _),) = scenes.ground_truth("instance")
    assert 5 < len(gt) / scenes.count < 10
    assert 30 <= len(detections) / scenes.count <= 100
    areas = gt["area"].to_numpy()
    assert [(areas < 32**2).any(), ((areas >= 32**2) & (areas < 96**2)).any(), (areas >= 96**2).any()] == 3 * [True]
    assert len(set(detections["score"].to_pylist())) < len(detections), "no two detections have the same score"
    assert (detections["height"][0].as_py(), detections["width"][0].as_py()) == SIZE_HW
    for table in (gt, detections):
        check_rle(table, "drawn")


def test_pycocotools_gets_the_same(scenes: InstanceScenes, detections: pa.Table) -> None:
    truth, results = (json.loads(path.read_text()) for path in scenes.write_for_pycocotools())
    tables = next(scenes.ground_truth("instance"))[0], detections
    for listed, table in zip((truth["annotations"], results), tables, strict=True):
        assert [row["segmentation"]["counts"].encode() for row in listed] == table["counts"].to_pylist()
        assert [str(row["image_id"]) for row in listed] == table["image_id"].to_pylist()
        assert [row["category_id"] for row in listed] == table["category_id"].to_pylist()
    annotations = truth["annotations"]
    assert [row["id"] for row in annotations] == tables[0]["source_id"].to_pylist()
    assert [row["area"] for row in annotations] == tables[0]["area"].to_pylist()
    assert [bool(row["iscrowd"]) for row in annotations] == tables[0]["iscrowd"].to_pylist()
    assert np.array_equal([row["bbox"] for row in annotations], tables[0]["bbox"].to_pylist())
    assert [row["score"] for row in results] == tables[1]["score"].to_pylist()
