"""The compiled semantic map must be that of torch's operators and of transformers, close votes included."""

import pytest
import torch

from eomt import EomtImageProcessor, compiled_masks, compiled_semantic
from eomt.frames import Frame
from eomt.semantic import semantic_maps
from tests.reference.oracles import transformers_processors
from tests.reference.segmentation_outputs import random_outputs

TransformersProcessor, _ = transformers_processors()
SPLIT = {"shortest_edge": 96, "longest_edge": None}


def split_outputs(seed, sizes, queries=20, classes=12):
    processor = TransformersProcessor(size=SPLIT, do_split_image=True)
    offsets = processor([torch.zeros(3, *size, dtype=torch.uint8) for size in sizes]).patch_offsets
    outputs = random_outputs(seed, rows=len(offsets), queries=queries, classes=classes, grid=24)
    outputs.patch_offsets = offsets
    return outputs


def with_torch(*arguments):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled_masks, "trusted_kernels", lambda: None)
        return semantic_maps(*arguments)


@pytest.mark.parametrize("seed", range(4))
def test_maps_of_split_images_equal_those_of_transformers(seed):
    sizes = [(96, 150), (201, 96), (130, 170), (70, 75), (100, 390)]
    outputs = split_outputs(seed, sizes)
    expected = TransformersProcessor(size=SPLIT).post_process_semantic_segmentation(outputs, sizes)
    ours = EomtImageProcessor(size=SPLIT).post_process_semantic_segmentation(outputs, sizes)
    for one, other in zip(ours, expected, strict=True):
        assert torch.equal(one, other)
        assert one.dtype == torch.int64


@pytest.mark.parametrize("target", [(128, 128), (80, 160), (171, 90), (37, 111)])
@pytest.mark.parametrize("seed", range(3))
def test_maps_of_padded_images_equal_torchs(target, seed):
    outputs, size = random_outputs(seed, rows=1, queries=30, classes=20, grid=32), 128
    assert torch.equal(semantic_maps(outputs, [target], size)[0], with_torch(outputs, [target], size)[0])


@pytest.mark.parametrize("target", [(96, 150), (130, 170), (55, 90)])
def test_close_votes_go_to_the_class_that_torch_gives_them_to(target):
    outputs = split_outputs(3, [target])
    close = outputs.class_queries_logits
    close[..., 1] = close[..., 0]  # equal everywhere
    close[..., 3] = close[..., 2] + 1e-7 * torch.randn(close.shape[:-1], generator=torch.Generator().manual_seed(1))
    close[..., 5] = close[..., 4] - 1e-6
    assert torch.equal(semantic_maps(outputs, [target], SPLIT)[0], with_torch(outputs, [target], SPLIT)[0])


def decided(outputs, starts, frame):
    weights = outputs.class_queries_logits.softmax(-1)[..., :-1]
    return compiled_semantic.class_map(outputs.masks_queries_logits, weights, starts, frame)


@pytest.mark.parametrize(
    "frame", [Frame((96, 96), (96, 140), (96, 140)), Frame((96, 96), (96, 140), (120, 175))], ids=str
)
def test_a_few_close_votes_are_settled_without_giving_the_whole_map_to_torch(frame):
    outputs = random_outputs(5, rows=2, queries=25, classes=9, grid=24)
    twin = outputs.class_queries_logits
    twin[..., 7] = -9
    twin[:, :3, 7] = twin[:, :3, 1]  # few queries, so that the twins tie where only these have a say
    outputs.patch_offsets = torch.tensor([[0, 0, 96], [0, 44, 140]])
    ours = decided(outputs, [(0, 0), (0, 44)], frame)
    assert ours is not None
    assert torch.equal(ours, with_torch(outputs, [frame.target], {"shortest_edge": 96, "longest_edge": None})[0])


@pytest.mark.parametrize("columns", [1, 2, 15, 300])
@pytest.mark.parametrize("queries, classes", [(100, 150), (200, 133), (100, 19), (7, 3)])
def test_sums_over_fewer_pixels_are_torchs_own_to_the_last_bit(columns, queries, classes):
    generator = torch.Generator().manual_seed(columns)
    frame = Frame((128, 128), (128, 128), (128, 128))
    masks = torch.randn(1, queries, 32, 32, generator=generator) * 5
    weights = torch.randn(1, queries, classes, generator=generator).softmax(-1)
    pixels = torch.randperm(128 * 128, generator=generator)[:columns]
    ours = compiled_semantic._scores_at(masks, weights, [(0, 0)], frame, pixels.numpy())
    whole = torch.einsum("qc,qhw->chw", weights[0], frame.upsample(masks[0]).sigmoid())
    assert torch.equal(ours.T, whole.flatten(1)[:, pixels])


def test_of_an_unsplit_image_larger_than_the_canvas_the_map_is_torchs():
    outputs, size = random_outputs(4, rows=1, grid=32), {"shortest_edge": 128, "longest_edge": None}
    assert torch.equal(semantic_maps(outputs, [(90, 200)], size)[0], with_torch(outputs, [(90, 200)], size)[0])


def test_what_the_kernel_cannot_do_is_left_to_torch():
    frame = Frame((96, 96), (96, 140), (96, 140))
    outputs = random_outputs(0, rows=2, grid=24)
    assert decided(outputs, [(0, 0), (0, 44)], frame) is not None
    assert decided(outputs, [(0, 0), (0, 30)], frame) is None  # the last columns are in no crop
    assert decided(outputs, [(0, 0), (0, 100)], Frame((96, 96), (96, 196), (96, 196))) is None  # a gap
    outputs.class_queries_logits[:] = 0
    assert decided(outputs, [(0, 0), (0, 44)], frame) is None  # nothing but ties
    outputs.masks_queries_logits[0, 0, 0, 0] = torch.nan
    assert decided(outputs, [(0, 0), (0, 44)], frame) is None


def test_crops_in_any_order_give_the_same_map():
    outputs = split_outputs(2, [(96, 150)])
    straight = semantic_maps(outputs, [(96, 150)], SPLIT)[0]
    order = list(reversed(range(len(outputs.patch_offsets))))
    outputs.masks_queries_logits = outputs.masks_queries_logits[order]
    outputs.class_queries_logits = outputs.class_queries_logits[order]
    outputs.patch_offsets = [outputs.patch_offsets[i] for i in order]
    assert torch.equal(semantic_maps(outputs, [(96, 150)], SPLIT)[0], straight)
