import pytest
import torch
from torch.nn import functional

from eomt import EomtImageProcessor, frames
from eomt.errors import ProcessorError
from eomt.semantic import semantic_maps, semantic_scores
from tests.reference.oracles import transformers_processors
from tests.reference.segmentation_outputs import random_outputs, random_sizes

TransformersProcessor, _ = transformers_processors()


def crops_of(sizes, shortest):
    """`patch_offsets` of images of these sizes, by transformers' own processor."""
    processor = TransformersProcessor(size={"shortest_edge": shortest, "longest_edge": None}, do_split_image=True)
    return processor([torch.zeros(3, *size, dtype=torch.uint8) for size in sizes]).patch_offsets


@pytest.mark.parametrize("seed", range(10))
def test_maps_of_split_images_equal_those_of_transformers(seed):
    sizes, size = random_sizes(seed, 5), {"shortest_edge": 32, "longest_edge": None}
    offsets = crops_of(sizes, 32)
    outputs = random_outputs(seed, rows=len(offsets), grid=8)
    outputs.patch_offsets = offsets
    ours, theirs = EomtImageProcessor(size=size), TransformersProcessor(size=size)
    expected = theirs.post_process_semantic_segmentation(outputs, sizes, return_segmentation_scores=True)
    maps = ours.post_process_semantic_segmentation(outputs, sizes)
    scored = ours.post_process_semantic_segmentation(outputs, sizes, return_segmentation_scores=True)
    for mine, both, reference in zip(maps, scored, expected, strict=True):
        assert torch.equal(mine, reference.segmentation)
        assert mine.dtype == torch.int64
        assert torch.equal(both.segmentation, reference.segmentation)
        torch.testing.assert_close(both.segmentation_scores, reference.segmentation_scores, atol=1e-6, rtol=0)


@pytest.mark.parametrize("seed", range(4))
def test_maps_of_whole_square_images_equal_those_of_transformers(seed):
    sizes, size = [(40, 40), (100, 100), (64, 64)], {"shortest_edge": 64, "longest_edge": 64}
    outputs = random_outputs(seed, rows=3)
    expected = TransformersProcessor(size=size).post_process_semantic_segmentation(outputs, sizes)
    for mine, reference in zip(semantic_maps(outputs, sizes, size), expected, strict=True):
        assert torch.equal(mine, reference)


def test_padding_is_cut_away_and_not_stretched_over_the_image():
    """transformers stretches the whole padded canvas; the part that the image filled is its upper half here."""
    outputs, size = random_outputs(7, rows=1), {"shortest_edge": 64, "longest_edge": 64}
    masks = functional.interpolate(outputs.masks_queries_logits, size=(64, 64), mode="bilinear").sigmoid()
    classes = outputs.class_queries_logits.softmax(-1)[..., :-1]
    scores = torch.einsum("bqc,bqhw->bchw", classes, masks)
    expected = functional.interpolate(scores[..., :32, :], size=(80, 160), mode="bilinear")[0].argmax(0)
    ours = semantic_maps(outputs, [(80, 160)], size)[0]
    assert torch.equal(ours, expected)
    stretched = TransformersProcessor(size=size).post_process_semantic_segmentation(outputs, [(80, 160)])[0]
    assert not torch.equal(stretched, expected)


def test_a_padded_canvas_with_one_crop_an_image_is_cut_too():
    outputs, size = random_outputs(7, rows=1), {"shortest_edge": 64, "longest_edge": 64}
    whole = semantic_maps(outputs, [(80, 160)], size)[0]
    outputs.patch_offsets = [torch.tensor([0, 0, 64])]
    assert torch.equal(semantic_maps(outputs, [(80, 160)], size)[0], whole)


def test_crops_in_any_order_give_the_same_map():
    sizes = [(40, 90), (70, 30)]
    offsets = crops_of(sizes, 24)
    outputs = random_outputs(0, rows=len(offsets), grid=6)
    outputs.patch_offsets = offsets
    straight = semantic_maps(outputs, sizes, 24)
    order = list(reversed(range(len(offsets))))
    outputs.masks_queries_logits = outputs.masks_queries_logits[order]
    outputs.class_queries_logits = outputs.class_queries_logits[order]
    outputs.patch_offsets = [offsets[i].tolist() for i in order]  # plain lists are taken as well
    for one, other in zip(straight, semantic_maps(outputs, sizes, 24), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("chunk", [1, 2 * 64 * 64])
def test_chunks_of_classes_do_not_change_the_map(chunk, monkeypatch):
    outputs, sizes = random_outputs(1, rows=2, classes=9), [(50, 70), (30, 30)]
    whole = semantic_maps(outputs, sizes, 64)
    monkeypatch.setattr(frames, "CHUNK_PIXELS", chunk)
    for one, other in zip(whole, semantic_maps(outputs, sizes, 64), strict=True):
        assert torch.equal(one, other)


def test_the_best_class_of_equals_is_the_first():
    # Votes of 1/8 and 1/16: their sums are exact in whatever order they are added, so that equal classes stay equal.
    outputs = random_outputs(1, rows=1, classes=7, grid=32)
    outputs.class_queries_logits[:] = 0
    outputs.masks_queries_logits = (outputs.masks_queries_logits / 4).trunc().clamp(-1, 1) * 200
    assert outputs.masks_queries_logits.unique().tolist() == [-200, 0, 200]
    assert semantic_maps(outputs, [(32, 32)], 32)[0].unique().tolist() == [0]


def test_outputs_are_left_as_they_were():
    outputs = random_outputs(2, rows=1, grid=32)
    before = outputs.masks_queries_logits.clone()
    semantic_maps(outputs, [(32, 32)], 32)
    list(semantic_scores(outputs, [(32, 32)], 32))
    assert torch.equal(outputs.masks_queries_logits, before)


def test_crops_and_sizes_that_do_not_fit_are_refused():
    outputs = random_outputs(0, rows=2)
    with pytest.raises(ProcessorError, match="2 images were predicted but 1 target_sizes"):
        semantic_maps(outputs, [(20, 20)], 32)
    outputs.patch_offsets = [torch.tensor([0, 0, 32])]
    with pytest.raises(ProcessorError, match="2 crops were predicted but patch_offsets has 1 rows"):
        semantic_maps(outputs, [(20, 20)], 32)
    outputs.patch_offsets = torch.tensor([[0, 0, 32], [1, 0, 32]])
    with pytest.raises(ProcessorError, match="disagree about image 1: there are 1 target_sizes, and crops of 2 images"):
        semantic_maps(outputs, [(20, 20)], 32)
