"""AP must be pycocotools' to the last bit: every curve, every score, all 12 numbers."""

from dataclasses import replace

import numpy as np
import pycocotools.mask as coco_mask
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reference.detections import CATEGORIES, IMAGES, Instance, instance_pairs, pycocotools_scores, table_of
from workbench.evaluation import average_precision, instance, instance_ious
from workbench.evaluation.average_precision import InstanceResult
from workbench.evaluation.columns import Segments, join, segments_of
from workbench.evaluation.instance import GEOMETRIES, Geometry, InstanceTally
from workbench.evaluation.instance_ious import Groups, ious_of

CATEGORY_IDS = np.array(CATEGORIES, dtype=np.int32)
IMAGE_ORDER = np.argsort(np.argsort(IMAGES))
FULL = np.ones((2, 2), dtype=bool)
ONE = pytest.approx(1.0, abs=1e-15)  # pycocotools adds the smallest float to each denominator


def sides(gt: list[Instance], dets: list[Instance], images: tuple[int, ...] = IMAGES) -> tuple[Segments, Segments]:
    ids, first = [str(image) for image in images], IMAGES.index(images[0])
    truth, found = ([entry for entry in side if entry.image_id in images] for side in (gt, dets))
    return segments_of(table_of(truth), ids, first), segments_of(table_of(found), ids, first)


def tally_of(truth: Segments, found: Segments, geometry: Geometry) -> InstanceTally:
    return instance.tally(truth, found, instance.match(truth, found, geometry))


def score(gt: list[Instance], dets: list[Instance], geometry: Geometry = "segm") -> InstanceResult:
    return average_precision.accumulate(tally_of(*sides(gt, dets), geometry), CATEGORY_IDS, IMAGE_ORDER)


def assert_as_pycocotools(gt: list[Instance], dets: list[Instance], geometry: Geometry) -> None:
    official, ours = pycocotools_scores(gt, dets, geometry), score(gt, dets, geometry)
    assert np.array_equal(ours.precision, official.eval["precision"])
    assert np.array_equal(ours.recall, official.eval["recall"])
    assert np.array_equal(ours.scores, official.eval["scores"])
    assert [-1 if value is None else value for value in ours.summary().values()] == official.stats.tolist()


@pytest.mark.parametrize("geometry", GEOMETRIES)
@settings(deadline=None, max_examples=100)
@given(pair=instance_pairs())
def test_every_number_is_that_of_pycocotools_to_the_last_bit(geometry, pair):
    assert_as_pycocotools(*pair, geometry)


@pytest.mark.slow
@pytest.mark.parametrize("geometry", GEOMETRIES)
@settings(deadline=None, max_examples=2000)
@given(pair=instance_pairs())
def test_every_number_is_that_of_pycocotools_over_thousands_of_datasets(geometry, pair):
    assert_as_pycocotools(*pair, geometry)


@pytest.mark.parametrize("geometry", ("segm", "bbox", "boundary"))
@settings(deadline=None, max_examples=30)
@given(pair=instance_pairs())
def test_without_numba_the_same_matches_and_curves_come_out(geometry, pair):
    compiled = instance.match(*sides(*pair), geometry), score(*pair, geometry)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(instance_ious, "compiled_kernels", lambda: None)
        plain = instance.match(*sides(*pair), geometry), score(*pair, geometry)
    assert np.array_equal(compiled[0].gt_rows, plain[0].gt_rows)
    assert np.array_equal(compiled[0].iou, plain[0].iou, equal_nan=True)
    for name in ("precision", "recall", "scores", "gt"):
        assert np.array_equal(getattr(compiled[1], name), getattr(plain[1], name))


@settings(deadline=None)
@given(pair=instance_pairs())
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_every_iou_is_that_of_pycocotools_to_the_last_bit(geometry, pair):
    """Of all rows of an image, in one group each: thresholds would hide a difference."""
    gt, dets = sides(*pair)
    images = np.intersect1d(gt.image, dets.image)
    spans = [
        np.stack([np.searchsorted(side.image, images), np.searchsorted(side.image, images, "right")], axis=1)
        for side in (dets, gt)
    ]
    groups = Groups(np.arange(len(dets)), np.arange(len(gt)), *spans)
    shapes = [side.rles() if geometry == "segm" else side.bbox for side in (dets, gt)]
    expected = [
        coco_mask.iou(shapes[0][d:d_end], shapes[1][g:g_end], gt.iscrowd[g:g_end].tolist()).ravel()
        for (d, d_end), (g, g_end) in zip(*(span.tolist() for span in spans), strict=True)
    ]
    assert np.array_equal(ious_of(gt, dets, groups, geometry), np.concatenate([np.zeros(0), *expected]))


