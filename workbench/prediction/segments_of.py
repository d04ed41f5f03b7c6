"""The model's outputs as predictions of the task: which post-processing, with which options."""

from collections.abc import Mapping, Sequence

import numpy as np

from eomt import batched_segments
from eomt.candidates import PanopticCandidates, panoptic_candidates
from eomt.host_copies import HostCopies
from eomt.outputs import EomtForUniversalSegmentationOutput
from eomt.post_processing import InstanceMasks, SegmentMap, panoptic_segments, top_k_instances
from eomt.semantic import semantic_maps, semantic_maps_on_host
from workbench.formats.base import Category
from workbench.prediction.encode import PredictedMap, PredictedMasks, Prediction
from workbench.prediction.options import TaskOptions


def segments(
    outputs: EomtForUniversalSegmentationOutput,
    sizes_hw: Sequence[tuple[int, int]],
    size: int | Mapping[str, int | None],
    options: TaskOptions,
    categories: Sequence[Category],
    copies: HostCopies | None = None,
) -> list[Prediction]:
    """The prediction of each image, on the host.

    With `copies` a batch is worked on as a whole, as is best for a GPU, and brought to the host by them.
    `sizes_hw` are the images' own sizes, `size` the processor's, `categories` those of the outputs' classes. Panoptic
    segments of one class of stuff become one segment. A semantic map is one segment a class, without a score.
    """
    match options.task:
        case "panoptic":
            stuff = {index for index, category in enumerate(categories) if not category.isthing}
            maps = _panoptic(outputs, sizes_hw, size, options, stuff, copies)
            kept = _candidates(outputs, sizes_hw, size, options)
            return [
                PredictedMap(m.segment_map.cpu().numpy(), m.class_index, m.scores, candidates)
                for m, candidates in zip(maps, kept, strict=True)
            ]
        case "instance":
            if copies is None:
                found = top_k_instances(outputs, sizes_hw, size, k=options.top_k)
            else:
                found = batched_segments.top_k(outputs, sizes_hw, size, copies, k=options.top_k, masks_to_host=True)
            return [_at_least(options.threshold, each) for each in found]
        case "semantic":
            every_class = np.arange(len(categories))
            if copies is None:
                class_maps = [m.cpu() for m in semantic_maps(outputs, sizes_hw, size)]
            else:
                class_maps = semantic_maps_on_host(outputs, sizes_hw, size, copies)
            return [PredictedMap(m.numpy(), every_class, None) for m in class_maps]


def _panoptic(
    outputs: EomtForUniversalSegmentationOutput,
    sizes_hw: Sequence[tuple[int, int]],
    size: int | Mapping[str, int | None],
    options: TaskOptions,
    stuff: set[int],
    copies: HostCopies | None,
) -> list[SegmentMap]:
    chosen = {
        "threshold": options.threshold,
        "mask_threshold": options.mask_threshold,
        "overlap_mask_area_threshold": options.overlap_threshold,
    }
    if copies is None:
        return panoptic_segments(outputs, sizes_hw, size, stuff_classes=stuff, **chosen)
    return batched_segments.panoptic(outputs, sizes_hw, size, copies, stuff_classes=stuff, maps_to_host=True, **chosen)


def _candidates(
    outputs: EomtForUniversalSegmentationOutput,
    sizes_hw: Sequence[tuple[int, int]],
    size: int | Mapping[str, int | None],
    options: TaskOptions,
) -> Sequence[PanopticCandidates | None]:
    if options.candidate_floor is None:
        return [None] * len(sizes_hw)
    return panoptic_candidates(
        outputs, sizes_hw, size, floor=options.candidate_floor, mask_threshold=options.mask_threshold
    )


def _at_least(threshold: float, found: InstanceMasks) -> PredictedMasks:
    kept = found.scores >= threshold
    return PredictedMasks(
        found.masks.cpu().numpy(), found.mask_index[kept], found.class_index[kept], found.scores[kept]
    )
