"""Post-processing and encoding against transformers, the original's evaluation and pycocotools, on drawn outputs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as coco_mask
import torch
from torch.nn import functional

from eomt import EomtImageProcessor, compiled_masks
from eomt.frames import frames
from eomt.outputs import EomtForUniversalSegmentationOutput
from eomt.post_processing import InstanceMasks, panoptic_segments, top_k_instances
from eomt.resizing import Size
from workbench.bench.drawn_outputs import drawn_outputs
from workbench.bench.measuring import Case, Disagreement, Goal, measure, share_of_memory, times, within
from workbench.bench.oracle import transformers_processor
from workbench.bench.reporting import Report, Section, finish, machine
from workbench.label_map_rle import LabelMapRle, encode_label_map

Tell = Callable[[str], None]
SizeHw = tuple[int, int]
PACKAGES = ("torch", "transformers", "numba", "numpy", "pycocotools")
WHOLE = {"shortest_edge": 640, "longest_edge": 640}
SPLIT = {"shortest_edge": 512, "longest_edge": None}
SCORE_TOLERANCE = 1e-6
TOP_K = 100


def benchmark(rounds: int, seed: int, command: str, out: Path | None, tell: Tell) -> None:
    """Measure on one core and report. Raises Disagreement where results differ."""
    report = Report("Post-processing speed", ABOUT.format(seed=seed), sections(rounds, seed, tell), {"seed": seed})
    finish(report, machine(PACKAGES, threads=1), command, "post-processing", out)


def sections(rounds: int, seed: int, tell: Tell) -> list[Section]:
    """Post-processing and encoding, measured on one core. Raises Disagreement where results differ."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        compiled_masks.trusted_kernels()  # compiled once per machine, which is not what is measured
        return [
            Section("Post-processing", [measure(case, rounds, tell) for case in _cases(seed)], _NOTES),
            Section("Encoding", [measure(_encoding(seed), rounds, tell)], _ENCODING_NOTES),
        ]
    finally:
        torch.set_num_threads(threads)


def _cases(seed: int) -> list[Case]:
    outputs = drawn_outputs(seed, rows=1, queries=200, classes=133, grid=160, confident=20)
    crops = drawn_outputs(seed, rows=2, queries=100, classes=150, grid=128, confident=25)
    return [
        *(_documented("panoptic", outputs, size, goals) for size, goals in _PANOPTIC),
        *(_documented("instance", outputs, size, goals) for size, goals in _INSTANCE),
        *(_top_k(outputs, size, goals) for size, goals in _TOP_K),
        *(_semantic(crops, size, goals) for size, goals in _SEMANTIC),
    ]


_PANOPTIC: list[tuple[SizeHw, tuple[Goal, ...]]] = [
    ((480, 640), (times(30), share_of_memory(0.1))),
    ((375, 500), ()),
    ((1200, 1600), ()),
]
_INSTANCE: list[tuple[SizeHw, tuple[Goal, ...]]] = [((480, 640), (times(50),)), ((375, 500), ())]
_TOP_K: list[tuple[SizeHw, tuple[Goal, ...]]] = [((480, 640), (times(20),)), ((375, 500), ())]
_SEMANTIC: list[tuple[SizeHw, tuple[Goal, ...]]] = [((512, 683), (times(5),)), ((683, 1024), ())]
ABOUT = (
    "Outputs drawn from seed {seed}, as of one image: 200 queries, 133 classes and a grid of 160x160, 20 queries "
    "confident; for semantic maps two crops of 512, 100 queries, 150 classes and a grid of 128x128. One thread; "
    "seconds are the processor's work. Sizes are the image's own: 480x640 and 512x683 need one interpolation, others "
    "two."
)
_NOTES = (
    "Memory that an earlier row left to the allocator is not counted again: the first row tells it best.",
    "Top-k candidates, which AP is computed from, are compared with the original work's evaluation written in torch: "
    "transformers has no such method. Maps, labels and masks are compared exactly, scores to 1e-6.",
)
_ENCODING_NOTES = ("Strings, areas and boxes of all segments of the map, which is ready in memory for both.",)


def _documented(task: str, outputs: Any, size: SizeHw, goals: tuple[Goal, ...]) -> Case:
    name = f"post_process_{task}_segmentation"
    ours, theirs = EomtImageProcessor(size=WHOLE), transformers_processor(size=WHOLE)
    return Case(
        f"{task}, {size[0]}x{size[1]}",
        lambda: getattr(ours, name)(outputs, [size]),
        lambda: getattr(theirs, name)(outputs, [size]),
        peer=f"transformers' `{name}`",
        agree=same_segments,
        agreement="map, ids and labels exactly, scores to 1e-6",
        goals=goals,
        clock="cpu",
    )


