"""Intervals come from resampled counts, and those must be the very numbers that scoring the resample would give."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.reference.detections import CATEGORIES as INSTANCE_CATEGORIES
from tests.reference.detections import IMAGES, Instance, instance_pairs
from tests.reference.detections import table_of as instance_table
from tests.reference.scene_dataset import SceneDataset, make_run
from tests.reference.scenes import Listed, PanopticImage, panoptic_pairs
from workbench.errors import OptionError
from workbench.evaluation import ap_resampling, average_precision, counted_instances, instance, per_image
from workbench.evaluation.bootstrap import StoredCounts, intervals_json, point, sample
from workbench.evaluation.columns import segments_of
from workbench.evaluation.counted_instances import CountedInstances
from workbench.evaluation.evaluation import Evaluation, evaluate
from workbench.evaluation.headlines import headlines
from workbench.evaluation.image_ids import ranks_of_ids
from workbench.evaluation.resampling import Bootstrap

LISTED = (Listed(1, 1), Listed(2, 2), Listed(7, 7))
SCENE = np.array([[1, 1, 1, 2, 2, 7], [1, 1, 1, 2, 2, 7], [0, 0, 0, 7, 7, 7]])
CATEGORY_IDS = np.array(INSTANCE_CATEGORIES, dtype=np.int32)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))


def scenes(count: int, worn: int = 0) -> list[PanopticImage]:
    """Images with two things and a stuff segment; the first `worn` of them with their first three columns void."""
    images = [PanopticImage(str(i), SCENE, LISTED) for i in range(count)]
    void = np.where(np.arange(6) > 2, SCENE, 0)
    bare = tuple(entry for entry in LISTED if entry.id in void)
    return [replace(image, label_map=void, listed=bare) if i < worn else image for i, image in enumerate(images)]


def scored(folder: Path, gt: list[PanopticImage], pred: list[PanopticImage]) -> tuple[Evaluation, StoredCounts]:
    dataset = SceneDataset(gt)
    evaluation = evaluate(make_run(folder, dataset, pred), dataset)
    return evaluation, StoredCounts(folder, evaluation.metrics)


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pair=panoptic_pairs(images=4))
def test_weights_of_one_give_what_evaluate_gave_to_the_last_bit(tmp_path_factory, pair):
    evaluation, counts = scored(tmp_path_factory.mktemp("run"), *pair)
    found = {}
    for metric in counts.metrics:
        counted = counts.counted(metric, counts.image_ids(metric))
        values = point(counted)[0][0].tolist()
        found |= {name: None if np.isnan(value) else value for name, value in zip(counted.names, values, strict=True)}
    assert found == headlines(evaluation.metrics)


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pair=panoptic_pairs(images=3), draws=st.lists(st.integers(0, 3), min_size=3, max_size=3))
def test_weights_give_what_scoring_the_copies_gives(tmp_path_factory, pair, draws):
    gt, pred = pair
    draws = draws[: len(gt)]
    _, counts = scored(tmp_path_factory.mktemp("run"), gt, pred)
    copies = [
        [replace(image, image_id=f"{index}{copy}") for index, image in enumerate(side) for copy in range(draws[index])]
        for side in (gt, pred)
    ]
    if not copies[0]:
        return
    expected = headlines(scored(tmp_path_factory.mktemp("copies"), *copies)[0].metrics)
    for metric in ("pq", "iou"):
        counted = counts.counted(metric, counts.image_ids(metric))
        values = counted.values(np.array([draws], dtype=np.int32))[0][0]
        for name, value in zip(counted.names, values.tolist(), strict=True):
            assert np.isnan(value) if expected[name] is None else value == pytest.approx(expected[name], rel=1e-14)


@settings(deadline=None, max_examples=150)
@given(pair=instance_pairs(), draws=st.lists(st.integers(0, 3), min_size=3, max_size=3), compiled=st.booleans())
def test_ap_of_weights_is_that_of_the_copies(pair, draws, compiled):
    """Scores are made unequal: between equal ones the copies' order would decide, see `resample_curves`."""
    gt, dets = pair[0], [replace(det, score=0.9 - det.id / 100) for det in pair[1]]
    counted = counted_from(gt, dets)
    with pytest.MonkeyPatch.context() as patch:
        if not compiled:
            patch.setattr(counted_instances, "_kernels", lambda: None)
        found = counted.values(np.array([draws], dtype=np.int32))[0][0].tolist()
    expected = summary_of(copies_of(gt, draws), copies_of(dets, draws))
    assert [None if np.isnan(value) else value for value in found] == expected


@settings(deadline=None, max_examples=100)
@given(pair=instance_pairs())
def test_ap_of_ones_is_average_precisions_to_the_last_bit(pair):
    """Equal scores, crowds, id 0 and all."""
    counted = counted_from(*pair)
    found = counted.values(np.ones((1, 3), dtype=np.int32))[0][0].tolist()
    assert [None if np.isnan(value) else value for value in found] == summary_of(*pair)


def copies_of(instances: list[Instance], draws: list[int]) -> list[Instance]:
    """Image IMAGES[i] draws[i] times, ids apart, in an order of images that keeps the original's."""
    number = {image: index for index, image in enumerate(IMAGES)}
    return [
        replace(each, image_id=10 * each.image_id + copy, id=0 if each.id == 0 else 100 * each.id + copy)
        for each in instances
        for copy in range(draws[number[each.image_id]])
    ]


def parts_of(gt: list[Instance], dets: list[Instance]):
    ids = [str(image) for image in dict.fromkeys([*IMAGES, *(each.image_id for each in gt + dets)])]
    truth, found = segments_of(instance_table(gt), ids), segments_of(instance_table(dets), ids)
    matches = instance.match(truth, found, "segm")
    return ids, truth, found, matches, instance.tally(truth, found, matches)


