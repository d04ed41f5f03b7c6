"""The peer of `workbench bench predict`: transformers' documented pipeline, image files in, a Parquet file out.

Pillow decodes, transformers' processor prepares, its model predicts, its post-processing makes segments, pycocotools
encodes each mask, pyarrow writes. One image after the other, or batches, as a script for it would be written.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pycocotools.mask as coco_mask
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from workbench.bench.post_processing import original_top_k
from workbench.formats.base import Category, Task

Found = tuple[NDArray[np.bool_], int, float | None]
"""A mask (height, width), the index of its class and its score."""


class DocumentedPipeline:
    """A model of transformers and its image processor, for one task.

    Instances are the original evaluation's 100 candidates, of which transformers has none: its documented method gives
    each query one class and cannot be used for AP.
    """

    def __init__(
        self, model: nn.Module, processor: Any, task: Task, categories: Sequence[Category], device: torch.device
    ) -> None:
        self._model, self._processor, self._task, self._categories = model, processor, task, categories
        self._device = device
        self._dtype = next(model.parameters()).dtype
        self._stuff = [index for index, category in enumerate(categories) if not category.isthing]

    def run(self, paths: Sequence[Path], batch_size: int, out: Path) -> None:
        """Segment the images and write their rows: image (its file's stem), category_id, score, size and counts."""
        rows: list[dict[str, Any]] = []
        for start in range(0, len(paths), batch_size):
            batch = paths[start : start + batch_size]
            images = [Image.open(path).convert("RGB") for path in batch]
            for path, found in zip(batch, self._segmented(images), strict=True):
                rows += [self._row(path, *each) for each in found]
        pq.write_table(pa.Table.from_pylist(rows), out)

    @torch.no_grad()
    def _segmented(self, images: Sequence[Image.Image]) -> Iterator[Iterator[Found]]:
        inputs = self._processor(images=list(images), return_tensors="pt")
        pixels = inputs["pixel_values"].to(self._device, self._dtype)
        outputs = self._model(pixel_values=pixels, patch_offsets=inputs.get("patch_offsets"))
        sizes = [(image.height, image.width) for image in images]
        if self._task == "instance":
            return (self._candidates(outputs, i, size) for i, size in enumerate(sizes))
        if self._task == "semantic":
            maps = self._processor.post_process_semantic_segmentation(outputs, sizes)
            return (_classes(each.cpu().numpy()) for each in maps)
        results = self._processor.post_process_panoptic_segmentation(outputs, sizes, stuff_classes=self._stuff)
        return (_segments(result) for result in results)

    def _candidates(self, outputs: Any, row: int, size: tuple[int, int]) -> Iterator[Found]:
        masks, classes, scores = original_top_k(_Row(outputs, row), size, dict(self._processor.size))
        for mask, class_index, score in zip(masks.cpu().numpy(), classes.tolist(), scores.tolist(), strict=True):
            if mask.any():
                yield mask, class_index, score

    def _row(self, path: Path, mask: NDArray[np.bool_], class_index: int, score: float | None) -> dict[str, Any]:
        rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
        height, width = rle["size"]
        return {
            "image_id": path.stem,
            "category_id": self._categories[class_index].category_id,
            "score": score,
            "area": int(coco_mask.area(rle)),
            "bbox": coco_mask.toBbox(rle).tolist(),
            "height": height,
            "width": width,
            "counts": rle["counts"],
        }


class _Row:
    """The outputs of one image of a batch, in float32."""

    def __init__(self, outputs: Any, row: int) -> None:
        self.masks_queries_logits = outputs.masks_queries_logits[row : row + 1].float()
        self.class_queries_logits = outputs.class_queries_logits[row : row + 1].float()


def _segments(result: dict[str, Any]) -> Iterator[Found]:
    segment_map = result["segmentation"].cpu().numpy()
    for info in result["segments_info"]:
        yield segment_map == info["id"], info["label_id"], info["score"]


def _classes(class_map: NDArray[np.int64]) -> Iterator[Found]:
    for index in np.unique(class_map).tolist():
        yield class_map == index, index, None
