"""Small runs of several shards, written without a model: some segments an image, a failed image at the end."""

from pathlib import Path
from typing import Any

import numpy as np

from workbench import rle, runs
from workbench.catalog.definitions import DatasetDefinition
from workbench.formats.base import Category
from workbench.runs import Run
from workbench.segments import image_table, segment_table

CATEGORIES = (Category(1, "person", True, (220, 20, 60)), Category(119, "sky", False, (70, 130, 180)))
_SIZE_HW = (6, 5)


def sharded_run(folder: Path, shards: int = 3, images_per_shard: int = 4, segments: int = 2, **identity: Any) -> Run:
    """A complete panoptic run at `folder` of dataset "tiny": images "0", "1", ..., the last of which failed."""
    definition = DatasetDefinition("tiny", folder / "tiny.toml", "coco", folder)
    manifest = runs.new_manifest("predict", definition, "panoptic", CATEGORIES, {"threshold": 0.8, **identity}, {})
    run = runs.create_or_resume(folder, manifest)
    writer = runs.writer(run)
    last = shards * images_per_shard - 1
    for shard in range(shards):
        ids = list(range(shard * images_per_shard, (shard + 1) * images_per_shard))
        writer.commit(_segments([i for i in ids if i != last], segments), _images(ids, failed=last))
    return run.completed()


def _images(ids: list[int], failed: int) -> Any:
    return image_table(
        {
            "image_id": [str(i) for i in ids],
            "file_name": [f"{i:04d}.jpg" for i in ids],
            "height": [None if i == failed else _SIZE_HW[0] for i in ids],
            "width": [None if i == failed else _SIZE_HW[1] for i in ids],
            "ordinal": ids,
            "status": ["failed" if i == failed else "ok" for i in ids],
            "error": ["cannot be decoded" if i == failed else None for i in ids],
        }
    )


def _segments(ids: list[int], each: int) -> Any:
    rows = len(ids) * each
    generator = np.random.default_rng(ids[0] if ids else 0)
    masks = generator.random((rows, *_SIZE_HW)) < 0.5
    return segment_table(
        {
            "image_id": [str(i) for i in ids for _ in range(each)],
            "segment_id": list(range(1, each + 1)) * len(ids),
            "ordinal": list(range(each)) * len(ids),
            "category_id": generator.choice([1, 119], rows),
            "isthing": [True] * rows,
            "iscrowd": [False] * rows,
            "score": generator.random(rows),
            "area": masks.sum((1, 2)),
            "bbox": generator.random((rows, 4)),
            "height": [_SIZE_HW[0]] * rows,
            "width": [_SIZE_HW[1]] * rows,
            "counts": [rle.encode(mask) for mask in masks],
        }
    )


def one_image_each(numbers: range) -> tuple[Any, Any]:
    """The segments, one an image, and the images of a shard, which has none that failed."""
    return _segments(list(numbers), 1), _images(list(numbers), failed=-1)
