"""Boundary PQ and AP against the official tool: its numbers as kept, and itself where it is installed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reference.detections import CATEGORIES as INSTANCE_CATEGORIES
from tests.reference.detections import Instance, instance_pairs
from tests.reference.detections import table_of as instance_table
from tests.reference.official_boundary import boundary_ap, boundary_pq, golden_instances, golden_scenes
from tests.reference.scenes import CATEGORIES, Listed, PanopticImage, panoptic_pairs, table_of
from workbench.evaluation import average_precision, boundary, instance, panoptic
from workbench.evaluation.average_precision import InstanceResult
from workbench.evaluation.columns import segments_of
from workbench.evaluation.image_ids import ranks_of_ids
from workbench.evaluation.overlaps import intersect

CATEGORY_IDS = np.array(INSTANCE_CATEGORIES, dtype=np.int32)


@pytest.fixture(scope="module")
def golden() -> Any:
    """Made by the official tool; `made_with` in it says how."""
    return json.loads((Path(__file__).parent / "golden_boundary.json").read_text())


def pq_counts(gt: list[PanopticImage], pred: list[PanopticImage], ratio: float) -> dict[int, list[float]]:
    ids = [image.image_id for image in gt]
    truth, guess = segments_of(table_of(gt), ids), segments_of(table_of(pred, score=1.0), ids)
    matched = panoptic.match(truth, guess, intersect(truth, guess), cap=boundary.pair_iou(truth, guess, ratio))
    result = panoptic.result(
        panoptic.tally(truth, guess, matched),
        np.array(list(CATEGORIES), dtype=np.int32),
        np.array(list(CATEGORIES.values())),
        np.arange(len(gt)),
    )
    columns = (result.tp.tolist(), result.fp.tolist(), result.fn.tolist(), result.iou_sum.tolist())
    return {category: list(row) for category, *row in zip(CATEGORIES, *columns, strict=True)}


def ap(gt: list[Instance], dets: list[Instance]) -> InstanceResult:
    ids = ["100", "9", "12"]
    truth, found = segments_of(instance_table(gt), ids), segments_of(instance_table(dets), ids)
    tally = instance.tally(truth, found, instance.match(truth, found, "boundary"))
    return average_precision.accumulate(tally, CATEGORY_IDS, ranks_of_ids(ids))


@pytest.mark.parametrize("ratio", [0.02, 0.1])
def test_boundary_pq_is_the_golden_one_to_the_last_bit(golden, ratio):
    found = pq_counts(*golden_scenes(), ratio)
    assert {str(category): row for category, row in found.items()} == golden["boundary_pq"][str(ratio)]


def test_boundary_ap_is_the_golden_one_to_the_last_bit(golden):
    found = [-1.0 if value is None else value for value in ap(*golden_instances()).summary().values()]
    assert found == golden["boundary_ap"]


@settings(deadline=None, max_examples=150)
@given(pair=panoptic_pairs(), ratio=st.sampled_from([0.02, 0.1, 0.2, 0.3]))
def test_boundary_pq_is_the_official_one_on_random_data(pair, ratio):
    pytest.importorskip("boundary_iou", reason="bowenc0221/boundary-iou-api is not installed")
    assert pq_counts(*pair, ratio) == boundary_pq(*pair, ratio)


@settings(deadline=None, max_examples=100)
@given(pair=instance_pairs())
def test_boundary_ap_arrays_are_the_official_ones_on_random_data(pair):
    pytest.importorskip("boundary_iou", reason="bowenc0221/boundary-iou-api is not installed")
    official, found = boundary_ap(*pair), ap(*pair)
    for name in ("precision", "recall", "scores"):
        assert (getattr(found, name) == official.eval[name]).all()


def test_a_segment_may_have_the_official_tools_marker_for_id():
    """The tool marks insides with the id max(CATEGORIES) + 1 = 10, and confuses them with a segment of that id."""
    label_map = np.zeros((20, 20), dtype=np.int64)
    label_map[:10], label_map[10:] = 3, 4
    gt = [PanopticImage("0", label_map, (Listed(3, 1), Listed(4, 2)))]
    marked = {3: 3, 4: max(CATEGORIES) + 1}
    clash = [PanopticImage("0", np.vectorize(marked.get)(label_map), (Listed(3, 1), Listed(marked[4], 2)))]
    assert pq_counts(gt, clash, 0.02) == pq_counts(gt, gt, 0.02)
    pytest.importorskip("boundary_iou", reason="bowenc0221/boundary-iou-api is not installed")
    assert boundary_pq(gt, clash, 0.02) != boundary_pq(gt, gt, 0.02)