def counted_from(gt: list[Instance], dets: list[Instance]) -> CountedInstances:
    """Through the rows that a run folder keeps."""
    ids, truth, found, matches, tally = parts_of(gt, dets)
    images = per_image.Images.of(ids, np.arange(len(ids)))
    rows = pa.concat_tables([images.rows("instance"), per_image.instance_rows(truth, found, matches, images)])
    detections = per_image.detection_rows(tally, "segm", images)
    return CountedInstances.of(rows, detections, "segm", ids, CATEGORY_IDS, ranks_of_ids(ids))


def summary_of(gt: list[Instance], dets: list[Instance]) -> list[float | None]:
    ids, *_, tally = parts_of(gt, dets)
    return list(average_precision.accumulate(tally, CATEGORY_IDS, ranks_of_ids(ids)).summary().values())


def test_identical_images_leave_nothing_uncertain(tmp_path):
    gt = scenes(4)
    void = [replace(image, label_map=np.where(SCENE == 2, 0, SCENE), listed=(LISTED[0], LISTED[2])) for image in gt]
    evaluation, counts = scored(tmp_path / "run", gt, void)
    intervals = intervals_json(counts, Bootstrap(resamples=20))["headlines"]
    known = {name: value for name, value in headlines(evaluation.metrics).items() if value is not None}
    assert {"pq", "AP", "bbox_AP", "miou"} < set(known)
    for name, value in known.items():
        assert intervals[name]["low"] == pytest.approx(value, rel=1e-14)
        assert intervals[name]["high"] == pytest.approx(value, rel=1e-14)


def test_an_interval_worked_by_hand(tmp_path):
    """Of two images one is perfect and one empty: a resample has 0, 1 or 2 of the perfect one, so PQ 0, 2/3 or 1."""
    _, counts = scored(tmp_path / "run", scenes(2), scenes(2, worn=0)[:1])
    counted = counts.counted("pq", counts.image_ids("pq"))
    weights = np.array([[0, 2], [1, 1], [2, 0]], dtype=np.int32)
    assert counted.values(weights)[0][:, 0].tolist() == [0.0, pytest.approx(2 / 3), 1.0]
    bootstrap = Bootstrap(confidence=0.4, resamples=400)
    ((headline, _),) = sample([counted], bootstrap)
    values, times = np.unique(headline[:, 0].round(6), return_counts=True)
    assert values.tolist() == [0.0, 0.666667, 1.0]
    assert times / 400 == pytest.approx([0.25, 0.5, 0.25], abs=0.08)
    assert bootstrap.interval(headline[:, 0]) == pytest.approx((2 / 3, 2 / 3))


def test_images_without_any_segment_are_drawn_too(tmp_path):
    empty = PanopticImage("9", np.zeros((2, 2), dtype=np.int64), ())
    _, counts = scored(tmp_path / "run", [*scenes(1), empty], [*scenes(1), empty])
    assert counts.image_ids("pq") == counts.image_ids("AP") == counts.image_ids("iou") == ("0", "9")


def test_a_seed_gives_the_same_draws_again_and_more_resamples_begin_alike():
    first, again, other = (np.concatenate(list(Bootstrap(resamples=5, seed=s).draws(40))) for s in (7, 7, 8))
    assert (first == again).all()
    assert (first != other).any()
    assert (first.sum(axis=1) == 40).all()
    more = np.concatenate(list(Bootstrap(resamples=9, seed=7).draws(40)))
    assert (more[:5] == first).all()


def test_memory_stays_bounded_because_draws_come_in_blocks(monkeypatch):
    monkeypatch.setattr("workbench.evaluation.resampling._BYTES_PER_BLOCK", 4 * 40 * 3)
    whole = np.concatenate(list(Bootstrap(resamples=8).draws(40)))
    assert [len(block) for block in Bootstrap(resamples=8).draws(40)] == [3, 3, 2]
    monkeypatch.undo()
    assert (np.concatenate(list(Bootstrap(resamples=8).draws(40))) == whole).all()


def test_a_number_that_most_resamples_lack_has_no_interval():
    bootstrap = Bootstrap(resamples=4)
    assert bootstrap.interval(np.array([0.5, np.nan, np.nan, np.nan])) is None
    assert bootstrap.interval(np.array([0.5, 0.5, np.nan, np.nan])) == (0.5, 0.5)


@pytest.mark.parametrize("wrong", [{"confidence": 1.0}, {"confidence": 95}, {"resamples": 1}, {"seed": -1}])
def test_senseless_options_are_refused(wrong):
    with pytest.raises(OptionError):
        Bootstrap(**wrong)


def test_a_detection_false_at_half_can_be_right_above():
    """A better-scored detection takes the object at 0.5 and not at 0.75: `kind` must look at every threshold."""
    mask = np.zeros((1, 10), dtype=np.bool_)
    whole, most = mask.copy(), mask.copy()
    whole[0, :10], most[0, :6] = True, True
    gt = [Instance(IMAGES[0], 1, whole, 5)]
    dets = [Instance(IMAGES[0], 1, most, 1, score=0.9), Instance(IMAGES[0], 1, whole, 2, score=0.8)]
    counted = counted_from(gt, dets)
    assert counted.detections[3][0].tolist() == [ap_resampling.VARIES, ap_resampling.VARIES]
    found = counted.values(np.ones((1, 3), dtype=np.int32))[0][0].tolist()
    assert [None if np.isnan(value) else value for value in found] == summary_of(gt, dets)
