"""From the model's outputs to segments: panoptic and instance, batched, on the device of the outputs.

Results equal those of transformers; what differs is the work. Queries below the threshold are dropped before their
masks are upsampled, which changes nothing (a mask score never exceeds 1) and saves most of the time and memory. Masks
are upsampled in chunks, so that memory does not grow with the number of queries. On a CPU, which this module is about,
compiled kernels decide the pixels where they are sure to give what torch gives: see `compiled_masks`. Elsewhere
`batched_segments` does the work, image by image together.

`frames` explains how masks reach an image's size; `semantic` holds the third task.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eomt import batched_segments, compiled_masks
from eomt.frames import Frame, SegmentationOutputs, TargetSizes, frames, logits_of
from eomt.host_copies import HostCopies
from eomt.resizing import Size
from eomt.segment_results import VOID, InstanceMasks, SegmentMap, ranked

__all__ = ["VOID", "InstanceMasks", "SegmentMap", "instance_segments", "panoptic_segments", "top_k_instances"]

SUM_MARGIN = 1e-5
"""How far two float32 means of the same probabilities may be apart, ten times over."""


def panoptic_segments(
    outputs: SegmentationOutputs,
    target_sizes: TargetSizes,
    size: Size,
    *,
    threshold: float = 0.8,
    mask_threshold: float = 0.5,
    overlap_mask_area_threshold: float = 0.8,
    stuff_classes: Collection[int] | None = None,
) -> list[SegmentMap]:
    """The panoptic segmentation of each image.

    A query counts when its best class is an object and scores above `threshold`. A pixel goes to the query with the
    largest score x mask probability (the first of equals), and stays void where that query's mask probability is below
    `mask_threshold`. A query becomes a segment when the pixels it won are more than `overlap_mask_area_threshold` of
    its mask. Segments of one class of `stuff_classes` become one, with the score of the first; None merges nothing.

    Comparisons keep the reference's precision: the score is compared in float32 (exactly 0.8 is dropped), the ratio of
    areas is rounded to float32 and compared in float64 (4 of 5 pixels pass 0.8, 7 of 10 do not pass 0.7).

    `target_sizes` gives each image's (height, width), `size` is the processor's. Raises ProcessorError where they do
    not fit the outputs.
    """
    mask_logits, class_logits = logits_of(outputs)
    if not mask_logits.is_cpu:
        return batched_segments.panoptic(
            outputs,
            target_sizes,
            size,
            HostCopies(),
            threshold=threshold,
            mask_threshold=mask_threshold,
            overlap_mask_area_threshold=overlap_mask_area_threshold,
            stuff_classes=stuff_classes,
        )
    image_frames = frames(target_sizes, size, len(mask_logits))
    scores, classes = class_logits.float().softmax(-1).max(-1)  # (B, Q)
    confident = classes.ne(class_logits.shape[-1] - 1) & (scores > threshold)
    host_scores, host_classes = scores.cpu().numpy(), classes.cpu().numpy()
    queries = [np.flatnonzero(row) for row in confident.cpu().numpy()]

    contests = []
    for i, frame in enumerate(image_frames):
        chosen = _to_device(queries[i], mask_logits)
        contests.append(_contest_pixels(mask_logits[i, chosen], scores[i, chosen], frame, mask_threshold))
    areas = _split_by_image(torch.cat([contest.areas for contest in contests], dim=1), queries)

    results = []
    for i, contest in enumerate(contests):
        classes_i, scores_i = host_classes[i][queries[i]], host_scores[i][queries[i]]
        segment_of, kept = _survivors(areas[i], classes_i, overlap_mask_area_threshold, stuff_classes or ())
        results.append(SegmentMap(_relabelled(contest.owner, segment_of), classes_i[kept], scores_i[kept]))
    return results


def instance_segments(
    outputs: SegmentationOutputs, target_sizes: TargetSizes, size: Size, *, threshold: float = 0.8
) -> list[SegmentMap]:
    """The documented instance segmentation of each image: one class a query, later queries painted over earlier ones.

    A query becomes an instance when class score x mean mask probability is at least `threshold` (compared in float64)
    and its mask has a pixel. An instance that later ones cover completely stays listed. It is not meant for AP: see
    `top_k_instances`. `target_sizes`, `size` and errors are as in `panoptic_segments`.
    """
    mask_logits, class_logits = logits_of(outputs)
    if not mask_logits.is_cpu:
        return batched_segments.instance(outputs, target_sizes, size, HostCopies(), threshold=threshold)
    image_frames = frames(target_sizes, size, len(mask_logits))
    class_scores, classes = class_logits.float().softmax(-1)[..., :-1].max(-1)  # (B, Q)
    host_classes = classes.cpu().numpy()
    queries = [np.flatnonzero(row) for row in (class_scores.double() >= threshold).cpu().numpy()]

    painted = []
    for i, frame in enumerate(image_frames):
        chosen = _to_device(queries[i], mask_logits)
        painted.append(_paint_instances(mask_logits[i, chosen], class_scores[i, chosen], frame, threshold))
    scores = _split_by_image(torch.cat([query_scores for _, query_scores in painted]), queries)

    results = []
    for i, (query_map, _) in enumerate(painted):
        kept = np.flatnonzero(scores[i] >= 0)
        segment_of = np.full(len(scores[i]), VOID, dtype=np.int32)
        segment_of[kept] = np.arange(len(kept))
        segment_map = _relabelled(query_map, segment_of)
        results.append(SegmentMap(segment_map, host_classes[i][queries[i]][kept], scores[i][kept]))
    return results


def top_k_instances(
    outputs: SegmentationOutputs, target_sizes: TargetSizes, size: Size, *, k: int = 100
) -> list[InstanceMasks]:
    """The instance candidates of each image that AP is computed from, as the original work evaluates.

    All query x class pairs of an image are ranked by class score and the best `k` kept (the first of equals); each
    one's score is then multiplied by the mean probability inside its mask. Candidates with an empty mask, whose score
    is 0, are left out: at the end of the ranking they cannot change AP. `target_sizes`, `size` and errors are as in
    `panoptic_segments`.
    """
    mask_logits, class_logits = logits_of(outputs)
    if not mask_logits.is_cpu:
        return batched_segments.top_k(outputs, target_sizes, size, HostCopies(), k=k)
    image_frames = frames(target_sizes, size, len(mask_logits))
    class_scores = class_logits.float().softmax(-1)[..., :-1]  # (B, Q, K)
    classes = class_scores.shape[-1]
    best, pairs = class_scores.flatten(1).sort(dim=1, descending=True, stable=True)
    host_best, host_pairs = best[:, :k].cpu().numpy(), pairs[:, :k].cpu().numpy()

    queries = [np.unique(row // classes) for row in host_pairs]
    found = []
    for i, frame in enumerate(image_frames):
        found.append(_masks_and_scores(mask_logits[i, _to_device(queries[i], mask_logits)], frame))
    mask_scores = _split_by_image(torch.cat([scores for _, scores in found]), queries)

    results = []
    for i, (masks, _) in enumerate(found):
        mask_index = np.searchsorted(queries[i], host_pairs[i] // classes)
        filled = np.flatnonzero(mask_scores[i] > 0)
        kept = masks if len(filled) == len(masks) else masks[_to_device(filled, masks)]  # 30 MB that need no copy
        results.append(ranked(kept, mask_scores[i], mask_index, host_pairs[i] % classes, host_best[i]))
    return results


@dataclass(frozen=True)
class _Contest:
    """Which of n queries won each pixel of an image."""

    owner: Tensor  # (H, W) int32, 0..n-1; -1 where the winner's own mask does not cover the pixel
    areas: Tensor  # (3, n) int64 pixels: won, own mask, won and own mask


def _contest_pixels(mask_logits: Tensor, scores: Tensor, frame: Frame, mask_threshold: float) -> _Contest:
    """Give each pixel of the image to one of n queries: mask_logits (n, h, w), scores (n,)."""
    if compiled_masks.usable(mask_logits, frame):
        decided = compiled_masks.contest(mask_logits, scores, frame, mask_threshold)
        if decided is not None:
            return _Contest(*decided)
    count, device = len(scores), mask_logits.device
    best = torch.full(frame.target, -1.0, device=device)
    winner = torch.zeros(frame.target, dtype=torch.int64, device=device)
    owned = torch.zeros(frame.target, dtype=torch.bool, device=device)
    mask_areas = [torch.zeros(0, dtype=torch.int64, device=device)]
    for part in frame.chunks(count):
        probabilities = frame.upsample(mask_logits[part]).sigmoid_()
        inside = probabilities >= mask_threshold
        mask_areas.append(inside.flatten(1).sum(1))
        value, first = probabilities.mul_(scores[part, None, None]).max(0)  # the first of equals
        own = inside.gather(0, first[None])[0]
        better = value > best  # strictly: an earlier chunk keeps a tie
        best = torch.where(better, value, best)
        winner = torch.where(better, first + part.start, winner)
        owned = torch.where(better, own, owned)
    won = _count(winner.flatten(), max(count, 1))[:count]
    # Pixels that the winner does not own are counted in one bin past the end.
    won_and_own = _count(torch.where(owned, winner, count).flatten(), count + 1)[:count]
    owner = torch.where(owned, winner, VOID).int() if count else torch.full_like(winner, VOID, dtype=torch.int32)
    return _Contest(owner, torch.stack([won, torch.cat(mask_areas), won_and_own]))


def _survivors(
    areas: NDArray[np.int64], classes: NDArray[np.int64], overlap_threshold: float, stuff_classes: Collection[int]
) -> tuple[NDArray[np.int32], list[int]]:
    """The segment id of each of n queries, int32 (n,), -1 for none, and the query that each segment came from."""
    won, mask, won_and_own = areas
    exists = (won > 0) & (mask > 0) & (won_and_own > 0)
    ratio = won.astype(np.float32) / np.maximum(mask, 1).astype(np.float32)
    exists &= ratio.astype(np.float64) > overlap_threshold
    segment_of = np.full(len(classes), VOID, dtype=np.int32)
    kept: list[int] = []
    stuff_segment: dict[int, int] = {}
    for query in np.flatnonzero(exists):
        class_index = int(classes[query])
        if class_index in stuff_segment:
            segment_of[query] = stuff_segment[class_index]
            continue
        if class_index in stuff_classes:
            stuff_segment[class_index] = len(kept)
        segment_of[query] = len(kept)
        kept.append(int(query))
    return segment_of, kept


def _relabelled(labels: Tensor, new_labels: NDArray[np.int32]) -> Tensor:
    """(H, W) int32: each label 0..n-1 of `labels`, which may be reused, as its entry of `new_labels` (n,); -1 stays."""
    lookup = np.append(new_labels, np.int32(VOID))  # one more, which VOID as an index picks
    if compiled_masks.relabel(labels, lookup):
        return labels
    return _to_device(lookup, labels)[labels.long()]


def _paint_instances(
    mask_logits: Tensor, class_scores: Tensor, frame: Frame, threshold: float
) -> tuple[Tensor, Tensor]:
    """The last valid one of n queries at each pixel, (H, W) int32 or -1, and their scores (n,), -1 where not valid."""
    if compiled_masks.usable(mask_logits, frame):
        return _paint_compiled(mask_logits, class_scores, frame, threshold)
    query_map = torch.full(frame.target, VOID, dtype=torch.int32, device=mask_logits.device)
    all_scores = [class_scores[:0]]
    for part in frame.chunks(len(class_scores)):
        masks, areas, mask_scores = _mask_scores(frame.upsample(mask_logits[part]))
        scores = class_scores[part] * mask_scores
        valid = (areas > 0) & (scores.double() >= threshold)
        all_scores.append(torch.where(valid, scores, -1.0))
        order = torch.arange(part.start, part.stop, dtype=torch.int32, device=mask_logits.device)
        order = torch.where(valid, order, VOID)
        query_map = torch.maximum(query_map, torch.where(masks, order[:, None, None], VOID).amax(0))
    return query_map, torch.cat(all_scores)


def _paint_compiled(mask_logits: Tensor, class_scores: Tensor, frame: Frame, threshold: float) -> tuple[Tensor, Tensor]:
    """The same by compiled code. It sums probabilities in another order: close to the threshold torch sums them."""
    _, areas, mask_scores = compiled_masks.measure(mask_logits, frame, with_masks=False)
    scores = class_scores * mask_scores
    near = torch.nonzero((scores.double() - threshold).abs() < SUM_MARGIN)[:, 0]
    for query in near.tolist():
        scores[query] = class_scores[query] * _mask_scores(frame.upsample(mask_logits[query : query + 1]))[2][0]
    valid = (areas > 0) & (scores.double() >= threshold)
    order = torch.where(valid, torch.arange(len(valid), dtype=torch.int32), VOID)
    return compiled_masks.paint(mask_logits, order.numpy(), frame), torch.where(valid, scores, -1.0)


def _masks_and_scores(mask_logits: Tensor, frame: Frame) -> tuple[Tensor, Tensor]:
    """Binary masks (n, *target) and mean probabilities (n,), 0 for an empty mask, of mask_logits (n, h, w)."""
    if compiled_masks.usable(mask_logits, frame):
        masks, _, scores = compiled_masks.measure(mask_logits, frame, with_masks=True)
        return masks, scores
    parts = [_mask_scores(frame.upsample(mask_logits[part])) for part in frame.chunks(len(mask_logits))]
    return torch.cat([masks for masks, _, _ in parts]), torch.cat([scores for _, _, scores in parts])


def _mask_scores(upsampled: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Binary masks (n, H, W), their areas (n,) in float32, and the mean probability inside each (n,)."""
    masks = upsampled > 0
    areas = masks.flatten(1).sum(1).float()
    inside = upsampled.sigmoid_().flatten(1).mul_(masks.flatten(1))
    return masks, areas, inside.sum(1) / (areas + 1e-6)


def _split_by_image(values: Tensor, queries: list[NDArray[np.int64]]) -> list[NDArray[Any]]:
    """Bring (..., queries of all images) to the host at once, as one array (..., queries of the image) an image."""
    ends = np.cumsum([len(chosen) for chosen in queries])
    return np.split(values.cpu().numpy(), ends[:-1], axis=-1)


def _count(indices: Tensor, bins: int) -> Tensor:
    """(bins,) int64: how often each of 0..bins-1 occurs; unlike bincount it never waits for the device."""
    counts = torch.zeros(bins, dtype=torch.int64, device=indices.device)
    return counts.scatter_add_(0, indices, torch.ones_like(indices))


def _to_device(array: NDArray[np.integer], like: Tensor) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(like.device, non_blocking=True)
