"""What was done to an image's semantic map: each class's pixels against those that were pushed.

FiftyOne's App cannot edit maps, but its Python interface and the annotation tools behind `dataset.annotate` can.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench import rle
from workbench.voxel51 import documents, shapes
from workbench.voxel51.documents import Document
from workbench.voxel51.edits import ADDED, KEPT, MOVED, Label, Problem

Compared = tuple[list[Label], list[Mapping[str, Any]], list[Problem]]


def compare(
    stored: Document | None,
    rows: Sequence[Mapping[str, Any]],
    size_hw: tuple[int, int],
    category_ids: Sequence[int],
    image_id: str,
) -> Compared:
    """An image's classes as labels, the rows of classes that are gone, and what is wrong with the map.

    `stored` is a `Segmentation` document, `rows` are the segments that it was made from, one a class; value v of the
    map stands for `category_ids[v - 1]`. Value 0 and the void value are unlabelled.
    """
    label_map = None if stored is None else shapes.array(stored)
    if label_map is None:
        return [], [], [Problem("no_mask", image_id, "its sample has no map")]
    if label_map.shape != size_hw:
        detail = f"its map is {' x '.join(map(str, label_map.shape))}, the image {size_hw[0]} x {size_hw[1]}"
        return [], [], [Problem("map_size", image_id, f"{detail} (height x width)")]
    values = np.unique(label_map).tolist()
    void = documents.void_value(len(category_ids))
    known = {*range(len(category_ids) + 1), void}
    unknown = [value for value in values if value not in known]  # a map of floats may hold halves
    if unknown:
        return (
            [],
            [],
            [Problem("unknown_class", image_id, f"its map holds {unknown[:5]}, not a class nor void")],
        )
    present = {category_ids[int(value) - 1]: value for value in values if value not in (0, void)}
    return _labels(label_map, present, rows)


def _labels(label_map: NDArray[np.generic], present: Mapping[int, int], rows: Sequence[Mapping[str, Any]]) -> Compared:
    labels, deleted = [], []
    for row in rows:
        category_id = row["category_id"]
        if category_id not in present:
            deleted.append(row)
            continue
        counts = rle.encode(np.asarray(label_map == present[category_id]))
        labels.append(Label(category_id, False, counts, (KEPT if counts == row["counts"] else MOVED,), row))
    before = {row["category_id"] for row in rows}
    for category_id, value in present.items():
        if category_id not in before:
            labels.append(Label(category_id, False, rle.encode(np.asarray(label_map == value)), (ADDED,), None))
    return labels, deleted, []
