import numpy as np
import pytest
import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from eomt import EomtImageProcessor, compiled_masks, frames
from eomt.errors import ProcessorError
from eomt.post_processing import instance_segments, panoptic_segments, top_k_instances
from tests.reference.oracles import transformers_processors
from tests.reference.segmentation_outputs import outputs_of, random_outputs, random_sizes, rectangles

TransformersProcessor, _ = transformers_processors()

SIZES = [
    {"shortest_edge": 64, "longest_edge": 64},
    {"shortest_edge": 48, "longest_edge": 80},
    {"shortest_edge": 56, "longest_edge": None},
]
HOST_WAITS = {"cpu", "item", "tolist", "numpy", "nonzero", "__bool__", "__int__", "__float__", "__index__", "unique"}


def assert_same_results(ours, theirs):
    """Maps, ids and labels exactly; scores as rounded, up to the last of six digits."""
    assert len(ours) == len(theirs)
    for mine, reference in zip(ours, theirs, strict=True):
        assert torch.equal(mine["segmentation"].to(torch.int64), reference["segmentation"].to(torch.int64))
        assert [list(segment) for segment in mine["segments_info"]] == [list(s) for s in reference["segments_info"]]
        for segment, expected in zip(mine["segments_info"], reference["segments_info"], strict=True):
            assert (segment["id"], segment["label_id"]) == (expected["id"], expected["label_id"])
            assert segment["score"] == pytest.approx(expected["score"], abs=1.001e-6)


@pytest.mark.parametrize("size", SIZES, ids=["square", "wide", "unbounded"])
@pytest.mark.parametrize("seed", range(8))
def test_panoptic_results_equal_those_of_transformers(size, seed):
    outputs, sizes = random_outputs(seed, rows=5), random_sizes(seed, 5)
    ours, theirs = EomtImageProcessor(size=size), TransformersProcessor(size=size)
    for options in (
        {},
        {"threshold": 0.3, "overlap_mask_area_threshold": 0.5},
        {"threshold": 0.0, "overlap_mask_area_threshold": 0.0, "stuff_classes": [0, 2, 4]},
        {"threshold": 0.5, "mask_threshold": 0.3, "overlap_mask_area_threshold": 0.7, "stuff_classes": {1}},
        {"threshold": 0.2, "mask_threshold": 0.8, "stuff_classes": []},
        {"threshold": 1.0},
    ):
        assert_same_results(
            ours.post_process_panoptic_segmentation(outputs, sizes, **options),
            theirs.post_process_panoptic_segmentation(outputs, sizes, **options),
        )


@pytest.mark.parametrize("size", SIZES, ids=["square", "wide", "unbounded"])
@pytest.mark.parametrize("seed", range(8))
def test_instance_results_equal_those_of_transformers(size, seed):
    outputs, sizes = random_outputs(seed, rows=5), random_sizes(seed, 5)
    outputs.masks_queries_logits[:, 3] = -4  # an empty mask
    ours, theirs = EomtImageProcessor(size=size), TransformersProcessor(size=size)
    for threshold in (0.0, 0.3, 0.6, 0.8, 1.0):
        mine = ours.post_process_instance_segmentation(outputs, sizes, threshold=threshold)
        reference = theirs.post_process_instance_segmentation(outputs, sizes, threshold=threshold)
        assert_same_results(mine, reference)
        assert all(a["segmentation"].dtype == b["segmentation"].dtype for a, b in zip(mine, reference, strict=True))


@pytest.mark.parametrize("method", ["panoptic", "instance"])
def test_a_size_given_to_the_call_replaces_the_processors(method):
    outputs, sizes, size = random_outputs(0), random_sizes(0, 2), {"shortest_edge": 40, "longest_edge": 72}
    name = f"post_process_{method}_segmentation"
    assert_same_results(
        getattr(EomtImageProcessor(), name)(outputs, sizes, threshold=0.3, size=size),
        getattr(TransformersProcessor(), name)(outputs, sizes, threshold=0.3, size=size),
    )


def exact(masks, labels, scores, **options):
    """Panoptic segments of one image whose grid, canvas and size are one, so that pixels can be counted on paper."""
    grid = masks.shape[-1]
    return panoptic_segments(outputs_of(masks, labels, scores, classes=3), [(grid, grid)], grid, **options)[0]


