"""Panoptic and instance segments of a whole batch on its device: what `post_processing` does where that is no CPU.

The host waits twice a batch, whatever the number of images and segments: for the number of queries that count in each
image, and for the result. Images of one size are worked on together, as many as a bounded memory allows; each is filled
up to the most queries among them. Nothing of an image depends on what shares its batch: pixels are counted in whole
numbers, by comparison and without atomic additions, and sums of mask probabilities are exact (`_mean_inside`). So a run
gives the same bits again, and when it is resumed in the middle of a batch.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eomt.frames import SegmentationOutputs, TargetSizes, frames, logits_of
from eomt.host_copies import HostCopies
from eomt.packed_masks import pack, unpack
from eomt.query_groups import ChosenQueries, QueryGroup
from eomt.resizing import Size
from eomt.segment_results import VOID, InstanceMasks, SegmentMap, ranked


def panoptic(
    outputs: SegmentationOutputs,
    target_sizes: TargetSizes,
    size: Size,
    copies: HostCopies,
    *,
    threshold: float = 0.8,
    mask_threshold: float = 0.5,
    overlap_mask_area_threshold: float = 0.8,
    stuff_classes: Collection[int] | None = None,
    maps_to_host: bool = False,
) -> list[SegmentMap]:
    """As `post_processing.panoptic_segments`; with `maps_to_host` maps are int8 or int16, as few bits as do."""
    mask_logits, class_logits = logits_of(outputs)
    image_frames = frames(target_sizes, size, len(mask_logits))
    null = class_logits.shape[-1] - 1
    scores, classes = class_logits.float().softmax(-1).max(-1)  # (B, Q)
    chosen = ChosenQueries(mask_logits, classes.ne(null) & (scores > threshold), image_frames, copies)
    is_stuff = np.isin(np.arange(null + 1), list(stuff_classes or ()))
    stuff = copies.upload(is_stuff, mask_logits.device)[classes]  # (B, Q)
    done = []
    for group in chosen.groups:
        valid, weights = chosen.valid(group), chosen.of(scores, group)
        winner, owned, areas = _contest(chosen.masks(group), weights, valid, group, mask_threshold)
        lives = valid & _survives(areas, overlap_mask_area_threshold)
        kind = chosen.of(classes, group)
        segment_of, first = _merged(lives, kind, chosen.of(stuff, group))
        done.append(_Painted(group, _relabelled(winner, owned, segment_of), _table(first, kind, weights)))
    return _segment_maps(done, copies, maps_to_host)


def instance(
    outputs: SegmentationOutputs,
    target_sizes: TargetSizes,
    size: Size,
    copies: HostCopies,
    *,
    threshold: float = 0.8,
    maps_to_host: bool = False,
) -> list[SegmentMap]:
    """As `post_processing.instance_segments`; with `maps_to_host` maps are int8 or int16, as few bits as do."""
    mask_logits, class_logits = logits_of(outputs)
    image_frames = frames(target_sizes, size, len(mask_logits))
    scores, classes = class_logits.float().softmax(-1)[..., :-1].max(-1)  # (B, Q)
    chosen = ChosenQueries(mask_logits, scores.double() >= threshold, image_frames, copies)
    done = []
    for group in chosen.groups:
        masks, valid, final = chosen.masks(group), chosen.valid(group), chosen.of(scores, group)
        top = None
        for part in group.parts():
            logits = group.upsampled(masks, part)
            inside = logits > 0
            area, mean = _mean_inside(logits, inside)
            final[:, part] *= mean
            valid[:, part] &= (area > 0) & (final[:, part].double() >= threshold)
            number = torch.arange(part.start, part.stop, device=masks.device, dtype=torch.int32)
            inside &= valid[:, part, None, None]
            last = torch.where(inside, number[:, None, None], VOID).amax(1)  # (G, H, W)
            top = last if top is None else torch.maximum(top, last)
        assert top is not None
        segment_of = torch.where(valid, valid.cumsum(1) - 1, VOID)
        maps = _relabelled(top.clamp(min=0), top >= 0, segment_of)
        done.append(_Painted(group, maps, _table(valid, chosen.of(classes, group), final)))
    return _segment_maps(done, copies, maps_to_host)


def top_k(
    outputs: SegmentationOutputs,
    target_sizes: TargetSizes,
    size: Size,
    copies: HostCopies,
    *,
    k: int = 100,
    masks_to_host: bool = False,
) -> list[InstanceMasks]:
    """As `post_processing.top_k_instances`; masks travel to the host as one bit a pixel."""
    mask_logits, class_logits = logits_of(outputs)
    image_frames = frames(target_sizes, size, len(mask_logits))
    class_scores = class_logits.float().softmax(-1)[..., :-1]  # (B, Q, K)
    classes = class_scores.shape[-1]
    best, pairs = (each[:, :k] for each in class_scores.flatten(1).sort(dim=1, descending=True, stable=True))
    used = torch.zeros_like(class_logits[..., 0], dtype=torch.bool).scatter_(1, pairs // classes, True)
    chosen = ChosenQueries(mask_logits, used, image_frames, copies)
    measured = [_measured(chosen, group, masks_to_host) for group in chosen.groups]
    sent = [masks for masks, _ in measured] if masks_to_host else []
    host_best, host_pairs, *arrays = copies.fetch([best, pairs, *(means for _, means in measured), *sent])

    results: dict[int, InstanceMasks] = {}
    for number, (group, (masks, _)) in enumerate(zip(chosen.groups, measured, strict=True)):
        for row, i in enumerate(group.images):
            queries = np.unique(host_pairs[i] // classes)
            means = arrays[number][row, : len(queries)]
            if masks_to_host:
                packed = arrays[len(measured) + number][row, np.flatnonzero(means > 0)]
                filled = torch.from_numpy(unpack(packed, group.frame.target))
            else:
                filled = masks[row].index_select(0, copies.upload(np.flatnonzero(means > 0), masks.device))
            index = np.searchsorted(queries, host_pairs[i] // classes)
            results[i] = ranked(filled, means, index, host_pairs[i] % classes, host_best[i])
    return [results[i] for i in range(len(image_frames))]


def _contest(
    masks: Tensor, scores: Tensor, valid: Tensor, group: QueryGroup, mask_threshold: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Who wins each pixel, (G, H, W) 0..n-1; whether its own mask covers it; areas (3, G, n): won, own mask, both."""
    weights = torch.where(valid, scores, -1.0)  # what fills up wins nothing
    best = winner = owned = None
    mask_areas = []
    for part in group.parts():
        probabilities = group.upsampled(masks, part).sigmoid_()
        inside = probabilities >= mask_threshold
        inside &= valid[:, part, None, None]
        mask_areas.append(inside.sum((2, 3)))
        value, first = probabilities.mul_(weights[:, part, None, None]).max(1)  # the first of equals
        own = inside.gather(1, first[:, None])[:, 0]
        if best is None or winner is None or owned is None:
            best, winner, owned = value, first, own
            continue
        better = value > best  # strictly: an earlier part keeps a tie
        best = torch.where(better, value, best)
        winner = torch.where(better, first + part.start, winner)
        owned = torch.where(better, own, owned)
    assert winner is not None and owned is not None
    won, both = _wins(winner, owned, group)
    return winner, owned, torch.stack([won, torch.cat(mask_areas, 1), both])


