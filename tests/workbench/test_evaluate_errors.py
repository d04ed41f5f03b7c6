"""Every segment of a map gets the one error type that its definition gives it."""

import numpy as np
from hypothesis import given, settings

from tests.reference.map_errors import types_of
from tests.reference.scenes import Listed, PanopticImage, panoptic_pairs, table_of
from workbench.evaluation import confusion, panoptic
from workbench.evaluation.columns import Segments, segments_of
from workbench.evaluation.errors import MAP_TYPES, map_errors
from workbench.evaluation.overlaps import intersect


def image(label_map: list[int], *listed: Listed) -> PanopticImage:
    return PanopticImage("0", np.array([label_map], dtype=np.int64), listed)


def sides(gt: list[PanopticImage], pred: list[PanopticImage]) -> tuple[Segments, Segments]:
    ids = [each.image_id for each in gt]
    return segments_of(table_of(gt), ids), segments_of(table_of(pred, score=1.0), ids)


def typed(gt: PanopticImage, pred: PanopticImage) -> tuple[dict[int, str], dict[int, str]]:
    """Id in the label map -> type, of the ground truth (void rows left out) and of the predictions."""
    truth, guess = sides([gt], [pred])
    overlaps = intersect(truth, guess)
    found = map_errors(truth, guess, overlaps, panoptic.match(truth, guess, overlaps))
    return by_id(truth, found.gt_code), by_id(guess, found.pred_code)


def by_id(segments: Segments, codes: np.ndarray) -> dict[int, str]:
    rows = zip(segments.source_id.tolist(), codes.tolist(), segments.is_void.tolist(), strict=True)
    return {key: MAP_TYPES[code] for key, code, is_void in rows if not is_void}


@settings(deadline=None, max_examples=120)
@given(pair=panoptic_pairs())
def test_types_are_those_of_the_definitions(pair):
    for gt, pred in zip(*pair, strict=True):
        truth, guess = sides([gt], [pred])
        overlaps = intersect(truth, guess)
        matched = panoptic.match(truth, guess, overlaps)
        found = map_errors(truth, guess, overlaps, matched)
        pairs = zip(truth.source_id[matched.gt_rows], guess.source_id[matched.pred_rows], strict=True)
        ignored = set(guess.source_id[matched.ignored].tolist())
        expected = types_of(gt, pred, {(int(g), int(p)) for g, p in pairs}, ignored)
        ours = {("gt", key): value for key, value in by_id(truth, found.gt_code).items()}
        ours |= {("pred", key): value for key, value in by_id(guess, found.pred_code).items()}
        assert ours == expected


@settings(deadline=None, max_examples=50)
@given(pair=panoptic_pairs())
def test_types_do_not_depend_on_other_images(pair):
    truth, guess = sides(*pair)
    overlaps = intersect(truth, guess)
    together = map_errors(truth, guess, overlaps, panoptic.match(truth, guess, overlaps))
    apart = [typed(gt, pred) for gt, pred in zip(*pair, strict=True)]
    assert [MAP_TYPES[code] for code in together.pred_code] == [kind for _, found in apart for kind in found.values()]


def test_a_segment_of_another_category_is_the_wrong_class():
    gt, pred = image([1, 1, 1, 0], Listed(1, 1)), image([5, 5, 5, 0], Listed(5, 2))
    assert typed(gt, pred) == ({1: "wrong_class"}, {5: "wrong_class"})


def test_two_segments_under_one_prediction_are_merged():
    gt = image([1, 1, 2, 2], Listed(1, 1), Listed(2, 1))
    pred = image([5, 5, 5, 5], Listed(5, 1))
    assert typed(gt, pred) == ({1: "merged", 2: "merged"}, {5: "merged"})


def test_a_segment_swallowed_by_the_match_of_another_is_merged():
    gt = image([1, 1, 1, 2], Listed(1, 1), Listed(2, 1))
    pred = image([5, 5, 5, 5], Listed(5, 1))
    assert typed(gt, pred) == ({1: "matched", 2: "merged"}, {5: "matched"})


def test_a_segment_in_two_halves_is_split():
    gt = image([1, 1, 1, 1], Listed(1, 1))
    pred = image([5, 5, 6, 6], Listed(5, 1), Listed(6, 1))
    assert typed(gt, pred) == ({1: "split"}, {5: "split", 6: "split"})


def test_two_specks_do_not_split_a_segment():
    gt = image([1] * 20, Listed(1, 1))
    pred = image([5, 6, *[0] * 18], Listed(5, 1), Listed(6, 1))
    assert typed(gt, pred) == ({1: "missed"}, {5: "poor_outline", 6: "poor_outline"})


def test_what_lies_in_a_segment_that_is_found_is_a_duplicate():
    gt = image([1, 1, 1, 1], Listed(1, 1))
    pred = image([5, 5, 5, 6], Listed(5, 1), Listed(6, 1))
    assert typed(gt, pred) == ({1: "matched"}, {5: "matched", 6: "duplicate"})


def test_too_small_an_iou_is_a_poor_outline_down_to_a_tenth():
    rest, others = [7, 7, 9, 9, 9], (Listed(7, 7), Listed(9, 9))
    for pixels, expected in ((5, ("poor_outline", "poor_outline")), (6, ("missed", "background"))):  # IoU 1/10, 1/11
        gt = image([*[1] * pixels, *rest], Listed(1, 1), *others)
        pred = image([*[0] * (pixels - 1), *[5] * 6], Listed(5, 1))
        found, predicted = typed(gt, pred)
        assert (found[1], predicted[5]) == expected


def test_nothing_of_the_category_there_is_background():
    gt, pred = image([1, 1, 1, 2], Listed(1, 7), Listed(2, 9)), image([1, 1, 1, 5], Listed(1, 7), Listed(5, 1))
    found, predicted = typed(gt, image([1, 1, 5, 5], Listed(1, 7), Listed(5, 1)))
    assert (found, predicted) == ({1: "matched", 2: "missed"}, {1: "matched", 5: "background"})
    assert typed(gt, pred)[1] == {1: "matched", 5: "wrong_class"}


def test_what_is_ignored_is_named_after_where_it_lies():
    crowd = image([1, 1, 1, 0, 0], Listed(1, 1, iscrowd=True))
    assert typed(crowd, image([5, 5, 0, 6, 6], Listed(5, 1), Listed(6, 1))) == ({1: "crowd"}, {5: "crowd", 6: "void"})


def test_confusion_counts_every_pair_and_everything_alone():
    """1 is found, 2 taken for category 7, 3 missed; 8 is invented, 9 lies on a crowd."""
    gt = image(
        [1, 1, 2, 2, 3, 4, 6], Listed(1, 1), Listed(2, 2), Listed(3, 9), Listed(4, 1, iscrowd=True), Listed(6, 2)
    )
    pred = image(
        [1, 1, 2, 2, 0, 9, 8], Listed(1, 1), Listed(2, 7), Listed(9, 1), Listed(8, 9)
    )  # fmt: skip
    truth, guess = sides([gt], [pred])
    overlaps = intersect(truth, guess)
    found = map_errors(truth, guess, overlaps, panoptic.match(truth, guess, overlaps))
    ids = np.array([1, 2, 7, 9], dtype=np.int32)
    rows = confusion.whole_table({"panoptic": confusion.of_map(truth, guess, found, ids)}, None).to_pylist()
    cells = {(row["gt_category_id"], row["pred_category_id"]): row["count"] for row in rows}
    assert cells == {(1, 1): 1, (2, 7): 1, (9, -1): 1, (2, 9): 1}