def test_pixels_go_to_the_most_probable_query_and_the_rest_is_void():
    masks = rectangles(6, [(0, 0, 6, 3), (0, 2, 2, 6)])
    result = exact(masks, [0, 1], [0.9, 0.95], overlap_mask_area_threshold=0.5)
    assert result.segment_map.tolist() == [[0, 0, 1, 1, 1, 1]] * 2 + [[0, 0, 0, -1, -1, -1]] * 4
    assert result.segment_map.dtype == torch.int32
    assert result.class_index.tolist() == [0, 1]
    np.testing.assert_allclose(result.scores, [0.9, 0.95], atol=1e-6)


@pytest.mark.parametrize("chunk", [1, 1 << 24], ids=["apart", "together"])
def test_a_tie_goes_to_the_first_query(chunk, monkeypatch):
    monkeypatch.setattr(frames, "CHUNK_PIXELS", chunk)
    masks = rectangles(4, [(0, 0, 4, 4), (0, 0, 4, 4)])
    result = exact(masks, [2, 1], [0.9, 0.9])
    assert result.class_index.tolist() == [2]
    assert result.segment_map.unique().tolist() == [0]


def test_a_score_of_exactly_the_threshold_is_dropped():
    outputs = outputs_of(rectangles(4, [(0, 0, 4, 4)]), [0], [0.8], classes=1)
    outputs.class_queries_logits = torch.tensor([[[np.log(4.0), 0.0]]], dtype=torch.float32)
    assert outputs.class_queries_logits.softmax(-1)[0, 0, 0] == torch.tensor(0.8)
    assert len(panoptic_segments(outputs, [(4, 4)], 4, threshold=0.8)[0].scores) == 0
    assert len(panoptic_segments(outputs, [(4, 4)], 4, threshold=0.7999999)[0].scores) == 1


@pytest.mark.parametrize(
    ("mask", "won", "threshold", "lives"), [(5, 4, 0.8, True), (10, 7, 0.7, False), (4, 2, 0.5, False)]
)
def test_the_share_that_a_segment_must_win_is_compared_as_in_transformers(mask, won, threshold, lives):
    """4 of 5 is a little more than 0.8 in float32, 7 of 10 a little less than 0.7."""
    masks = rectangles(10, [(0, 0, 1, mask), (0, won, 1, 10)])
    labels, scores, options = [0, 1], [0.9, 0.95], {"overlap_mask_area_threshold": threshold}
    result = exact(masks, labels, scores, **options)
    assert (0 in result.class_index) is lives
    reference = TransformersProcessor(
        size={"shortest_edge": 10, "longest_edge": 10}
    ).post_process_panoptic_segmentation(outputs_of(masks, labels, scores, classes=3), [(10, 10)], **options)[0]
    assert [segment["label_id"] for segment in reference["segments_info"]] == result.class_index.tolist()


def test_stuff_of_one_class_becomes_one_segment_with_the_first_score():
    boxes = [(0, 0, 2, 2), (4, 4, 6, 6), (0, 4, 2, 6), (4, 0, 6, 2)]
    options = {"overlap_mask_area_threshold": 0.5}
    apart = exact(rectangles(6, boxes), [1, 1, 2, 2], [0.85, 0.95, 0.9, 0.88], **options)
    assert apart.class_index.tolist() == [1, 1, 2, 2]
    merged = exact(rectangles(6, boxes), [1, 1, 2, 2], [0.85, 0.95, 0.9, 0.88], stuff_classes=[1], **options)
    assert merged.class_index.tolist() == [1, 2, 2]
    np.testing.assert_allclose(merged.scores, [0.85, 0.9, 0.88], atol=1e-6)
    assert merged.segment_map[0, 0] == merged.segment_map[5, 5] == 0


def test_a_probability_of_exactly_the_mask_threshold_is_inside():
    masks = torch.zeros(1, 2, 2)
    masks[0, 0, 0] = -1e-3
    result = exact(masks, [0], [0.9])
    assert result.segment_map.tolist() == [[-1, 0], [0, 0]]


def test_the_best_class_being_no_object_drops_a_query():
    outputs = outputs_of(rectangles(4, [(0, 0, 4, 4)]), [3], [0.97], classes=3)
    assert len(panoptic_segments(outputs, [(4, 4)], 4)[0].scores) == 0


