"""PQ must be panopticapi's to the last bit, its oddities included."""

import random

import numpy as np
import pytest
from hypothesis import example, given, settings

from tests.reference.scenes import CATEGORIES, Listed, PanopticImage, panoptic_pairs, panopticapi_scores, table_of
from workbench.evaluation import panoptic
from workbench.evaluation.columns import join, segments_of
from workbench.evaluation.overlaps import intersect
from workbench.evaluation.panoptic import PanopticResult, PanopticTally

CATEGORY_IDS = np.array(list(CATEGORIES), dtype=np.int32)
ISTHING = np.array(list(CATEGORIES.values()))


def tally_of(gt: list[PanopticImage], pred: list[PanopticImage], first: int = 0) -> PanopticTally:
    ids = [image.image_id for image in gt]
    truth, guess = segments_of(table_of(gt), ids, first), segments_of(table_of(pred, score=1.0), ids, first)
    return panoptic.tally(truth, guess, panoptic.match(truth, guess, intersect(truth, guess)))


def score(gt: list[PanopticImage], pred: list[PanopticImage]) -> PanopticResult:
    return panoptic.result(tally_of(gt, pred), CATEGORY_IDS, ISTHING, np.arange(len(gt)))


def image(label_map: list[list[int]], *listed: Listed, image_id: str = "0") -> PanopticImage:
    return PanopticImage(image_id, np.array(label_map, dtype=np.int64), listed)


def counts(result: PanopticResult) -> dict[int, tuple[int, int, int]]:
    """Category id -> (tp, fp, fn) where any of them is not 0."""
    rows = zip(result.category_ids.tolist(), result.tp.tolist(), result.fp.tolist(), result.fn.tolist(), strict=True)
    return {category: tuple(row) for category, *row in rows if any(row)}


def assert_as_panopticapi(pair: tuple[list[PanopticImage], list[PanopticImage]]) -> None:
    official = panopticapi_scores(*pair)
    ours = score(*pair)
    for row, category in enumerate(CATEGORIES):
        found = (ours.tp[row], ours.fp[row], ours.fn[row], ours.iou_sum[row])
        assert tuple(found) == official["counts"][category]
    for name, isthing in (("all", None), ("things", True), ("stuff", False)):
        mean = ours.mean(isthing)
        if official[name] is None:
            assert (mean.pq, mean.sq, mean.rq, mean.n) == (None, None, None, 0)
        else:
            assert (mean.pq, mean.sq, mean.rq, mean.n) == tuple(official[name].values())
    if official["all"] is not None:
        for row, category in enumerate(CATEGORIES):
            found = tuple(values[row] for values in ours.qualities())
            expected = tuple(official["per_class"][category].values())
            assert found == expected if ours.occurs[row] else np.isnan(found).all()


@settings(deadline=None, max_examples=200)
@given(pair=panoptic_pairs())
@example(pair=([image([[0]])], [image([[0]])]))
def test_every_number_is_panopticapis_to_the_last_bit(pair):
    assert_as_panopticapi(pair)


@pytest.mark.slow
@settings(deadline=None, max_examples=2000)
@given(pair=panoptic_pairs())
def test_every_number_is_panopticapis_over_thousands_of_datasets(pair):
    assert_as_panopticapi(pair)


@settings(deadline=None, max_examples=30)
@given(pair=panoptic_pairs(images=4))
def test_chunks_joined_in_any_order_give_the_same_bits(pair):
    gt, pred = pair
    parts = [tally_of([truth], [guess], first) for first, (truth, guess) in enumerate(zip(gt, pred, strict=True))]
    random.Random(0).shuffle(parts)
    joined = panoptic.result(join(parts), CATEGORY_IDS, ISTHING, np.arange(len(gt)))
    assert joined.iou_sum.tolist() == score(gt, pred).iou_sum.tolist()
    assert counts(joined) == counts(score(gt, pred))


