"""The model's outputs as predictions of the task: which post-processing, with which options."""

from collections.abc import Mapping, Sequence

import numpy as np

from eomt.candidates import PanopticCandidates, panoptic_candidates
from eomt.outputs import EomtForUniversalSegmentationOutput
from eomt.post_processing import InstanceMasks, panoptic_segments, top_k_instances
from eomt.semantic import semantic_maps
from workbench.formats.base import Category
from workbench.prediction.encode import PredictedMap, PredictedMasks, Prediction
from workbench.prediction.options import TaskOptions


def segments(
    outputs: EomtForUniversalSegmentationOutput,
    sizes_hw: Sequence[tuple[int, int]],
    size: int | Mapping[str, int | None],
    options: TaskOptions,
    categories: Sequence[Category],
) -> list[Prediction]:
    """The prediction of each image, on the host.

    `sizes_hw` are the images' own sizes, `size` the processor's, `categories` those of the outputs' classes. Panoptic
    segments of one class of stuff become one segment. A semantic map is one segment a class, without a score.
    """
    match options.task:
        case "panoptic":
            maps = panoptic_segments(
                outputs,
                sizes_hw,
                size,
                threshold=options.threshold,
                mask_threshold=options.mask_threshold,
                overlap_mask_area_threshold=options.overlap_threshold,
                stuff_classes={index for index, category in enumerate(categories) if not category.isthing},
            )
            kept = _candidates(outputs, sizes_hw, size, options)
            return [
                PredictedMap(m.segment_map.cpu().numpy(), m.class_index, m.scores, candidates)
                for m, candidates in zip(maps, kept, strict=True)
            ]
        case "instance":
            candidates = top_k_instances(outputs, sizes_hw, size, k=options.top_k)
            return [_at_least(options.threshold, found) for found in candidates]
        case "semantic":
            every_class = np.arange(len(categories))
            return [PredictedMap(m.cpu().numpy(), every_class, None) for m in semantic_maps(outputs, sizes_hw, size)]


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