def test_an_image_without_segments_is_void_everywhere():
    outputs, processor = random_outputs(1, rows=2), EomtImageProcessor(size=32)
    for name in ("panoptic", "instance"):
        for result in getattr(processor, f"post_process_{name}_segmentation")(outputs, [(9, 7), (5, 8)], threshold=1.0):
            assert result["segments_info"] == []
            assert result["segmentation"].unique().tolist() == [-1]
    assert [m.segment_map.shape for m in panoptic_segments(outputs, [(9, 7), (5, 8)], 32, threshold=1.0)] == [
        (9, 7),
        (5, 8),
    ]


def test_an_empty_panoptic_map_has_the_type_of_the_others():
    """Unlike transformers, whose empty maps are float32."""
    outputs = random_outputs(1, rows=1)
    types = [
        processor(size=32).post_process_panoptic_segmentation(outputs, [(9, 7)], threshold=1.0)[0]["segmentation"].dtype
        for processor in (EomtImageProcessor, TransformersProcessor)
    ]
    assert types == [torch.int64, torch.float32]


def test_later_instances_are_painted_over_earlier_ones_and_stay_listed():
    masks = rectangles(4, [(0, 0, 2, 2), (0, 0, 4, 2), (0, 1, 1, 4)])
    outputs = outputs_of(masks, [0, 1, 2], [0.9, 0.95, 0.99], classes=3)
    result = instance_segments(outputs, [(4, 4)], 4)[0]
    assert result.segment_map.tolist() == [[1, 2, 2, 2], [1, 1, -1, -1], [1, 1, -1, -1], [1, 1, -1, -1]]
    assert result.class_index.tolist() == [0, 1, 2]


def test_an_instances_score_is_class_score_times_mean_mask_probability():
    masks = torch.full((1, 2, 2), -1.0)
    masks[0, 0] = torch.tensor([1e-6, 2.0])
    result = instance_segments(outputs_of(masks, [0], [0.9], classes=1), [(2, 2)], 2, threshold=0.5)[0]
    mean = (1 / 2 + 1 / (1 + np.exp(-2))) / 2
    np.testing.assert_allclose(result.scores, [0.9 * mean], atol=1e-6)


@pytest.mark.parametrize("function", [panoptic_segments, instance_segments])
@pytest.mark.parametrize("chunk", [1, 3 * 64 * 64])
def test_chunks_do_not_change_the_result(function, chunk, monkeypatch):
    outputs, sizes = random_outputs(3, rows=3, queries=10), random_sizes(3, 3, most=60)
    whole = function(outputs, sizes, 64, threshold=0.1)
    monkeypatch.setattr(frames, "CHUNK_PIXELS", chunk)
    for one, other in zip(whole, function(outputs, sizes, 64, threshold=0.1), strict=True):
        assert torch.equal(one.segment_map, other.segment_map)
        assert one.class_index.tolist() == other.class_index.tolist()
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-7)


def slow_top_k(outputs, row, target, canvas, filled, k):
    """Every query upsampled, every pair ranked in plain Python, as the original evaluates: [(score, class, mask)]."""
    masks = functional.interpolate(outputs.masks_queries_logits, size=canvas, mode="bilinear")[row]
    masks = functional.interpolate(masks[None, :, : filled[0], : filled[1]], size=target, mode="bilinear")[0]
    scores = outputs.class_queries_logits[row].softmax(-1)[:, :-1]
    pairs = [(float(scores[q, c]), q, c) for q in range(scores.shape[0]) for c in range(scores.shape[1])]
    result = []
    for score, q, c in sorted(pairs, key=lambda pair: -pair[0])[:k]:
        inside = masks[q] > 0
        if inside.any():
            result.append((score * float(masks[q].sigmoid()[inside].mean()), c, inside))
    return sorted(result, key=lambda candidate: -candidate[0])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("k", [1, 7, 30, 1000])
def test_top_k_candidates_equal_a_plain_ranking_of_all_pairs(seed, k):
    outputs, sizes = random_outputs(seed, rows=2, queries=8), [(50, 70), (90, 40)]
    outputs.masks_queries_logits[:, 2] = -1  # an empty mask, whose candidates are left out
    results = top_k_instances(outputs, sizes, {"shortest_edge": 64, "longest_edge": 64}, k=k)
    for row, (result, filled) in enumerate(zip(results, [(46, 64), (64, 28)], strict=True)):
        expected = slow_top_k(outputs, row, sizes[row], (64, 64), filled, k)
        assert result.class_index.tolist() == [c for _, c, _ in expected]
        np.testing.assert_allclose(result.scores, [score for score, _, _ in expected], atol=1e-6)
        for mask_index, (_, _, mask) in zip(result.mask_index, expected, strict=True):
            assert torch.equal(result.masks[mask_index], mask)
        assert len(result.masks) == len(set(result.mask_index.tolist()))
        assert result.masks.dtype == torch.bool


