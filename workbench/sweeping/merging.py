"""Which candidates of a contest become segments at an overlap threshold: the last step of the panoptic post-processing.

The same rule as in `eomt.post_processing`, for many images at a time and without torch.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from workbench.evaluation.columns import Segments
from workbench.evaluation.overlaps import Overlaps
from workbench.sweeping.contests import Candidates, Contest


@dataclass(frozen=True)
class Merged:
    """The segments of some images, s of them, by image and by the query that each came from first."""

    segment: NDArray[np.int64]
    """(k,), the segment that each kept candidate belongs to, -1 for none."""
    heads: NDArray[np.int64]
    """(s,), which of the kept candidates gives the segment its class and score."""


def merge(candidates: Candidates, contest: Contest, overlap_threshold: float) -> Merged:
    """A candidate survives that owns pixels, and won more than that share of its mask; stuff of one class is one.

    The ratio is rounded to float32 and compared in float64, as the reference's.
    """
    rows = candidates.rows
    mask = rows.area[contest.kept]
    ratio = contest.won.astype(np.float32) / np.maximum(mask, 1).astype(np.float32)
    survives = (contest.owned > 0) & (ratio.astype(np.float64) > overlap_threshold)
    alive = np.flatnonzero(survives)
    in_rows = contest.kept[alive]
    order = np.lexsort((candidates.query[in_rows], rows.image[in_rows]))
    alive, in_rows = alive[order], in_rows[order]
    segment = np.full(len(contest.kept), -1, dtype=np.int64)
    first = _first_of_class(rows.image[in_rows], rows.category_id[in_rows], ~candidates.isthing[in_rows])
    heads = first == np.arange(len(first))
    segment[alive] = (np.cumsum(heads) - 1)[first]
    return Merged(segment, alive[heads])


def _first_of_class(
    image: NDArray[np.int64], category: NDArray[np.int32], isstuff: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """For each row the first one of its image and class if it is stuff, else itself."""
    first = np.arange(len(image))
    stuff = np.flatnonzero(isstuff)
    if len(stuff):
        key = image[stuff] * (int(category.max()) + 1) + category[stuff]
        _, at, inverse = np.unique(key, return_index=True, return_inverse=True)
        first[stuff] = stuff[at][inverse]
    return first


def as_segments(candidates: Candidates, contest: Contest, merged: Merged) -> Segments:
    """The segments as evaluation takes predictions, but for boxes and masks: their rows hold those of the candidate."""
    heads = candidates.rows.take(contest.kept[merged.heads])
    inside = merged.segment >= 0
    area = np.zeros(len(heads), dtype=np.int64)
    np.add.at(area, merged.segment[inside], contest.owned[inside])
    rank = np.arange(len(heads)) - np.searchsorted(heads.image, heads.image)
    return replace(
        heads,
        segment_id=rank.astype(np.int32) + 1,
        ordinal=rank.astype(np.int32),
        area=area,
        declared_area=area.astype(np.float64),
    )


def overlaps_of(contest: Contest, merged: Merged) -> Overlaps:
    """The intersections of the ground truth with those segments."""
    segment = merged.segment[contest.members]
    pairs = np.flatnonzero(segment >= 0)
    key = contest.gt_rows[pairs] * max(len(merged.heads), 1) + segment[pairs]
    keys, cell = np.unique(key, return_inverse=True)
    pixels = np.zeros(len(keys), dtype=np.int64)
    np.add.at(pixels, cell, contest.pixels[pairs])
    first, second = np.divmod(keys, max(len(merged.heads), 1))
    return Overlaps(first, second, pixels)
