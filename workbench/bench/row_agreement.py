"""How alike the rows of two pipelines are: the same but for rounding, or alike to a panoptic quality."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from workbench import rle
from workbench.bench.measuring import Disagreement

SCORE_TOLERANCE = 1e-5
MOST_PIXELS = 10
"""Pixels of a mask that may differ: two float32 sums of another order can turn a tie."""

_COLUMNS = ["image_id", "category_id", "score", "height", "width", "counts"]


def agreement_of(mask_scores: bool) -> str:
    """What `check_same_rows` has found, for a report."""
    scores = f"scores to {SCORE_TOLERANCE:.0e}".replace("e-0", "e-")
    beyond = " beyond what these pixels make of them" if mask_scores else ""
    return f"rows but for {MOST_PIXELS} pixels of a mask, {scores}{beyond}"


def check_same_rows(ours: pa.Table, theirs: pa.Table, mask_scores: bool = False) -> None:
    """Raise Disagreement unless each row has its like in the other table.

    That is one of the same image and category whose mask differs in at most 10 pixels, and overlaps, and whose score is
    within 1e-5; with `mask_scores`, of which the mean probability inside the mask is a factor, beyond what these pixels
    make of it. Each counts once, whatever their order. Both tables have image_id, category_id, score, height, width and
    counts.
    """
    mine, others = _by_image(ours), _by_image(theirs)
    if mine.keys() != others.keys():
        raise Disagreement(f"{len(mine)} images have segments by us, {len(others)} by the peer.")
    for image_id, rows in mine.items():
        left = others[image_id]
        if len(rows) != len(left):
            raise Disagreement(f"image {image_id} has {len(rows)} segments by us, {len(left)} by the peer.")
        for row in rows:
            like = next((other for other in left if _are_alike(row, other, mask_scores)), None)
            if like is None:
                raise Disagreement(
                    f"image {image_id}: no segment of the peer is like ours of category {row.category_id}, "
                    f"score {row.score}, {row.mask.sum()} pixels."
                )
            left.remove(like)


def agreed_quality(ours: pa.Table, theirs: pa.Table) -> float:
    """The panoptic quality of our rows with the peer's as the truth, all categories as one, 0..1 (1: both are empty).

    A row is matched with the free row of its image and category that it overlaps most, above an IoU of 0.5.
    """
    mine, others = _by_image(ours), _by_image(theirs)
    total = 0.0
    for image_id in mine.keys() & others.keys():
        free = others[image_id]
        for row in mine[image_id]:
            rivals = [(_iou(row, other), other) for other in free if other.category_id == row.category_id]
            iou, best = max(rivals, key=lambda rival: rival[0], default=(0.0, None))
            if iou > 0.5 and best is not None:
                total += iou
                free.remove(best)
    segments = len(ours) + len(theirs)
    return 2 * total / segments if segments else 1.0


@dataclass(eq=False)
class _Row:
    """A row with its mask, equal to itself alone."""

    category_id: int
    score: float | None
    mask: NDArray[np.bool_]


def _by_image(table: pa.Table) -> dict[str, list[_Row]]:
    rows: dict[str, list[_Row]] = {}
    for row in table.select(_COLUMNS).to_pylist():
        mask = rle.decode(row["counts"], row["height"], row["width"]).astype(bool)
        rows.setdefault(row["image_id"], []).append(_Row(row["category_id"], row["score"], mask))
    return rows


def _are_alike(row: _Row, other: _Row, mask_scores: bool) -> bool:
    if row.category_id != other.category_id or row.mask.shape != other.mask.shape:
        return False
    mine, others, both = (int(mask.sum()) for mask in (row.mask, other.mask, row.mask & other.mask))
    if mine + others - 2 * both > MOST_PIXELS or not both:
        return False
    if row.score is None or other.score is None:
        return row.score is other.score
    # A pixel turns where its probability is 1/2. With m, from 1/2 to 1, for the mean inside what the masks share, a
    # mask's own mean is 1/2 + (m - 1/2) * (the share of it that is shared); the class's factor is at most 1.
    moved = 0.5 * abs(both / mine - both / others) if mask_scores else 0.0
    return abs(row.score - other.score) <= SCORE_TOLERANCE + moved


def _iou(row: _Row, other: _Row) -> float:
    return float((row.mask & other.mask).sum() / max((row.mask | other.mask).sum(), 1))