def test_top_k_without_any_mask_is_empty():
    outputs = random_outputs(0, rows=1)
    outputs.masks_queries_logits[:] = -5
    result = top_k_instances(outputs, [(20, 30)], 32)[0]
    assert result.masks.shape == (0, 20, 30)
    assert len(result.scores) == len(result.class_index) == len(result.mask_index) == 0


@pytest.fixture
def without_kernels(monkeypatch):
    """The operators of torch, as on a GPU."""
    monkeypatch.setattr(compiled_masks, "trusted_kernels", lambda: None)


class _CountHostWaits(TorchFunctionMode):
    count = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.count += getattr(func, "__name__", "") in HOST_WAITS
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("function", [panoptic_segments, instance_segments])
def test_the_host_is_not_asked_once_a_segment(function, without_kernels):
    grid = 32
    boxes = [(y, x, y + 3, x + 3) for y in range(0, grid, 4) for x in range(0, grid, 4)]
    outputs = outputs_of(rectangles(grid, boxes), [i % 3 for i in range(len(boxes))], [0.9] * len(boxes), classes=3)
    waits = []
    for threshold, segments in ((0.95, 0), (0.5, len(boxes))):
        with _CountHostWaits() as mode:
            result = function(outputs, [(grid, grid)], grid, threshold=threshold)[0]
        assert len(result.scores) == segments
        waits.append(mode.count)
    assert waits[0] == waits[1] <= 10


@pytest.mark.parametrize("function", [panoptic_segments, instance_segments, top_k_instances])
def test_the_host_is_not_asked_once_an_image(function, without_kernels):
    waits = []
    for rows in (1, 6):
        outputs = random_outputs(0, rows=rows)
        with _CountHostWaits() as mode:
            function(outputs, [(20, 30)] * rows, 32)
        waits.append(mode.count)
    assert waits[0] == waits[1]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_outputs_are_worked_on_in_float32(dtype):
    outputs, sizes = random_outputs(5), random_sizes(5, 2)
    for name in ("masks_queries_logits", "class_queries_logits"):
        setattr(outputs, name, getattr(outputs, name).to(dtype))
    half = [
        *panoptic_segments(outputs, sizes, 64, threshold=0.3),
        *instance_segments(outputs, sizes, 64, threshold=0.3),
    ]
    for name in ("masks_queries_logits", "class_queries_logits"):
        setattr(outputs, name, getattr(outputs, name).float())
    full = [
        *panoptic_segments(outputs, sizes, 64, threshold=0.3),
        *instance_segments(outputs, sizes, 64, threshold=0.3),
    ]
    for one, other in zip(half, full, strict=True):
        assert torch.equal(one.segment_map, other.segment_map)
        assert one.scores.tolist() == other.scores.tolist()


@pytest.mark.parametrize("function", [panoptic_segments, instance_segments, top_k_instances])
def test_outputs_with_gradients_are_taken_and_left_as_they_were(function):
    outputs = random_outputs(2, rows=1, grid=32)
    before = outputs.masks_queries_logits.clone()
    outputs.masks_queries_logits.requires_grad_()
    outputs.class_queries_logits.requires_grad_()
    function(outputs, [(32, 32)], 32)  # no size changes, so nothing is copied on the way
    assert torch.equal(outputs.masks_queries_logits, before)


@pytest.mark.parametrize("function", [panoptic_segments, instance_segments, top_k_instances])
def test_outputs_and_target_sizes_that_do_not_fit_are_refused(function):
    with pytest.raises(ProcessorError, match="2 images were predicted but 1 target_sizes given"):
        function(random_outputs(0), [(20, 20)], 32)
    outputs = random_outputs(0)
    outputs.class_queries_logits = None
    with pytest.raises(ProcessorError, match="the outputs lack masks_queries_logits or class_queries_logits"):
        function(outputs, [(20, 20)] * 2, 32)
