"""The compiled kernels must give what torch's operators give: every pixel, every area, ties and thresholds included."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from eomt import EomtImageProcessor, compiled_masks
from eomt.frames import Frame, bilinear
from eomt.post_processing import _contest_pixels, instance_segments, panoptic_segments, top_k_instances
from tests.reference.oracles import transformers_processors
from tests.reference.segmentation_outputs import outputs_of, random_outputs

TransformersProcessor, _ = transformers_processors()
FRAMES = [
    Frame((160, 120), (160, 120), (160, 120)),
    Frame((128, 128), (96, 128), (96, 128)),
    Frame((128, 128), (85, 128), (131, 197)),
    Frame((128, 128), (128, 71), (90, 50)),
    Frame((96, 160), (96, 131), (97, 132)),
    Frame((24, 200), (9, 200), (7, 160)),
    Frame((200, 200), (1, 200), (1, 300)),
    Frame((400, 300), (400, 300), (23, 111)),
]


def smooth_masks(seed, count, grid=(32, 32), scale=6.0):
    coarse = torch.randn(1, count, 4, 4, generator=torch.Generator().manual_seed(seed))
    return functional.interpolate(coarse, size=grid, mode="bicubic", align_corners=False)[0] * scale


def with_torch(function, *arguments, **options):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled_masks, "trusted_kernels", lambda: None)
        return function(*arguments, **options)


def assert_same_contest(masks, scores, frame, mask_threshold=0.5):
    ours = _contest_pixels(masks, scores, frame, mask_threshold)
    theirs = with_torch(_contest_pixels, masks, scores, frame, mask_threshold)
    assert torch.equal(ours.owner, theirs.owner)
    assert torch.equal(ours.areas, theirs.areas)


def test_the_kernels_are_trusted_with_the_tested_torch():
    assert compiled_masks.trusted_kernels() is not None
    assert compiled_masks.usable(smooth_masks(0, 2), FRAMES[0])


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    grid=st.tuples(st.integers(2, 50), st.integers(2, 50)),
    canvas=st.tuples(st.integers(65, 200), st.integers(65, 200)),
    cut=st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)),
    target=st.none() | st.tuples(st.integers(65, 300), st.integers(65, 300)),
    count=st.integers(1, 6),
)
def test_interpolation_equals_torchs_to_the_last_bit(seed, grid, canvas, cut, target, count):
    filled = max(1, int(canvas[0] * cut[0])), max(1, int(canvas[1] * cut[1]))
    frame = Frame(canvas, filled, target or filled)
    masks = torch.randn(count, *grid, generator=torch.Generator().manual_seed(seed)) * 7
    pixels = np.arange(frame.target[0] * frame.target[1])
    ours = compiled_masks.logits_at(masks, frame, pixels)
    assert torch.equal(ours.T.reshape(count, *frame.target), frame.upsample(masks))


@pytest.mark.parametrize("count", range(1, 7))
def test_a_masks_interpolation_does_not_depend_on_how_many_there_are(count):
    masks = smooth_masks(8, 40)
    assert torch.equal(bilinear(masks, (128, 128))[:count], bilinear(masks[:count], (128, 128)))


@pytest.mark.parametrize("frame", FRAMES, ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_pixels_are_won_as_with_torch(frame, seed):
    masks = smooth_masks(seed, 9)
    scores = 0.8 + 0.2 * torch.rand(9, generator=torch.Generator().manual_seed(seed))
    for mask_threshold in (0.5, 0.05, 0.8, 0.0, -1.0, 0.9995, 1.0):
        assert_same_contest(masks, scores, frame, mask_threshold)


@pytest.mark.parametrize("frame", FRAMES, ids=str)
def test_ties_and_near_ties_go_to_the_query_that_torch_gives_them_to(frame):
    masks = smooth_masks(5, 6)
    masks[3] = masks[1]  # equal everywhere
    masks[4] = masks[1] * (1 + 1e-7)  # less than the rounding of a score apart
    masks[5] = masks[2] + 2e-6
    scores = torch.tensor([0.9, 0.95, 0.97, 0.95, 0.95, 0.97])
    assert_same_contest(masks, scores, frame)
    assert_same_contest(masks.flip(0), scores.flip(0), frame)


def test_a_few_ties_are_decided_without_giving_the_whole_map_to_torch():
    frame, masks = FRAMES[0], smooth_masks(1, 4)
    masks[2, :2] = masks[1, :2] = 9.0
    scores = torch.tensor([0.9, 0.95, 0.95, 0.9])
    owner, areas = compiled_masks.contest(masks, scores, frame, 0.5)
    expected = with_torch(_contest_pixels, masks, scores, frame, 0.5)
    assert torch.equal(owner, expected.owner)
    assert torch.equal(areas, expected.areas)
    assert int((owner[:7] == 1).sum()) > 500  # tied pixels, of which the first query is given all


def test_a_map_of_nothing_but_ties_is_left_to_torch():
    masks = torch.full((2, 32, 32), 3.0)
    assert compiled_masks.contest(masks, torch.tensor([0.9, 0.9]), FRAMES[0], 0.5) is None
    assert_same_contest(masks, torch.tensor([0.9, 0.9]), FRAMES[0])


@pytest.mark.parametrize("level", [0.0, 1e-8, -1e-8, 3e-7, -3e-7, 1e-6, -1e-6])
def test_logits_at_the_mask_threshold_fall_to_the_side_that_torch_puts_them_on(level):
    masks = smooth_masks(2, 3)
    masks[0, 4:6, 4:9] = level
    masks[1] = -9
    assert_same_contest(masks, torch.tensor([0.99, 0.9, 0.6]), FRAMES[0])


@pytest.mark.parametrize("scale", [1e-3, 30.0, 300.0, 1e6])
def test_flat_and_saturated_logits_are_decided_as_by_torch(scale):
    for frame in FRAMES[:4]:
        assert_same_contest(smooth_masks(3, 8, scale=scale), torch.linspace(0.81, 0.999, 8), frame)


def test_logits_that_are_not_finite_are_left_to_torch():
    masks = smooth_masks(0, 3)
    masks[0, 3, 3] = torch.inf
    assert not compiled_masks.usable(masks, FRAMES[0])
    assert not compiled_masks.usable(smooth_masks(0, 3), Frame((64, 64), (64, 64), (64, 64)))


@pytest.mark.parametrize("frame", FRAMES, ids=str)
def test_masks_areas_and_mean_probabilities_equal_torchs(frame):
    masks = smooth_masks(4, 7)
    masks[2] = -1  # empty
    masks[3] = 1  # everywhere
    binary, areas, means = compiled_masks.measure(masks, frame, with_masks=True)
    upsampled = frame.upsample(masks)
    assert torch.equal(binary, upsampled > 0)
    assert torch.equal(areas, (upsampled > 0).flatten(1).sum(1))
    expected = (upsampled.double().sigmoid() * (upsampled > 0)).flatten(1).sum(1) / areas.clamp(min=1)
    torch.testing.assert_close(means.double(), expected, atol=3e-7, rtol=0)


@pytest.mark.parametrize("target", [(96, 128), (200, 267), (100, 75), (48, 97)])
@pytest.mark.parametrize("seed", range(3))
def test_segments_equal_those_of_transformers(target, seed):
    outputs, size = random_outputs(seed, rows=2, queries=14, grid=32), {"shortest_edge": 128, "longest_edge": 128}
    ours, theirs = EomtImageProcessor(size=size), TransformersProcessor(size=size)
    sizes = [target, target[::-1]]
    for name, options in [
        ("panoptic", {"threshold": 0.3, "overlap_mask_area_threshold": 0.5}),
        ("panoptic", {"threshold": 0.0, "overlap_mask_area_threshold": 0.0, "stuff_classes": [0, 2]}),
        ("panoptic", {"threshold": 0.2, "mask_threshold": 0.8}),
        ("instance", {"threshold": 0.0}),
        ("instance", {"threshold": 0.6}),
    ]:
        method = f"post_process_{name}_segmentation"
        mine, reference = (getattr(p, method)(outputs, sizes, **options) for p in (ours, theirs))
        for one, other in zip(mine, reference, strict=True):
            assert torch.equal(one["segmentation"].long(), other["segmentation"].long())
            assert len(one["segments_info"]) == len(other["segments_info"])
            for a, b in zip(one["segments_info"], other["segments_info"], strict=True):
                assert (a["id"], a["label_id"]) == (b["id"], b["label_id"])
                assert a["score"] == pytest.approx(b["score"], abs=1.001e-6)


@pytest.mark.parametrize("step", [-1e-7, 0.0, 1e-7])
def test_an_instance_at_the_threshold_is_kept_where_torchs_sum_keeps_it(step):
    masks, size = smooth_masks(6, 5), {"shortest_edge": 128, "longest_edge": 128}
    outputs = outputs_of(masks, [0, 1, 2, 0, 1], [0.9, 0.95, 0.99, 0.97, 0.999], classes=3)
    scores = with_torch(instance_segments, outputs, [(96, 128)], size, threshold=0.0)[0].scores
    for score in scores.tolist():
        ours = instance_segments(outputs, [(96, 128)], size, threshold=score + step)[0]
        theirs = with_torch(instance_segments, outputs, [(96, 128)], size, threshold=score + step)[0]
        assert torch.equal(ours.segment_map, theirs.segment_map)
        assert ours.class_index.tolist() == theirs.class_index.tolist()


@pytest.mark.parametrize("seed", range(3))
def test_top_k_candidates_equal_torchs(seed):
    outputs, size = random_outputs(seed, rows=2, grid=32), {"shortest_edge": 128, "longest_edge": 128}
    sizes = [(96, 128), (200, 133)]
    for ours, theirs in zip(
        top_k_instances(outputs, sizes, size, k=40),
        with_torch(top_k_instances, outputs, sizes, size, k=40),
        strict=True,
    ):
        assert torch.equal(ours.masks, theirs.masks)
        assert ours.mask_index.tolist() == theirs.mask_index.tolist()
        assert ours.class_index.tolist() == theirs.class_index.tolist()
        np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-6)


@pytest.mark.parametrize("target", [(90, 64), (64, 190), (400, 100)])
def test_of_an_image_larger_than_the_canvas_the_part_on_it_counts(target):
    """A `size` without longest edge and no crops: transformers stretches that part over the image."""
    outputs, size = random_outputs(4, rows=1, grid=32), {"shortest_edge": 128, "longest_edge": None}
    theirs = TransformersProcessor(size=size)
    for name in ("panoptic", "instance"):
        method = f"post_process_{name}_segmentation"
        mine, other = (
            getattr(p, method)(outputs, [target], threshold=0.2) for p in (EomtImageProcessor(size=size), theirs)
        )
        assert torch.equal(mine[0]["segmentation"].long(), other[0]["segmentation"].long())
    for ours, plain in zip(
        top_k_instances(outputs, [target], size), with_torch(top_k_instances, outputs, [target], size), strict=True
    ):
        assert torch.equal(ours.masks, plain.masks)


def test_an_interpolation_in_another_order_is_not_trusted(monkeypatch):
    """Another build of torch may round otherwise; the probe must notice one bit."""
    kernels = compiled_masks.trusted_kernels()
    upsample = Frame.upsample

    def slightly_other(frame, masks):
        upsampled = upsample(frame, masks)
        upsampled[0, 5, 7] = torch.nextafter(upsampled[0, 5, 7], torch.tensor(torch.inf))
        return upsampled

    assert compiled_masks._interpolates_like_torch(kernels, FRAMES[0])
    monkeypatch.setattr(Frame, "upsample", slightly_other)
    assert not compiled_masks._interpolates_like_torch(kernels, FRAMES[0])


def test_outputs_are_left_as_they_were():
    outputs, size = random_outputs(2, rows=1, grid=128), {"shortest_edge": 128, "longest_edge": 128}
    before = outputs.masks_queries_logits.clone()
    for function in (panoptic_segments, instance_segments, top_k_instances):
        function(outputs, [(128, 128)], size)
    assert torch.equal(outputs.masks_queries_logits, before)
