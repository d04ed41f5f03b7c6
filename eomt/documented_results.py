"""The three `post_process_*` methods as documented: dictionaries with "segmentation" and "segments_info"."""

from collections.abc import Collection
from typing import Any

import torch

from eomt.batch_feature import BatchFeature
from eomt.frames import SegmentationOutputs, TargetSizes
from eomt.post_processing import SegmentMap, instance_segments, panoptic_segments
from eomt.resizing import Size
from eomt.semantic import semantic_maps, semantic_scores


class DocumentedResults:
    """Post-processing methods for an image processor, over the functions of `post_processing` and `semantic`.

    `outputs` is the model's; `target_sizes` gives each image's own (height, width); `size` is what the images were
    resized to and defaults to the processor's.
    """

    size: Size

    def post_process_semantic_segmentation(
        self,
        outputs: SegmentationOutputs,
        target_sizes: TargetSizes,
        size: Size | None = None,
        return_segmentation_scores: bool = False,
    ) -> list[Any]:
        """The class index of each pixel, one int64 tensor (height, width) an image.

        With `return_segmentation_scores` each is a dictionary: that map as "segmentation", and "segmentation_scores",
        float32 (classes, height, width).
        """
        if not return_segmentation_scores:
            return semantic_maps(outputs, target_sizes, size or self.size)
        scores = semantic_scores(outputs, target_sizes, size or self.size)
        return [BatchFeature(segmentation=item.argmax(0), segmentation_scores=item) for item in scores]

    def post_process_panoptic_segmentation(
        self,
        outputs: SegmentationOutputs,
        target_sizes: TargetSizes,
        threshold: float = 0.8,
        mask_threshold: float = 0.5,
        overlap_mask_area_threshold: float = 0.8,
        stuff_classes: Collection[int] | None = None,
        size: Size | None = None,
    ) -> list[dict[str, Any]]:
        """Non-overlapping segments, a dictionary an image.

        "segmentation" is an int64 tensor (height, width) of segment ids, -1 for void; "segments_info" a list of
        {"id", "label_id", "score"}, ids from 0, scores rounded to six digits. The thresholds and `stuff_classes` are
        those of `panoptic_segments`: without `stuff_classes` nothing is merged, which costs PQ.
        """
        results = panoptic_segments(
            outputs,
            target_sizes,
            size or self.size,
            threshold=threshold,
            mask_threshold=mask_threshold,
            overlap_mask_area_threshold=overlap_mask_area_threshold,
            stuff_classes=stuff_classes,
        )
        return [_dictionary(result, torch.int64) for result in results]

    def post_process_instance_segmentation(
        self,
        outputs: SegmentationOutputs,
        target_sizes: TargetSizes,
        threshold: float = 0.8,
        size: Size | None = None,
    ) -> list[dict[str, Any]]:
        """Instances, one class a query, later ones painted over earlier ones; a dictionary an image as for panoptic.

        "segmentation" is float32 here, as in transformers. For AP use `post_processing.top_k_instances`.
        """
        results = instance_segments(outputs, target_sizes, size or self.size, threshold=threshold)
        return [_dictionary(result, torch.float32) for result in results]


def _dictionary(result: SegmentMap, dtype: torch.dtype) -> dict[str, Any]:
    segments = [
        {"id": i, "label_id": int(class_index), "score": round(float(score), 6)}
        for i, (class_index, score) in enumerate(zip(result.class_index, result.scores, strict=True))
    ]
    return {"segmentation": result.segment_map.to(dtype), "segments_info": segments}