def _wins(winner: Tensor, owned: Tensor, group: QueryGroup) -> tuple[Tensor, Tensor]:
    """(G, n) int64 each: the pixels that a query won, and those of them that its mask covers."""
    won, both = [], []
    for part in group.parts():
        numbers = torch.arange(part.start, part.stop, device=winner.device)
        mine = winner[:, None] == numbers[:, None, None]  # (G, m, H, W)
        won.append(mine.sum((2, 3)))
        both.append(mine.logical_and_(owned[:, None]).sum((2, 3)))
    return torch.cat(won, 1), torch.cat(both, 1)


def _survives(areas: Tensor, overlap_threshold: float) -> Tensor:
    """(G, n) bool; the ratio of areas is rounded to float32 and compared in float64, as the reference does."""
    won, mask, both = areas
    ratio = won.float() / mask.clamp(min=1).float()
    survives: Tensor = (won > 0) & (mask > 0) & (both > 0) & (ratio.double() > overlap_threshold)
    return survives


def _merged(lives: Tensor, classes: Tensor, stuff: Tensor) -> tuple[Tensor, Tensor]:
    """The segment of each query, (G, n) or -1, and whether it is its segment's first, (G, n) bool."""
    number = torch.arange(lives.shape[1], device=lives.device)
    merges = lives & stuff
    alike = merges[:, None, :] & (classes[:, :, None] == classes[:, None, :])  # (G, n, n): of a query, its likes
    first_alike = torch.where(alike, number, lives.shape[1]).amin(2)
    root = torch.where(merges, first_alike, number)  # (G, n)
    first = lives & (root == number)
    segment = first.cumsum(1) - 1
    return torch.where(lives, segment.gather(1, root), VOID), first


