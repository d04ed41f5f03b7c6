"""Post-processing as a GPU runs it, here on a CPU and on torch's "meta" device, which has no values to ask for."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from eomt import EomtImageProcessor, batched_segments, query_groups
from eomt.documented_results import _dictionary
from eomt.host_copies import HostCopies, Pending
from eomt.packed_masks import pack, unpack
from eomt.post_processing import instance_segments, panoptic_segments, top_k_instances
from eomt.semantic import semantic_maps, semantic_maps_on_host
from tests.reference.oracles import transformers_processors
from tests.reference.segmentation_outputs import outputs_of, random_outputs, random_sizes, rectangles

TransformersProcessor, _ = transformers_processors()

SIZES = [
    {"shortest_edge": 64, "longest_edge": 64},
    {"shortest_edge": 48, "longest_edge": 80},
    {"shortest_edge": 56, "longest_edge": None},
]
PANOPTIC: list[dict[str, Any]] = [
    {},
    {"threshold": 0.0, "overlap_mask_area_threshold": 0.0, "stuff_classes": [0, 2, 4]},
    {"threshold": 0.3, "mask_threshold": 0.3, "overlap_mask_area_threshold": 0.7, "stuff_classes": {1}},
    {"threshold": 1.0},
]
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "panoptic": lambda o, s, size, copies: batched_segments.panoptic(
        o, s, size, copies, threshold=0.3, stuff_classes=[0, 2], maps_to_host=True
    ),
    "instance": lambda o, s, size, copies: batched_segments.instance(
        o, s, size, copies, threshold=0.3, maps_to_host=True
    ),
    "top_k": lambda o, s, size, copies: batched_segments.top_k(o, s, size, copies, k=9, masks_to_host=True),
    "semantic": semantic_maps_on_host,
}
WAITS = {"panoptic": 2, "instance": 2, "top_k": 2, "semantic": 1}
"""How often the host waits for the device, a batch."""
ASKS_FOR_VALUES = {
    "_local_scalar_dense", "nonzero", "nonzero_static", "item", "is_nonzero", "equal", "unique_dim", "_unique2",
    "masked_select", "bincount", "histc", "repeat_interleave",
}  # fmt: skip
"""Operators that make the host wait for a GPU."""


@pytest.fixture(params=[1 << 26, 60_000, 100], ids=["together", "in groups", "one by one"])
def memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_groups, "MASK_PIXELS", request.param)


def case(seed: int) -> tuple[SimpleNamespace, list[tuple[int, int]]]:
    """Six images of three sizes, with an empty mask each."""
    outputs = random_outputs(seed, rows=6)
    outputs.masks_queries_logits[:, 3] = -4
    return outputs, random_sizes(seed, 3) * 2


@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize("size", SIZES, ids=["square", "wide", "unbounded"])
@pytest.mark.parametrize("seed", range(4))
def test_panoptic_maps_ids_classes_and_scores_equal_the_hosts(seed: int, size: dict[str, int | None]) -> None:
    outputs, sizes = case(seed)
    for options in PANOPTIC:
        expected = panoptic_segments(outputs, sizes, size, **options)
        found = batched_segments.panoptic(outputs, sizes, size, HostCopies(), maps_to_host=True, **options)
        for mine, other in zip(found, expected, strict=True):
            assert torch.equal(mine.segment_map.int(), other.segment_map)
            assert mine.class_index.tolist() == other.class_index.tolist()
            assert mine.scores.tolist() == other.scores.tolist()


@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize("size", SIZES, ids=["square", "wide", "unbounded"])
@pytest.mark.parametrize("seed", range(4))
def test_instances_equal_the_hosts(seed: int, size: dict[str, int | None]) -> None:
    outputs, sizes = case(seed)
    for threshold in (0.0, 0.3, 0.8, 1.0):
        expected = instance_segments(outputs, sizes, size, threshold=threshold)
        found = batched_segments.instance(outputs, sizes, size, HostCopies(), threshold=threshold)
        for mine, other in zip(found, expected, strict=True):
            assert torch.equal(mine.segment_map, other.segment_map)
            assert mine.class_index.tolist() == other.class_index.tolist()
            np.testing.assert_allclose(mine.scores, other.scores, atol=1e-6)


@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize("to_host", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_top_k_candidates_equal_the_hosts(seed: int, to_host: bool) -> None:
    outputs, sizes = case(seed)
    for k in (1, 7, 1000):
        expected = top_k_instances(outputs, sizes, SIZES[0], k=k)
        found = batched_segments.top_k(outputs, sizes, SIZES[0], HostCopies(), k=k, masks_to_host=to_host)
        for mine, other in zip(found, expected, strict=True):
            assert torch.equal(mine.masks, other.masks)
            assert mine.class_index.tolist() == other.class_index.tolist()
            assert mine.mask_index.tolist() == other.mask_index.tolist()
            np.testing.assert_allclose(mine.scores, other.scores, atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_results_equal_those_of_transformers(seed: int) -> None:
    outputs, sizes = case(seed)
    theirs = TransformersProcessor(size=SIZES[0])
    panoptic = batched_segments.panoptic(outputs, sizes, SIZES[0], HostCopies(), threshold=0.3, stuff_classes=[0])
    expected = theirs.post_process_panoptic_segmentation(outputs, sizes, threshold=0.3, stuff_classes=[0])
    assert_documented(panoptic, expected)
    instance = batched_segments.instance(outputs, sizes, SIZES[0], HostCopies(), threshold=0.3)
    assert_documented(instance, theirs.post_process_instance_segmentation(outputs, sizes, threshold=0.3))


def assert_documented(found: Sequence[Any], expected: list[dict[str, Any]]) -> None:
    for mine, other in zip(found, expected, strict=True):
        ours = _dictionary(mine, torch.int64)
        assert torch.equal(ours["segmentation"], other["segmentation"].long())
        assert len(ours["segments_info"]) == len(other["segments_info"])
        for segment, reference in zip(ours["segments_info"], other["segments_info"], strict=True):
            assert (segment["id"], segment["label_id"]) == (reference["id"], reference["label_id"])
            assert segment["score"] == pytest.approx(reference["score"], abs=1.001e-6)


@pytest.mark.parametrize("classes", [5, 300])
def test_semantic_maps_equal_the_hosts_crops_merged(classes: int) -> None:
    outputs = random_outputs(3, rows=5, classes=classes)
    outputs.patch_offsets = [
        torch.tensor(row) for row in ((0, 0, 56), (0, 24, 80), (1, 0, 56), (1, 30, 86), (1, 60, 116))
    ]
    size, sizes = {"shortest_edge": 56, "longest_edge": None}, [(70, 100), (116, 56)]
    found = semantic_maps_on_host(outputs, sizes, size, HostCopies())
    for mine, other in zip(found, semantic_maps(outputs, sizes, size), strict=True):
        assert torch.equal(mine.long(), other)
        assert mine.dtype == (torch.uint8 if classes <= 256 else torch.int16)


def test_crops_that_are_not_in_order_are_found() -> None:
    outputs = random_outputs(3, rows=4)
    outputs.patch_offsets = [torch.tensor(row) for row in ((0, 0, 56), (1, 0, 56), (0, 24, 80), (1, 10, 66))]
    size, sizes = {"shortest_edge": 56, "longest_edge": None}, [(70, 100), (66, 56)]
    swapped = SimpleNamespace(
        masks_queries_logits=outputs.masks_queries_logits[[0, 2, 1, 3]],
        class_queries_logits=outputs.class_queries_logits[[0, 2, 1, 3]],
        patch_offsets=[outputs.patch_offsets[i] for i in (0, 2, 1, 3)],
    )
    for mine, other in zip(semantic_maps(outputs, sizes, size), semantic_maps(swapped, sizes, size), strict=True):
        assert torch.equal(mine, other)


@pytest.mark.parametrize("task", FUNCTIONS)
def test_an_image_is_segmented_alike_in_any_company(task: str) -> None:
    outputs, sizes = case(1)
    together = FUNCTIONS[task](outputs, sizes, SIZES[0], HostCopies())
    for i, size in enumerate(sizes):
        alone = SimpleNamespace(
            masks_queries_logits=outputs.masks_queries_logits[i : i + 1],
            class_queries_logits=outputs.class_queries_logits[i : i + 1],
            patch_offsets=None,
        )
        (mine,) = FUNCTIONS[task](alone, [size], SIZES[0], HostCopies())
        assert_same(mine, together[i])


def assert_same(one: Any, other: Any) -> None:
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
        return
    for name, value in vars(one).items():
        assert np.array_equal(np.asarray(value), np.asarray(getattr(other, name))), name


def test_more_than_128_queries_need_a_wider_map() -> None:
    boxes = [(y, x, y + 2, x + 2) for y in range(0, 36, 3) for x in range(0, 36, 3)]
    outputs = outputs_of(rectangles(36, boxes), [0] * len(boxes), [0.9] * len(boxes), classes=3)
    (found,) = batched_segments.panoptic(outputs, [(36, 36)], 36, HostCopies(), threshold=0.5, maps_to_host=True)
    assert found.segment_map.dtype == torch.int16
    assert torch.equal(
        found.segment_map.int(), panoptic_segments(outputs, [(36, 36)], 36, threshold=0.5)[0].segment_map
    )
    assert found.segment_map.max() == 143


def test_the_sum_of_a_masks_probabilities_is_exact_in_any_order() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 1, 300, 400, generator=generator) * 5
    shuffled = logits.flatten()[torch.randperm(120_000, generator=generator)].view_as(logits)
    means = [batched_segments._mean_inside(each.clone(), each > 0)[1] for each in (logits, shuffled)]
    inside = logits[logits > 0].sigmoid()
    exact = sum(int(p * 2**24) for p in inside.tolist()) / 2**24 / (len(inside) + 1e-6)
    assert [float(mean) for mean in means] == [float(np.float32(exact))] * 2


@pytest.mark.parametrize("size_hw", [(1, 1), (3, 5), (8, 8), (7, 11)])
def test_packed_masks_come_back(size_hw: tuple[int, int]) -> None:
    masks = torch.rand(2, 3, *size_hw, generator=torch.Generator().manual_seed(0)) > 0.5
    packed = pack(masks)
    assert packed.shape == (2, 3, -(-size_hw[0] * size_hw[1] // 8))
    assert np.array_equal(unpack(packed.numpy(), size_hw), masks.numpy())


class _Questions(TorchDispatchMode):
    """Counts the operators that would make the host wait for a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        by_mask = name in ("index", "index_put_") and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        if name in ASKS_FOR_VALUES or by_mask:
            self.asked.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("task", FUNCTIONS)
