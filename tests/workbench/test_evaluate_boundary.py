"""Outlines, boundary PQ and boundary AP: the official tools' numbers to the last bit, found another way."""

from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tests.reference.detections import CATEGORIES as INSTANCE_CATEGORIES
from tests.reference.detections import Instance, instance_pairs
from tests.reference.detections import table_of as instance_table
from tests.reference.outlines import boundary_pq_counts, depth, outline_by_erosions
from tests.reference.scene_dataset import SceneDataset, make_run
from tests.reference.scenes import CATEGORIES, Listed, PanopticImage, panoptic_pairs, table_of
from workbench import rle
from workbench.evaluation import average_precision, boundary, instance, overlaps, panoptic
from workbench.evaluation.average_precision import InstanceResult
from workbench.evaluation.bootstrap import StoredCounts, point
from workbench.evaluation.columns import segments_of
from workbench.evaluation.evaluation import evaluate
from workbench.evaluation.headlines import headlines
from workbench.evaluation.image_ids import ranks_of_ids
from workbench.evaluation.instance_ious import Groups, ious_of
from workbench.evaluation.overlaps import intersect
from workbench.evaluation.panoptic import PanopticResult
from workbench.evaluation.resampling import Bootstrap

RATIOS = st.sampled_from([0.02, 0.1, 0.15, 0.2, 0.3])
SIZES = st.tuples(st.integers(1, 12), st.integers(1, 12))