def test_a_perfect_prediction_scores_one():
    gt = image([[1, 1, 2], [0, 2, 2]], Listed(1, 1), Listed(2, 7))
    mean = score([gt], [gt]).mean()
    assert (mean.pq, mean.sq, mean.rq, mean.n) == (1.0, 1.0, 1.0, 2)


def test_worked_by_hand():
    """Segment 1 (4 pixels) is found by 3 of its pixels and 1 beside it, so IoU 3/5; 2 is missed, one is invented."""
    gt = image([[1, 1, 1, 1, 2, 9]], Listed(1, 1), Listed(2, 1), Listed(9, 7))
    pred = image([[0, 5, 5, 5, 5, 6]], Listed(5, 1), Listed(6, 2))
    result = score([gt], [pred])
    assert counts(result) == {1: (1, 0, 1), 2: (0, 1, 0), 7: (0, 0, 1)}
    pq, sq, rq = (values[0] for values in result.qualities())
    assert (pq, sq, rq) == (0.6 / 1.5, 0.6, 1 / 1.5)
    assert result.mean().pq == (0.6 / 1.5 + 0 + 0) / 3


def test_an_iou_of_exactly_a_half_is_no_match():
    gt = image([[1, 1]], Listed(1, 1))
    assert counts(score([gt], [image([[1, 0]], Listed(1, 1))])) == {1: (0, 1, 1)}


def test_predicted_pixels_on_void_leave_the_union():
    gt = image([[1, 0, 0]], Listed(1, 1))
    result = score([gt], [image([[1, 1, 1]], Listed(1, 1))])
    assert (counts(result), result.iou_sum[0]) == ({1: (1, 0, 0)}, 1.0)


@pytest.mark.parametrize(("on_void", "expected"), [(1, {1: (0, 1, 0)}), (2, {})])
def test_a_prediction_more_than_half_on_void_is_ignored(on_void, expected):
    gt = image([[0] * on_void + [2] * (2 - on_void) + [0]], Listed(2, 7, iscrowd=True))
    pred = image([[1, 1, 0]], Listed(1, 1))
    assert counts(score([gt], [pred])) == expected


def test_a_crowd_absorbs_predictions_of_its_own_category_only():
    gt = image([[1, 1, 2, 2]], Listed(1, 1, iscrowd=True), Listed(2, 2, iscrowd=True))
    pred = image([[3, 3, 4, 4]], Listed(3, 1), Listed(4, 1))
    assert counts(score([gt], [pred])) == {1: (0, 1, 0)}


@pytest.mark.parametrize(("last", "expected"), [(1, {}), (2, {1: (0, 1, 0)})])
def test_of_two_crowds_of_a_category_the_last_listed_absorbs(last, expected):
    crowds = [Listed(1, 1, iscrowd=True), Listed(2, 1, iscrowd=True)]
    gt = image([[1, 1, 2]], *sorted(crowds, key=lambda entry: entry.id == last))
    assert counts(score([gt], [image([[3, 3, 0]], Listed(3, 1))])) == expected


def test_a_listed_segment_without_pixels_is_missed():
    assert counts(score([image([[0]], Listed(4, 2))], [image([[0]])])) == {2: (0, 0, 1)}


def test_pixels_of_an_unlisted_id_are_neither_void_nor_a_segment():
    gt, pred = image([[8, 8]]), image([[1, 1]], Listed(1, 1))
    assert counts(score([gt], [pred])) == {1: (0, 1, 0)}


def test_the_declared_area_decides_the_union():
    """Two pixels declared as four: a perfect mask has IoU 2/4, no match."""
    gt = image([[1, 1]], Listed(1, 1, area=4))
    assert counts(score([gt], [image([[1, 1]], Listed(1, 1))])) == {1: (0, 1, 1)}


def test_without_stuff_its_mean_is_none():
    gt = image([[1]], Listed(1, 1))
    assert score([gt], [gt]).mean(isthing=False).pq is None
    assert score([gt], [gt]).mean(isthing=True).pq == 1.0
