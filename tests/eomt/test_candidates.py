"""Candidates give the panoptic segmentation of every threshold, pixel for pixel."""

import numpy as np
import pycocotools.mask as coco_mask
import pytest
import torch

from eomt import frames
from eomt.candidates import panoptic_candidates
from eomt.post_processing import panoptic_segments
from tests.reference.candidates import masks_of, segmentation
from tests.reference.segmentation_outputs import outputs_of, random_outputs, random_sizes, rectangles

SIZE = {"shortest_edge": 64, "longest_edge": 64}
STUFF = {0, 2}
FLOOR = 0.2


def assert_same_segments(outputs, sizes, candidates, threshold, overlap, size=SIZE, **options):
    expected = panoptic_segments(
        outputs,
        sizes,
        size,
        threshold=threshold,
        overlap_mask_area_threshold=overlap,
        stuff_classes=STUFF,
        **options,
    )
    for found, image in zip(candidates, expected, strict=True):
        segment_map, classes, scores = segmentation(found, threshold, overlap, STUFF)
        assert (segment_map == image.segment_map.numpy()).all()
        assert classes == image.class_index.tolist()
        assert scores == image.scores.tolist()
    return sum(len(image.scores) for image in expected)


@pytest.mark.parametrize("seed", range(6))
def test_one_pass_gives_the_segments_of_every_threshold(seed: int) -> None:
    outputs, sizes = random_outputs(seed, rows=4), random_sizes(seed, 4)
    candidates = panoptic_candidates(outputs, sizes, SIZE, floor=FLOOR)
    seen = 0
    for threshold in (FLOOR, 0.35, 0.5, 0.65, 0.8, 0.95):
        for overlap in (0.0, 0.5, 0.8):
            seen += assert_same_segments(outputs, sizes, candidates, threshold, overlap)
    assert seen > 50


@pytest.mark.parametrize("seed", range(2))
def test_images_that_compiled_code_segments_have_the_same_candidates(seed: int) -> None:
    size = {"shortest_edge": 160, "longest_edge": 160}
    outputs, sizes = random_outputs(seed, rows=3, queries=20, grid=40), random_sizes(seed, 3, least=90, most=400)
    candidates = panoptic_candidates(outputs, sizes, size, floor=FLOOR)
    for threshold in (FLOOR, 0.6, 0.9):
        assert assert_same_segments(outputs, sizes, candidates, threshold, 0.3, size)


def test_a_threshold_equal_to_a_score_drops_it_as_post_processing_does() -> None:
    outputs, sizes = random_outputs(0, rows=4), random_sizes(0, 4)
    candidates = panoptic_candidates(outputs, sizes, SIZE, floor=0.0)
    for score in candidates[0].scores.tolist():
        for threshold in (score, float(np.nextafter(score, 0))):  # the second is the same number in float32
            assert_same_segments(outputs, sizes, candidates, threshold, 0.5)


def test_candidates_stand_by_falling_score_and_of_equals_the_first_query_is_first() -> None:
    masks = rectangles(16, [(0, 0, 8, 8), (4, 4, 12, 12), (0, 8, 16, 16)])
    outputs = outputs_of(masks, labels=[1, 2, 3], scores=[0.6, 0.9, 0.6], classes=5)
    (found,) = panoptic_candidates(outputs, [(64, 64)], SIZE)
    assert found.query.tolist() == [1, 0, 2]
    assert found.class_index.tolist() == [2, 1, 3]
    assert found.scores.tolist() == pytest.approx([0.9, 0.6, 0.6])


def test_of_equal_values_the_first_query_wins_whatever_its_score() -> None:
    masks = rectangles(16, [(0, 0, 16, 16)] * 4, logit=200.0)  # a probability of 1: values are the scores
    outputs = outputs_of(masks, labels=[1, 1, 1, 1], scores=[0.7, 0.9, 0.9, 0.7], classes=5)
    (found,) = panoptic_candidates(outputs, [(40, 64)], SIZE)
    gains = [int(mask.sum()) for mask in masks_of(found.gains, found.size_hw)]
    assert found.query.tolist() == [1, 2, 0, 3]
    assert gains == [40 * 64, 0, 0, 0]
    dark = outputs_of(masks - 400.0, labels=[1, 1, 1, 1], scores=[0.7, 0.9, 0.9, 0.7], classes=5)
    (found,) = panoptic_candidates(dark, [(40, 64)], SIZE)  # a probability of 0: all values are equal
    assert [int(mask.sum()) for mask in masks_of(found.gains, found.size_hw)] == [40 * 64, 0, 40 * 64, 0]


def test_results_do_not_depend_on_how_many_masks_are_upsampled_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    outputs, sizes = random_outputs(3, rows=3), random_sizes(3, 3)
    whole = panoptic_candidates(outputs, sizes, SIZE, floor=0.0)
    monkeypatch.setattr(frames, "CHUNK_PIXELS", 1)
    for one, other in zip(whole, panoptic_candidates(outputs, sizes, SIZE, floor=0.0), strict=True):
        for name in ("masks", "gains"):
            assert getattr(one, name).lengths.tolist() == getattr(other, name).lengths.tolist()
            assert getattr(one, name).offsets.tolist() == getattr(other, name).offsets.tolist()


def test_runs_are_those_that_pycocotools_counts() -> None:
    outputs, sizes = random_outputs(1, rows=3), random_sizes(1, 3)
    for found in panoptic_candidates(outputs, sizes, SIZE, floor=0.0):
        for runs in (found.masks, found.gains):
            for row, mask in enumerate(masks_of(runs, found.size_hw)):
                lengths = runs.lengths[runs.offsets[row] : runs.offsets[row + 1]].tolist()
                rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
                again = coco_mask.frPyObjects({"size": list(found.size_hw), "counts": lengths}, *found.size_hw)
                assert again["counts"] == rle["counts"]


def test_a_floor_above_every_score_and_no_object_at_all_leave_no_candidates() -> None:
    outputs = random_outputs(0, rows=1)
    (found,) = panoptic_candidates(outputs, [(30, 40)], SIZE, floor=1.0)
    assert (len(found.query), found.masks.offsets.tolist(), found.size_hw) == (0, [0], (30, 40))
    outputs.class_queries_logits[..., -1] = 100.0
    (found,) = panoptic_candidates(outputs, [(30, 40)], SIZE, floor=0.0)
    assert len(found.query) == 0


def test_another_mask_threshold_moves_the_masks_and_the_segments_alike() -> None:
    outputs, sizes = random_outputs(5, rows=3), random_sizes(5, 3)
    candidates = panoptic_candidates(outputs, sizes, SIZE, floor=FLOOR, mask_threshold=0.7)
    for threshold in (FLOOR, 0.6):
        assert_same_segments(outputs, sizes, candidates, threshold, 0.5, mask_threshold=0.7)


def test_half_precision_outputs_are_read_as_post_processing_reads_them() -> None:
    outputs, sizes = random_outputs(7, rows=3), random_sizes(7, 3)
    outputs.masks_queries_logits = outputs.masks_queries_logits.to(torch.bfloat16)
    outputs.class_queries_logits = outputs.class_queries_logits.to(torch.bfloat16)
    candidates = panoptic_candidates(outputs, sizes, SIZE, floor=FLOOR)
    assert assert_same_segments(outputs, sizes, candidates, 0.4, 0.6)