@pytest.fixture(params=["compiled", "numpy"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "numpy":
        monkeypatch.setattr(boundary, "_kernels", lambda: None)


def by_outlines(gt: list[PanopticImage], pred: list[PanopticImage], ratio: float) -> PanopticResult:
    ids = [image.image_id for image in gt]
    truth, guess = segments_of(table_of(gt), ids), segments_of(table_of(pred, score=1.0), ids)
    matched = panoptic.match(truth, guess, intersect(truth, guess), cap=boundary.pair_iou(truth, guess, ratio))
    isthing = np.array(list(CATEGORIES.values()))
    tally = panoptic.tally(truth, guess, matched)
    return panoptic.result(tally, np.array(list(CATEGORIES), dtype=np.int32), isthing, np.arange(len(gt)))


def one_segment(mask: np.ndarray) -> PanopticImage:
    return PanopticImage("0", mask.astype(np.int64), (Listed(1, 1),))


@settings(deadline=None, max_examples=200)
@given(data=st.data(), ratio=RATIOS)
def test_outlines_are_what_erosions_take_away(data, ratio):
    masks = data.draw(st.lists(SIZES.flatmap(lambda size: arrays.arrays(np.bool_, size)), min_size=1, max_size=4))
    images = [PanopticImage(str(i), mask.astype(np.int64), (Listed(1, 1),)) for i, mask in enumerate(masks)]
    segments = segments_of(table_of(images, score=1.0), [image.image_id for image in images])
    found = boundary.outlines(segments, ratio)
    for mask, counts, area in zip(masks, found.counts.to_pylist(), found.area.tolist(), strict=True):
        expected = outline_by_erosions(mask, depth(*mask.shape, ratio))
        assert counts == rle.encode(expected)
        assert area == expected.sum()
        assert (boundary.outline(mask, depth(*mask.shape, ratio)) == expected).all()


@settings(deadline=None, max_examples=150)
@given(pair=panoptic_pairs(), ratio=RATIOS)
def test_boundary_pq_is_the_official_rule_to_the_last_bit(pair, ratio):
    """Void, crowds, wrong areas, pixels that no segment lists: all as in the official tool."""
    found = by_outlines(*pair, ratio)
    for row, counts in enumerate(boundary_pq_counts(*pair, tuple(CATEGORIES), ratio).values()):
        assert [found.tp[row], found.fp[row], found.fn[row], found.iou_sum[row]] == counts


@settings(deadline=None, max_examples=40)
@given(pair=panoptic_pairs(), ratio=RATIOS)
def test_numpy_gives_what_the_kernels_give(pair, ratio):
    compiled = by_outlines(*pair, ratio)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(boundary, "_kernels", lambda: None)
        patch.setattr(overlaps, "compiled_kernels", lambda: None)
        by_hand = by_outlines(*pair, ratio)
    assert compiled.iou_sum.tolist() == by_hand.iou_sum.tolist()
    assert compiled.tp.tolist() == by_hand.tp.tolist()


def test_an_outline_worked_by_hand(either_way):
    """A 5 x 6 image has a diagonal of 7.8, so d is 1: a mask that fills it keeps the ring of pixels at the border."""
    segments = segments_of(table_of([one_segment(np.ones((5, 6)))], score=1.0), ["0"])
    ring = np.ones((5, 6), dtype=np.bool_)
    ring[1:-1, 1:-1] = False
    found = boundary.outlines(segments)
    assert (rle.decode(found.counts.to_pylist()[0], 5, 6) == ring).all()
    assert found.area.tolist() == [18]


def test_depth_is_two_percent_of_the_diagonal_rounded_half_to_even():
    heights, widths = np.array([1, 480, 3, 75], dtype=np.int32), np.array([1, 640, 4, 100], dtype=np.int32)
    assert boundary.distance(heights, widths).tolist() == [1, 16, 1, 2]  # 125 * 0.02 = 2.5
    expected = [depth(int(h), int(w)) for h, w in zip(heights, widths, strict=True)]
    assert boundary.distance(heights, widths).tolist() == expected


def test_an_object_right_inside_and_wrong_at_its_edge_loses(either_way):
    """20 x 20 against its 16 x 16 middle: masks overlap by 256/400, outlines of depth 1 by none of 76 + 60."""
    truth, guess = np.zeros((24, 24)), np.zeros((24, 24))
    truth[2:22, 2:22], guess[4:20, 4:20] = 1, 1
    gt, pred = [one_segment(truth)], [one_segment(guess)]
    result = by_outlines(gt, pred, 0.02)
    assert (result.tp[0], result.fp[0], result.fn[0]) == (0, 1, 1)
    assert boundary_pq_counts(gt, pred, (1,))[1][:3] == [0, 1, 1]


def test_a_perfect_prediction_has_boundary_pq_one(either_way):
    gt = [PanopticImage("0", np.array([[1, 1, 2, 2], [1, 0, 2, 2]]), (Listed(1, 1), Listed(2, 7)))]
    assert by_outlines(gt, gt, 0.02).mean().pq == 1.0


def ap(gt: list[Instance], dets: list[Instance], geometry: instance.Geometry) -> InstanceResult:
    ids = [str(image) for image in dict.fromkeys([100, 9, 12, *(each.image_id for each in gt + dets)])]
    truth, found = segments_of(instance_table(gt), ids), segments_of(instance_table(dets), ids)
    tally = instance.tally(truth, found, instance.match(truth, found, geometry))
    return average_precision.accumulate(tally, np.array(INSTANCE_CATEGORIES, dtype=np.int32), ranks_of_ids(ids))


@settings(deadline=None, max_examples=100)
@given(pair=instance_pairs())
def test_boundary_ious_are_the_smaller_of_both_and_those_of_masks_for_crowds(pair):
    """Every pair of a group against masks painted and eroded."""
    ids = ["100", "9", "12"]
    gt, dets = (segments_of(instance_table(side), ids) for side in pair)
    gt, dets = (side.take(np.lexsort((side.category_id, side.image))) for side in (gt, dets))
    keys = [(side.image * 10 + side.category_id) for side in (gt, dets)]
    shared = np.intersect1d(*keys)
    groups, truths = (
        np.stack([np.searchsorted(key, shared), np.searchsorted(key, shared, "right")], axis=1) for key in keys[::-1]
    )
    every = Groups(np.arange(len(dets)), np.arange(len(gt)), groups, truths)
    found = iter(ious_of(gt, dets, every, "boundary").tolist())
    for (begin, end), (gt_begin, gt_end) in zip(groups.tolist(), truths.tolist(), strict=True):
        for d in range(begin, end):
            for t in range(gt_begin, gt_end):
                masks = [
                    rle.decode(s.counts[i].as_py(), int(s.height[i]), int(s.width[i])) for s, i in ((gt, t), (dets, d))
                ]
                edges = [outline_by_erosions(mask, depth(*mask.shape)) for mask in masks]
                iscrowd = bool(gt.iscrowd[t])
                expected = iou(*masks, iscrowd) if iscrowd else min(iou(*masks, False), iou(*edges, False))
                assert next(found) == expected
    assert next(found, None) is None


def iou(truth: np.ndarray, guess: np.ndarray, iscrowd: bool) -> float:
    shared = int((truth & guess).sum())
    whole = int(guess.sum()) if iscrowd else int((truth | guess).sum())
    return shared / whole if shared else 0.0


def test_boundary_ap_is_lower_where_outlines_are_poor():
    truth, guess = np.zeros((24, 24), np.bool_), np.zeros((24, 24), np.bool_)
    truth[2:22, 2:22], guess[4:20, 4:20] = True, True
    gt, dets = [Instance(9, 1, truth, 1)], [Instance(9, 1, guess, 1, score=0.9)]
    assert ap(gt, dets, "segm").summary()["AP50"] == pytest.approx(1.0)
    assert ap(gt, dets, "boundary").summary()["AP50"] == 0.0


def test_evaluate_adds_outlines_where_asked_and_only_there(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    listed = (Listed(1, 1), Listed(2, 2), Listed(7, 7))
    label_map = np.array([[1, 1, 1, 2, 2, 7], [1, 1, 1, 2, 2, 7], [0, 0, 0, 7, 7, 7]])
    gt = [PanopticImage("3", label_map, listed), PanopticImage("5", np.fliplr(label_map), listed)]
    worn = [replace(gt[0], label_map=np.where(np.arange(6) > 0, label_map, 0)), gt[1]]
    dataset = SceneDataset(gt)
    plain = evaluate(make_run(tmp_path / "plain", dataset, worn), dataset)
    assert "boundary" not in plain.metrics["panoptic"]
    assert "boundary" not in plain.metrics["instance"]
    run = make_run(tmp_path / "run", dataset, worn)
    found = evaluate(run, dataset, bootstrap=Bootstrap(resamples=20), boundary=True)
    metrics = found.metrics
    counts = boundary_pq_counts(gt, worn, tuple(CATEGORIES))
    for category, expected in counts.items():
        row = metrics["panoptic"]["boundary"]["per_category"][str(category)]
        assert [row["tp"], row["fp"], row["fn"], row["iou_sum"]] == expected
    assert metrics["instance"]["boundary"]["AP"] <= metrics["instance"]["segm"]["AP"]
    numbers = headlines(metrics)
    counted = StoredCounts(run.path, metrics)
    for metric in ("boundary_pq", "boundary_AP"):
        each = counted.counted(metric, counted.image_ids(metric))
        values = dict(zip(each.names, point(each)[0][0].tolist(), strict=True))
        assert values[metric] == numbers[metric]
        assert metrics["intervals"]["headlines"][metric]["low"] <= numbers[metric]
    rows = pq.read_table(run.path / "per_category.parquet").to_pylist()
    assert {row["geometry"] for row in rows if row["task"] == "panoptic"} == {None, "boundary"}
    for name in ("panoptic", "semantic"):
        assert {k: v for k, v in metrics[name].items() if k != "boundary"} == plain.metrics[name]


def test_boundary_iou_of_a_semantic_run_is_that_of_painted_outlines(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    listed = (Listed(1, 1), Listed(7, 7))
    gt = [PanopticImage(str(i), rng.choice([0, 1, 7, 7], (8, 9)), listed) for i in range(3)]
    pred = [replace(image, label_map=np.where(rng.random((8, 9)) < 0.3, 7, image.label_map)) for image in gt]
    dataset = SceneDataset(gt, tasks=("semantic",))
    run = make_run(tmp_path / "run", dataset, pred, task="semantic")
    found = evaluate(run, dataset, boundary=True).metrics["semantic"]["boundary"]
    expected = []
    for category in (1, 7):
        shared = whole = 0
        for truth, guess in zip(gt, pred, strict=True):
            edges = [outline_by_erosions(image.label_map == category, 1) for image in (truth, guess)]
            labelled = truth.label_map > 0
            shared += int((edges[0] & edges[1]).sum())
            whole += int(((edges[0] | edges[1]) & labelled).sum())
        assert found["per_category"][str(category)]["iou"] == shared / whole
        expected.append(shared / whole)
    assert found["miou"] == np.mean(expected)
