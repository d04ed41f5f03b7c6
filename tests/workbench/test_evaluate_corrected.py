"""Corrected mode mends what the official tools get wrong, and strict mode, the default, does not."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings

from tests.reference.detections import Instance, instance_pairs
from tests.reference.detections import table_of as instance_table
from tests.reference.scene_dataset import SceneDataset, make_run
from tests.reference.scenes import Listed, PanopticImage, panoptic_pairs, table_of
from workbench.evaluation import average_precision, instance, mending, panoptic, tide, tide_ap
from workbench.evaluation.columns import segments_of
from workbench.evaluation.evaluation import evaluate
from workbench.evaluation.overlaps import intersect


def image(label_map: list[int], *listed: Listed) -> PanopticImage:
    return PanopticImage("0", np.array([label_map], dtype=np.int64), listed)


def panoptic_counts(gt: PanopticImage, pred: PanopticImage, corrected: bool) -> tuple[int, int, int]:
    """TP, FP, FN."""
    truth, guess = (segments_of(table, [gt.image_id]) for table in (table_of([gt]), table_of([pred], score=1.0)))
    if corrected:
        truth = mending.counted(truth)
    found = panoptic.match(truth, guess, intersect(truth, guess), corrected)
    return len(found.gt_rows), len(found.false), len(found.missed)


def test_every_crowd_absorbs():
    gt = image([1, 1, 2], Listed(1, 1, iscrowd=True), Listed(2, 1, iscrowd=True))
    pred = image([3, 3, 0], Listed(3, 1))
    assert panoptic_counts(gt, pred, corrected=False) == (0, 1, 0)
    assert panoptic_counts(gt, pred, corrected=True) == (0, 0, 0)


def test_areas_are_counted_not_declared():
    gt = image([1, 1], Listed(1, 1, area=4))
    assert panoptic_counts(gt, gt, corrected=False) == (0, 1, 1)
    assert panoptic_counts(gt, gt, corrected=True) == (1, 0, 0)


def test_a_segment_without_pixels_is_not_missed():
    gt = image([0], Listed(4, 2))
    assert panoptic_counts(gt, image([0]), corrected=False) == (0, 0, 1)
    assert panoptic_counts(gt, image([0]), corrected=True) == (0, 0, 0)


@settings(deadline=None, max_examples=60)
@given(pair=panoptic_pairs())
def test_neither_declared_areas_nor_the_order_of_segments_move_corrected_pq(pair):
    for gt, pred in zip(*pair, strict=True):
        plain = replace(gt, listed=tuple(replace(entry, area=None) for entry in gt.listed[::-1]))
        assert panoptic_counts(gt, pred, corrected=True) == panoptic_counts(plain, pred, corrected=True)


def ap(gt: list[Instance], dets: list[Instance], geometry: instance.Geometry, corrected: bool) -> dict:
    ids = ["9"]
    truth, found = segments_of(instance_table(gt), ids), segments_of(instance_table(dets), ids)
    if corrected:
        truth, found = mending.counted(truth), mending.counted(found)
        if geometry == "bbox":
            truth, found = mending.by_box(truth), mending.by_box(found)
    counts = instance.tally(truth, found, instance.match(truth, found, geometry, corrected))
    return average_precision.accumulate(counts, np.array([1], np.int32), np.arange(1)).summary()


def square(side: int, at: int = 0, **about) -> Instance:
    mask = np.zeros((40, 40), dtype=np.bool_)
    mask[:side, at : at + side] = True
    return Instance(**{"image_id": 9, "category_id": 1, "mask": mask, "id": 1, **about})


def test_an_annotation_of_id_0_can_be_found():
    gt, dets = [square(4, id=0)], [square(4, score=0.9)]
    assert ap(gt, dets, "segm", corrected=False)["AP"] == 0
    assert ap(gt, dets, "segm", corrected=True)["AP"] == pytest.approx(1, abs=1e-12)


def test_sizes_of_masks_go_by_counted_pixels():
    gt, dets = [square(4, area=5000.0)], [square(4, score=0.9, area=20_000.0, bbox=(0.0, 0.0, 200.0, 100.0))]
    assert ap(gt, dets, "segm", corrected=False)["APs"] is None
    assert ap(gt, dets, "segm", corrected=True)["APs"] == pytest.approx(1, abs=1e-12)


def test_sizes_of_boxes_go_by_the_boxes_of_both_sides():
    thin = np.eye(40, dtype=np.bool_)  # 40 pixels in a box of 1600
    gt, dets = [square(4, mask=thin)], [square(4, mask=thin, score=0.9)]
    assert ap(gt, dets, "bbox", corrected=False)["APm"] is None
    assert ap(gt, dets, "bbox", corrected=True)["APm"] == pytest.approx(1, abs=1e-12)


def test_an_object_has_one_size():
    gt, dets = [square(32)], [square(32, score=0.9)]
    strict, corrected = (ap(gt, dets, "segm", corrected=mode) for mode in (False, True))
    assert strict["APs"] == strict["APm"] == corrected["APm"] == pytest.approx(1, abs=1e-12)
    assert corrected["APs"] is None


def test_an_annotation_without_area_is_not_missed():
    gt, dets = [square(4), square(0, id=2)], [square(4, score=0.9)]
    assert ap(gt, dets, "segm", corrected=False)["AR100"] == 0.5
    assert ap(gt, dets, "segm", corrected=True)["AR100"] == 1


def costs(gt: list[Instance], dets: list[Instance], corrected: bool) -> tide_ap.TideResult:
    truth, found = segments_of(instance_table(gt), ["9"]), segments_of(instance_table(dets), ["9"])
    counts = tide.tally(truth, found, tide.match(truth, found, "segm", corrected))
    return tide_ap.dap(counts, np.arange(1), corrected)


def test_what_lies_on_a_crowd_is_no_error():
    gt, dets = [square(8, iscrowd=True), square(4, at=20, id=2)], [square(8, score=0.9), square(4, at=20, score=0.8)]
    assert costs(gt, dets, corrected=False).counts["bkg"] == 1
    assert costs(gt, dets, corrected=True).counts["bkg"] == 0


def test_a_detection_on_a_crowd_stands_for_no_ground_truth():
    """Half of the detection lies on a crowd, and it has an IoU of 0.1 or more with ground truth that nothing finds."""
    crowd, missed = square(10, iscrowd=True), square(4, at=8, id=2)
    dets = [square(12, score=0.9)]
    assert costs([crowd, missed], dets, corrected=False).dap == pytest.approx(
        {**dict.fromkeys(tide_ap.ERROR_TYPES, 0.0), "loc": 1.0}
    )
    assert costs([crowd, missed], dets, corrected=True).counts["miss"] == 1


def test_a_category_without_ground_truth_does_not_lower_the_mean_of_tide():
    gt, dets = [square(4)], [square(4, score=0.9), square(4, category_id=3, at=20, score=0.5)]
    assert costs(gt, dets, corrected=False).ap == 0.5
    assert costs(gt, dets, corrected=True).ap == 1


@settings(deadline=None, max_examples=40)
@given(pair=instance_pairs())
def test_corrected_ap_of_tide_is_cocos_where_nothing_ties(pair):
    """Scores and masks are made different, so neither tool has to choose."""
    gt, dets = pair
    dets = [replace(each, score=0.9 - number / 100) for number, each in enumerate(dets)]
    ids = ["100", "9", "12"]
    truth, found = (mending.counted(segments_of(instance_table(side), ids)) for side in (gt, dets))
    matched, typed = instance.match(truth, found, "segm", True), tide.match(truth, found, "segm", True)
    coco = average_precision.accumulate(
        instance.tally(truth, found, matched), np.array([1, 3, 7], np.int32), np.arange(3)
    )
    ours = tide_ap.dap(tide.tally(truth, found, typed), np.arange(3), corrected=True).ap
    right = set(matched.pred_rows[matched.tp[:, 0, 0]].tolist())
    if right != set(typed.det_rows[typed.kind == 0].tolist()):
        return  # of equal IoUs one tool took the first, the other the last
    expected = coco.summary()["AP50"]
    ignored = set(matched.pred_rows[~matched.tp[:, 0, 0] & ~matched.fp[:, 0, 0]].tolist())
    if ignored == set(typed.det_rows[typed.ignored].tolist()):
        assert ours == (None if expected is None else pytest.approx(expected, abs=1e-9))


def test_metrics_say_which_mode_they_were_made_in(tmp_path):
    scene = image([1, 1, 0], Listed(1, 1, area=4))
    dataset = SceneDataset([scene])
    run = make_run(tmp_path / "run", dataset, [scene])
    assert (evaluate(run, dataset).metrics["mode"], run.metrics()["panoptic"]["all"]["pq"]) == ("strict", 0)
    corrected = evaluate(run, dataset, corrected=True).metrics
    assert (corrected["mode"], corrected["panoptic"]["all"]["pq"]) == ("corrected", 1)


def test_the_match_table_calls_what_cannot_be_found_void(tmp_path):
    scene = image([1, 0], Listed(1, 1), Listed(2, 1))
    dataset = SceneDataset([scene])
    rows = evaluate(make_run(tmp_path / "run", dataset, [scene]), dataset, corrected=True).run.matches().to_pylist()
    empty = {row["task"]: (row["status"], row["error_type"]) for row in rows if row["segment_id"] == 2}
    assert empty == {"panoptic": ("void", "void"), "instance": ("void", "ignored")}
