"""Instance and semantic tables derived from panoptic ones: things alone, and segments merged by category."""

from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pycocotools.mask as coco_mask

from workbench.segments import VOID_SEGMENT_ID, concat, segment_table

Derivation = Callable[[pa.Table], pa.Table]


def things_of(panoptic: pa.Table) -> pa.Table:
    """The rows of things, crowds too, numbered anew within each image; no void. Other columns stay."""
    things = panoptic.filter(panoptic["isthing"])
    images = things["image_id"].combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False)
    segment_ids, ordinals = things["segment_id"].to_numpy(), things["ordinal"].to_numpy()
    for column, ranks in (("segment_id", _ranks(images, segment_ids) + 1), ("ordinal", _ranks(images, ordinals))):
        position = things.schema.get_field_index(column)
        things = things.set_column(position, things.schema.field(position), pa.array(ranks, pa.int32()))
    return things


def merged_by_category(panoptic: pa.Table) -> pa.Table:
    """One row for each category of an image, ascending, and the void rows as they are.

    `segment_id` counts the categories of the image from 1, `source_id` is the category id. Crowds count as their
    category. Segments without a pixel vanish.
    """
    painted = panoptic.filter(pc.greater(panoptic["area"], 0))
    return concat([_merge_image(image) for image in _images(painted)])


def _ranks(groups: np.ndarray, values: np.ndarray) -> np.ndarray:
    """0-based rank of each value within its group."""
    order = np.lexsort((values, groups))
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    ranks = np.empty(len(groups), dtype=np.int64)
    ranks[order] = np.arange(len(groups)) - np.repeat(starts, np.diff(np.append(starts, len(groups))))
    return ranks


def _images(table: pa.Table) -> Iterator[pa.Table]:
    """The rows of each image in turn; they lie together."""
    codes = table["image_id"].combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False)
    starts = np.flatnonzero(np.diff(codes, prepend=-1))
    for start, end in zip(starts, np.append(starts, len(codes))[1:], strict=True):
        yield table.slice(start, end - start)


def _merge_image(image: pa.Table) -> pa.Table:
    rows = image.filter(pc.not_equal(image["segment_id"], VOID_SEGMENT_ID)).to_pylist()
    categories = sorted({row["category_id"] for row in rows})
    void = image.filter(pc.equal(image["segment_id"], VOID_SEGMENT_ID))
    if not categories:
        return void
    size = [rows[0]["height"], rows[0]["width"]]
    of_category = {category: [row for row in rows if row["category_id"] == category] for category in categories}
    merged = [coco_mask.merge([{"size": size, "counts": row["counts"]} for row in of_category[c]]) for c in categories]
    count = len(categories)
    table = segment_table(
        {
            "image_id": [rows[0]["image_id"]] * count,
            "segment_id": np.arange(1, count + 1),
            "ordinal": np.arange(count),
            "category_id": categories,
            "isthing": [of_category[category][0]["isthing"] for category in categories],
            "iscrowd": [False] * count,
            "area": [sum(row["area"] for row in of_category[category]) for category in categories],
            "bbox": coco_mask.toBbox(merged),
            "height": [size[0]] * count,
            "width": [size[1]] * count,
            "counts": [rle["counts"] for rle in merged],
            "source_id": categories,
        }
    )
    position = void.schema.get_field_index("ordinal")
    void = void.set_column(position, void.schema.field(position), pa.array([count] * len(void), pa.int32()))
    return concat([table, void])