@pytest.mark.parametrize("rows", [1, 7])
def test_the_host_waits_twice_a_batch_and_once_for_semantic_maps(task: str, rows: int) -> None:
    outputs, sizes = random_outputs(0, rows=rows), random_sizes(0, rows)
    copies = HostCopies()
    with _Questions() as questions:
        FUNCTIONS[task](outputs, sizes, SIZES[0], copies)
    assert copies.waits == WAITS[task]
    assert questions.asked == []


def test_the_counter_sees_a_question() -> None:
    with _Questions() as questions:
        int(torch.arange(3).sum())
        torch.arange(3)[torch.tensor([True, False, True])]
    assert questions.asked == ["_local_scalar_dense", "index"]


class _Recorded(HostCopies):
    """Remembers what a device told the host."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[list[Any]] = []

    def finish(self, pending: Pending) -> list[Any]:
        self.told.append(super().finish(pending))
        return self.told[-1]


class _Replayed(HostCopies):
    """Tells the host what another device told it: "meta" tensors have shapes and no values."""

    def __init__(self, told: list[list[Any]]) -> None:
        super().__init__()
        self._told = iter(told)

    def fetch(self, tensors: Sequence[torch.Tensor]) -> list[Any]:
        told = next(self._told)
        assert [(tuple(t.shape), str(t.dtype)) for t in tensors] == [(a.shape, f"torch.{a.dtype}") for a in told]
        assert {tensor.device.type for tensor in tensors} == {"meta"}
        return told


@pytest.mark.parametrize("task", FUNCTIONS)
def test_all_of_the_work_stays_on_the_device(task: str) -> None:
    """On "meta" a value cannot be read and tensors of two devices cannot meet, as on a GPU."""
    outputs, sizes = case(2)
    recorded = _Recorded()
    expected = FUNCTIONS[task](outputs, sizes, SIZES[0], recorded)
    elsewhere = SimpleNamespace(
        masks_queries_logits=outputs.masks_queries_logits.to("meta"),
        class_queries_logits=outputs.class_queries_logits.to("meta"),
        patch_offsets=None,
    )
    found = FUNCTIONS[task](elsewhere, sizes, SIZES[0], _Replayed(recorded.told))
    for mine, other in zip(found, expected, strict=True):
        assert_same(mine, other)


def test_the_documented_methods_leave_maps_on_the_outputs_device(monkeypatch: pytest.MonkeyPatch) -> None:
    outputs, sizes = case(2)
    recorded = _Recorded()
    batched_segments.panoptic(outputs, sizes, SIZES[0], recorded, threshold=0.3)
    monkeypatch.setattr("eomt.post_processing.HostCopies", lambda: _Replayed(recorded.told))
    outputs.masks_queries_logits = outputs.masks_queries_logits.to("meta")
    outputs.class_queries_logits = outputs.class_queries_logits.to("meta")
    processor = EomtImageProcessor(size=SIZES[0])
    results = processor.post_process_panoptic_segmentation(outputs, sizes, threshold=0.3)
    assert [r["segmentation"].device.type for r in results] == ["meta"] * 6
    assert [tuple(r["segmentation"].shape) for r in results] == sizes


def test_one_threshold_too_high_gives_empty_maps() -> None:
    outputs, sizes = case(0)
    for found in batched_segments.panoptic(outputs, sizes, SIZES[0], HostCopies(), threshold=1.0):
        assert found.segment_map.unique().tolist() == [-1]
        assert len(found.scores) == len(found.class_index) == 0