@settings(deadline=None, max_examples=30)
@given(pair=instance_pairs(), order=st.permutations(IMAGES))
def test_images_scored_one_by_one_in_any_order_give_the_same_bits(pair, order):
    parts = [tally_of(*sides(*pair, images=(image,)), "segm") for image in order]
    joined = average_precision.accumulate(join(parts), CATEGORY_IDS, IMAGE_ORDER)
    whole = score(*pair)
    for name in ("precision", "recall", "scores", "gt"):
        assert np.array_equal(getattr(joined, name), getattr(whole, name))


def crowded_image(rng: np.random.Generator, detections: int) -> tuple[list[Instance], list[Instance]]:
    shapes = [np.pad(np.ones((4, 4), bool), ((i, 12 - i), (3 * (i % 4), 12 - 3 * (i % 4)))) for i in range(12)]
    gt = [Instance(9, 1, mask, number) for number, mask in enumerate(shapes, start=1)]
    dets = []
    for number in range(detections):
        mask = np.roll(shapes[rng.integers(12)], rng.integers(-1, 2), axis=rng.integers(2))
        dets.append(Instance(9, 1, mask, number, score=float(rng.integers(1, 8)) / 8))
    return gt, dets


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_more_than_a_hundred_detections_in_one_image(geometry):
    assert_as_pycocotools(*crowded_image(np.random.default_rng(0), detections=250), geometry)


def test_perfect_detections_score_one_and_absent_sizes_none():
    gt = [Instance(9, 1, FULL, 1), Instance(12, 3, FULL, 2)]
    summary = score(gt, [replace(entry, score=0.5) for entry in gt]).summary()
    assert [summary["AP"], summary["AR1"], summary["APs"]] == [ONE, ONE, ONE]
    assert summary["APl"] is None and summary["ARm"] is None


def test_worked_by_hand():
    """Two objects; the best-scored detection finds one, the second nothing: precision 1 up to recall 0.5, then 0."""
    gt = [Instance(9, 1, FULL, 1), Instance(12, 1, FULL, 2)]
    dets = [Instance(9, 1, FULL, 1, score=0.9), Instance(100, 1, FULL, 2, score=0.8)]
    result = score(gt, dets)
    assert result.summary()["AP"] == pytest.approx(51 / 101)  # recall levels 0.00, 0.01 ... 0.50
    assert result.summary()["AR100"] == 0.5
    assert result.gt[0].tolist() == [2, 2, 0, 0]


def test_a_detection_with_iou_of_exactly_a_half_is_a_match():
    half = np.array([[True, True], [False, False]])
    found = instance.match(*sides([Instance(9, 1, FULL, 1)], [Instance(9, 1, half, 1, score=1.0)]), "segm")
    assert found.tp[0, 0].tolist() == [True] + 9 * [False]
    assert found.iou.tolist() == [0.5]


def test_a_crowd_makes_its_detections_ignored_not_true():
    dets = [Instance(9, 1, FULL, number, score=1.0) for number in (1, 2)]
    found = instance.match(*sides([Instance(9, 1, FULL, 1, iscrowd=True)], dets), "segm")
    assert not found.tp.any() and not found.fp.any()
    assert found.gt_rows[:, 0, 0].tolist() == [0, 0]


def test_a_match_with_annotation_id_0_is_a_false_positive():
    gt = [Instance(9, 1, FULL, 0)]
    found = instance.match(*sides(gt, [Instance(9, 1, FULL, 1, score=1.0)]), "segm")
    assert found.fp[0, 0].all() and found.gt_rows[0, 0, 0] == 0
    assert score(gt, [Instance(9, 1, FULL, 1, score=1.0)]).summary()["AP"] == 0.0


def test_sizes_go_by_the_declared_area():
    gt = [Instance(9, 1, FULL, 1, area=2000.0)]
    summary = score(gt, [Instance(9, 1, FULL, 1, score=1.0)]).summary()
    assert summary["APs"] is None
    assert summary["APm"] == ONE


def test_nothing_at_all_scores_nothing():
    assert set(score([], []).summary().values()) == {None}
    assert score([], [Instance(9, 1, FULL, 1, score=1.0)]).summary()["AP"] is None


def test_the_summary_of_one_category_is_its_own():
    gt = [Instance(9, 1, FULL, 1), Instance(9, 3, FULL, 2)]
    result = score(gt, [Instance(9, 3, FULL, 1, score=1.0)])
    assert [result.summary(k)["AP"] for k in range(3)] == [0.0, ONE, None]
    assert result.summary()["AP"] == pytest.approx(0.5)


def test_without_numba_many_detections_are_worked_on_in_parts_with_the_same_result(monkeypatch):
    gt, dets = crowded_image(np.random.default_rng(1), detections=60)
    whole = score(gt, dets)
    monkeypatch.setattr(instance_ious, "compiled_kernels", lambda: None)
    monkeypatch.setattr(average_precision, "_MOST_CELLS", 100)
    parts = score(gt, dets)
    for name in ("precision", "recall", "scores"):
        assert np.array_equal(getattr(whole, name), getattr(parts, name))
