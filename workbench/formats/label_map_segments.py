"""Any label map to segments, by the very rule that makes training targets (`eomt.label_maps`)."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eomt.label_maps import read_label_map
from workbench.formats.rows import Box
from workbench.label_map_rle import LabelMapRle, encode_runs, label_runs
from workbench.segments import VOID_CATEGORY_ID, VOID_SEGMENT_ID

_NO_CATEGORY = -1


@dataclass(frozen=True)
class MapSegment:
    """One id of a label map."""

    source_id: int
    category_id: int
    area: int
    bbox: Box
    counts: bytes


@dataclass(frozen=True)
class MapSegments:
    """What a label map holds."""

    segments: list[MapSegment]
    """Ascending by `source_id`; without the void and the unknown ids."""
    void: MapSegment | None
    """The unlabelled pixels together, where there are any."""
    unknown: list[int]
    """Ids that are neither void nor known, ascending."""


def read_map_segments(
    label_map: NDArray[np.integer],
    category_of: Callable[[int], int | None],
    void: Collection[int],
    unknown_is_void: bool = False,
) -> MapSegments:
    """The segments of a label map of shape (height, width).

    `category_of` gives an id's category, None for an unknown one; `void` are the ids that mean unlabelled. Pixels of
    unknown ids are void where `unknown_is_void`, and otherwise in no segment and not void.
    """
    runs = label_runs(label_map)
    ids = runs.ids.tolist()
    categories = [None if i in void else category_of(i) for i in ids]
    known = [position for position, category in enumerate(categories) if category is not None]
    unknown = [i for i, category in zip(ids, categories, strict=True) if category is None and i not in void]
    ranks = np.zeros(len(ids), dtype=np.int64)  # 0 is void, 1..n the known ids, n + 1 the unknown ones
    ranks[known] = np.arange(1, len(known) + 1)
    if not unknown_is_void:
        ranks[np.isin(runs.ids, unknown)] = len(known) + 1
    # The rule takes one off every rank, so n + 1 is free: no segment can vanish with the void (see `eomt.label_maps`).
    ignore_index = len(known) + 1
    semantic = dict(enumerate((category for category in categories if category is not None), start=1))
    semantic[len(known) + 1] = _NO_CATEGORY
    # The rule looks at each pixel alone, so one value for each run of equal pixels stands for them all.
    read = read_label_map(ranks[runs.owners][np.newaxis], semantic, ignore_index)
    encoded = encode_runs(runs.relabelled(read.values[0]))
    class_of = dict(zip(read.ids.tolist(), (read.class_labels + 1).tolist(), strict=True))
    segments = [
        _segment(encoded, row, ids[known[value]], class_of[value])
        for row, value in enumerate(encoded.ids.tolist())
        if value < len(known)
    ]
    has_void = encoded.ids[-1] == ignore_index
    return MapSegments(
        segments, _segment(encoded, -1, VOID_SEGMENT_ID, VOID_CATEGORY_ID) if has_void else None, unknown
    )


def _segment(encoded: LabelMapRle, row: int, source_id: int, category_id: int) -> MapSegment:
    x, y, width, height = encoded.bboxes[row].tolist()
    return MapSegment(source_id, category_id, int(encoded.areas[row]), (x, y, width, height), encoded.counts[row])