def _relabelled(winner: Tensor, owned: Tensor, segment_of: Tensor) -> Tensor:
    """(G, H, W) int8 or int16: the winner's entry of `segment_of` (G, n), -1 where it does not own the pixel."""
    small = torch.int8 if segment_of.shape[1] <= 128 else torch.int16
    labels = segment_of.to(small).gather(1, winner.flatten(1).long()).view_as(winner)
    return torch.where(owned, labels, VOID)


def _mean_inside(logits: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
    """(G, m) each: a mask's pixels, and the mean of its probabilities, which takes the place of the logits.

    A float32 from 0.5 to 1 is a multiple of 2^-24, so that a sum of fewer than 2^29 of them is exact in float64: it
    does not depend on the order in which a device adds.
    """
    area = inside.sum((2, 3))
    total = logits.sigmoid_().mul_(inside).sum((2, 3), dtype=torch.float64)
    return area, (total / (area + 1e-6)).float()


def _measured(chosen: ChosenQueries, group: QueryGroup, packed: bool) -> tuple[Tensor, Tensor]:
    """Binary masks (G, n, H, W), or what `pack` makes of them, and mean probabilities (G, n), 0 for an empty mask."""
    masks = chosen.masks(group)
    binary, means = [], []
    for part in group.parts():
        logits = group.upsampled(masks, part)
        inside = logits > 0
        means.append(_mean_inside(logits, inside)[1])
        binary.append(pack(inside) if packed else inside)
    return torch.cat(binary, 1), torch.cat(means, 1)


@dataclass(frozen=True)
class _Painted:
    """The maps of a group and what is known of its queries."""

    group: QueryGroup
    maps: Tensor
    """(G, H, W) int8 or int16."""
    table: Tensor
    """(3, G, n) float64, which holds each of them exactly: whether a query begins a segment, its class, its score."""


def _table(first: Tensor, classes: Tensor, scores: Tensor) -> Tensor:
    return torch.stack([first.double(), classes.double(), scores.double()])


def _segment_maps(done: list[_Painted], copies: HostCopies, to_host: bool) -> list[SegmentMap]:
    """In the order of the images, after one wait."""
    arrays = copies.fetch([painted.table for painted in done] + [painted.maps for painted in done if to_host])
    results: dict[int, SegmentMap] = {}
    for number, painted in enumerate(done):
        maps = torch.from_numpy(arrays[len(done) + number]) if to_host else painted.maps.int()
        for row, image in enumerate(painted.group.images):
            results[image] = _segment_map(maps[row], arrays[number][:, row])
    return [results[image] for image in range(len(results))]


def _segment_map(segment_map: Tensor, table: NDArray[np.float64]) -> SegmentMap:
    first = table[0] > 0
    return SegmentMap(segment_map, table[1, first].astype(np.int64), table[2, first].astype(np.float32))
