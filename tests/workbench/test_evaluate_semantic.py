"""mIoU must be what looking at every pixel gives, and every mean must say which classes it runs over."""

import numpy as np
import pytest
from hypothesis import given, settings

from tests.reference.miou import iou_by_pixels
from tests.reference.scenes import CATEGORIES, Listed, PanopticImage, panoptic_pairs, table_of
from workbench.evaluation import semantic
from workbench.evaluation.columns import segments_of
from workbench.evaluation.overlaps import intersect
from workbench.evaluation.semantic import SemanticResult

CATEGORY_IDS = np.array(list(CATEGORIES), dtype=np.int32)


def score(gt: list[PanopticImage], pred: list[PanopticImage]) -> SemanticResult:
    ids = [image.image_id for image in gt]
    truth, guess = segments_of(table_of(gt), ids), segments_of(table_of(pred, score=1.0), ids)
    return semantic.count(truth, guess, intersect(truth, guess), CATEGORY_IDS)


def image(label_map: list[list[int]], classes: dict[int, int]) -> PanopticImage:
    """A map whose values 1.. are segments of the given categories; 0 is void."""
    return PanopticImage("0", np.array(label_map), tuple(Listed(i, category) for i, category in classes.items()))


@settings(deadline=None)
@given(pair=panoptic_pairs())
def test_counts_are_those_of_looking_at_every_pixel(pair):
    result = score(*pair)
    rows = zip(result.intersection.tolist(), result.union.tolist(), result.gt_pixels.tolist(), strict=True)
    assert dict(zip(CATEGORIES, rows, strict=True)) == iou_by_pixels(*pair, tuple(CATEGORIES))


@settings(deadline=None, max_examples=30)
@given(pair=panoptic_pairs())
def test_counts_of_single_images_add_up(pair):
    parts = [score([truth], [guess]) for truth, guess in zip(*pair, strict=True)]
    assert np.array_equal(sum(parts, SemanticResult.zero(CATEGORY_IDS)).confusion, score(*pair).confusion)


def test_worked_by_hand():
    """Class 1: 2 of 3 pixels found. Class 2: 1 found, 1 taken from class 1. One pixel of class 7 has no prediction."""
    gt = image([[1, 1, 1, 2, 3, 0]], {1: 1, 2: 2, 3: 7})
    pred = image([[1, 1, 2, 2, 0, 2]], {1: 1, 2: 2})
    result = score([gt], [pred])
    assert result.iou[:3].tolist() == [2 / 3, 1 / 2, 0.0]
    assert np.isnan(result.iou[3])
    assert result.aacc == 3 / 5
    assert result.macc == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert result.confusion[:, -1].tolist() == [0, 0, 1, 0]


def test_each_mean_runs_over_its_own_classes():
    """Class 1 is found whole, class 2 is predicted on a pixel of class 7 which is missed, class 9 never occurs."""
    result = score([image([[1, 2]], {1: 1, 2: 7})], [image([[1, 2]], {1: 1, 2: 2})])
    assert result.miou == 1 / 3
    assert result.miou_in_gt == 1 / 2
    assert result.miou_all_classes == 1 / 4


def test_predictions_on_void_count_nowhere():
    result = score([image([[1, 0]], {1: 1})], [image([[1, 2]], {1: 1, 2: 9})])
    assert (result.miou, result.aacc) == (1.0, 1.0)
    assert np.isnan(result.iou[3])


def test_two_segments_of_a_class_count_as_one():
    gt = image([[1, 1, 2, 2]], {1: 1, 2: 1})
    assert score([gt], [image([[1, 2, 2, 2]], {1: 1, 2: 1})]).miou == 1.0


def test_without_a_labelled_pixel_there_is_no_mean():
    result = score([image([[0]], {})], [image([[1]], {1: 1})])
    assert (result.miou, result.miou_in_gt, result.miou_all_classes, result.macc, result.aacc) == (None,) * 5