def same_segments(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> None:
    """Raise Disagreement unless maps, ids and labels are equal, and scores to a millionth."""
    for mine, other in zip(ours, theirs, strict=True):
        pixels = int((mine["segmentation"].long() != other["segmentation"].long()).sum())
        if pixels:
            raise Disagreement(f"{pixels} pixels belong to other segments.")
        if len(mine["segments_info"]) != len(other["segments_info"]):
            raise Disagreement(f"{len(mine['segments_info'])} segments, not {len(other['segments_info'])}.")
        for segment, expected in zip(mine["segments_info"], other["segments_info"], strict=True):
            same_ids = (segment["id"], segment["label_id"]) == (expected["id"], expected["label_id"])
            # Both are rounded to six digits, which can part them by one more in the last.
            if not same_ids or abs(segment["score"] - expected["score"]) > 1.001 * SCORE_TOLERANCE:
                raise Disagreement(f"a segment is {segment} by us, {expected} by transformers.")


def _semantic(outputs: EomtForUniversalSegmentationOutput, size: SizeHw, goals: tuple[Goal, ...]) -> Case:
    length = int(512 * size[1] / size[0])
    offsets = [torch.tensor([0, 0, 512]), torch.tensor([0, length - 512, length])]
    split = EomtForUniversalSegmentationOutput(
        masks_queries_logits=outputs.masks_queries_logits,
        class_queries_logits=outputs.class_queries_logits,
        patch_offsets=offsets,
    )
    ours, theirs = EomtImageProcessor(size=SPLIT), transformers_processor(size=SPLIT)
    return Case(
        f"semantic, {size[0]}x{size[1]}, two crops",
        lambda: ours.post_process_semantic_segmentation(split, [size])[0].numpy(),
        lambda: theirs.post_process_semantic_segmentation(split, [size])[0].numpy(),
        peer="transformers' `post_process_semantic_segmentation`",
        agreement="every pixel",
        goals=goals,
        clock="cpu",
    )


def _top_k(outputs: Any, size: SizeHw, goals: tuple[Goal, ...]) -> Case:
    return Case(
        f"top {TOP_K} instances, {size[0]}x{size[1]}",
        lambda: top_k_instances(outputs, [size], WHOLE, k=TOP_K)[0],
        lambda: original_top_k(outputs, size),
        peer="the original's evaluation in torch",
        agree=same_candidates,
        agreement="masks and classes exactly, scores to 1e-6",
        goals=goals,
        clock="cpu",
    )


def original_top_k(outputs: Any, size: SizeHw, canvas: Size = WHOLE) -> tuple[Any, Any, Any]:
    """Masks (k, H, W), classes (k,) and scores (k,) of one image, as the original evaluates instances.

    `canvas` is the processor's size.
    Source: tue-mps/eomt, training/mask_classification_instance.py: every query is upsampled, and every candidate has a
    mask of its own.
    """
    frame = frames([size], canvas)[0]
    masks = functional.interpolate(outputs.masks_queries_logits, size=frame.canvas, mode="bilinear")
    masks = masks[..., : frame.filled[0], : frame.filled[1]]
    masks = functional.interpolate(masks, size=frame.target, mode="bilinear")[0]
    scores = outputs.class_queries_logits[0].softmax(-1)[:, :-1]
    best, pairs = scores.flatten().topk(TOP_K)
    chosen = masks[pairs // scores.shape[1]]
    binary = chosen > 0
    inside = (chosen.sigmoid().flatten(1) * binary.flatten(1)).sum(1) / (binary.flatten(1).sum(1) + 1e-6)
    return binary, pairs % scores.shape[1], best * inside


def same_candidates(ours: InstanceMasks, theirs: tuple[Any, Any, Any]) -> None:
    """Raise Disagreement unless the candidates are the same, but for the order of equal scores."""
    binary, classes, scores = (each.numpy() for each in theirs)
    filled = binary.any(axis=(1, 2))
    masks = ours.masks.numpy()
    mine = sorted(zip(ours.class_index.tolist(), masks.sum(axis=(1, 2))[ours.mask_index].tolist(), strict=True))
    others = sorted(zip(classes[filled].tolist(), binary[filled].sum(axis=(1, 2)).tolist(), strict=True))
    if mine != others:
        raise Disagreement("candidates have other classes or areas.")
    if not np.array_equal(masks[ours.mask_index].sum(axis=0), binary.sum(axis=0)):
        raise Disagreement("candidates cover other pixels.")
    apart = float(np.abs(ours.scores - np.sort(scores[filled])[::-1]).max(initial=0))
    if apart > SCORE_TOLERANCE:
        raise Disagreement(f"scores differ by up to {apart:.2g}.")


def _encoding(seed: int) -> Case:
    outputs = drawn_outputs(seed, rows=1, queries=200, classes=133, grid=160, confident=20)
    found = panoptic_segments(outputs, [(480, 640)], WHOLE, overlap_mask_area_threshold=0.5)[0]
    label_map = found.segment_map.numpy()
    label_map[label_map >= 15] = 0  # fifteen segments, which is about what an image of COCO has
    ids = np.unique(label_map)

    def official() -> tuple[list[bytes], list[int], list[list[float]]]:
        encoded = [coco_mask.encode(np.asfortranarray(label_map == i, dtype=np.uint8)) for i in ids.tolist()]
        return (
            [rle["counts"] for rle in encoded],
            [int(area) for area in coco_mask.area(encoded)],
            coco_mask.toBbox(encoded).tolist(),
        )

    def agree(ours: LabelMapRle, theirs: tuple[list[bytes], list[int], list[list[float]]]) -> None:
        if (ours.counts, ours.areas.tolist(), ours.bboxes.tolist()) != theirs:
            raise Disagreement("strings, areas or boxes of a label map differ from pycocotools'.")

    return Case(
        f"a map of 480x640, {len(ids)} labels",
        lambda: encode_label_map(label_map),
        official,
        peer="pycocotools, mask by mask",
        agree=agree,
        agreement="strings, areas and boxes",
        goals=(within(1e-3),),
        clock="cpu",
    )
