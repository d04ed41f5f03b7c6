"""Who wins an image's pixels when the first so many of its candidates are kept, counted against the ground truth.

Candidates are painted once, in the order of falling scores, and counted whenever a threshold's number of them is in:
all thresholds of an image together cost about as much as one. Compiled; where numba cannot be imported, NumPy gives
the same integers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from types import ModuleType

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from workbench import rle
from workbench.evaluation.columns import Segments, segments_of
from workbench.rle import Runs
from workbench.segments import segment_table

_AS_SEGMENTS = ("image_id", "category_id", "isthing", "score", "area", "height", "width", "counts")


@dataclass(frozen=True)
class Candidates:
    """Candidates of some images, by image and falling score, of equal scores the first query first; n of them."""

    rows: Segments
    """Each one's own mask, before any contest, as a segment whose id is its rank in the image. Boxes are NaN."""
    query: NDArray[np.int64]
    """(n,), its number in the model's output."""
    isthing: NDArray[np.bool_]
    """(n,)."""
    masks: Runs
    gains: Runs
    """The pixels that a candidate wins against all before it in its image."""

    def of_image(self, image: int) -> tuple[int, int]:
        """Begin and end of an image's rows."""
        begin, end = np.searchsorted(self.rows.image, [image, image + 1])
        return int(begin), int(end)

    def kept(self, threshold: float) -> NDArray[np.bool_]:
        """(n,), which ones a threshold keeps: compared in float32, as the model's scores are."""
        return np.asarray(self.rows.score.astype(np.float32) > np.float32(threshold))


def candidates_of(table: pa.Table, image_ids: Sequence[str], first: int = 0) -> Candidates:
    """The rows of `segments.CANDIDATE_SCHEMA` as columns; image `image_ids[i]` gets position `first + i`."""
    position = {image_id: first + i for i, image_id in enumerate(image_ids)}
    image = np.array([position[image_id] for image_id in table["image_id"].to_pylist()], dtype=np.int64)
    score, query = table["score"].to_numpy(), table["query"].to_numpy().astype(np.int64)
    order = np.lexsort((query, -score, image))
    table, image = table.take(order), image[order]
    rank = np.arange(len(order)) - np.searchsorted(image, image)
    rows = segment_table(
        {
            **{name: table[name] for name in _AS_SEGMENTS},
            "segment_id": rank + 1,
            "ordinal": rank,
            "iscrowd": np.zeros(len(rank), np.bool_),
            "bbox": np.full((len(rank), 4), np.nan),
        }
    )
    return Candidates(
        rows=segments_of(rows, image_ids, first),
        query=query[order],
        isthing=table["isthing"].to_numpy(),
        masks=rle.parse_runs(table["counts"]),
        gains=rle.parse_runs(table["gains"]),
    )


@dataclass(frozen=True)
class Contest:
    """The outcome among the candidates that one threshold keeps, of some images."""

    kept: NDArray[np.int64]
    """(k,), rows of the candidates."""
    won: NDArray[np.int64]
    """(k,), pixels that the candidate wins; so the next one."""
    owned: NDArray[np.int64]
    """Of these, pixels that its own mask covers: those of its segment."""
    gt_rows: NDArray[np.int64]
    """(pairs,), ground truth that shares owned pixels; so the next two."""
    members: NDArray[np.int64]
    """Which of `kept`."""
    pixels: NDArray[np.int64]


def contests(candidates: Candidates, gt: Segments, thresholds: Sequence[float]) -> Iterator[Contest]:
    """The contest of each threshold. `gt` has the same images; its segments do not overlap each other."""
    truth = rle.parse_runs(gt.counts)
    kept = [candidates.kept(threshold) for threshold in thresholds]
    parts: list[list[tuple[NDArray[np.int64], ...]]] = [[] for _ in thresholds]
    for image in np.unique(candidates.rows.image).tolist():
        begin, end = candidates.of_image(image)
        first, last = (int(row) for row in np.searchsorted(gt.image, [image, image + 1]))
        sizes = np.array([int(each[begin:end].sum()) for each in kept])
        stops = np.unique(sizes[sizes > 0])
        if not len(stops):
            continue
        won, owned, shared = _count(
            (truth, first, last),
            (candidates.masks, begin, end),
            (candidates.gains, begin, end),
            stops,
            int(candidates.rows.height[begin]) * int(candidates.rows.width[begin]),
        )
        for part, size in zip(parts, sizes.tolist(), strict=True):
            if size:
                stop = int(np.searchsorted(stops, size))
                gts, members = np.nonzero(shared[stop, :, :size])
                part.append(
                    (
                        np.arange(begin, begin + size),
                        won[stop, :size],
                        owned[stop, :size],
                        first + gts,
                        begin + members,
                        shared[stop, gts, members],
                    )
                )
    nothing = np.zeros(0, np.int64)
    for part in parts:
        rows, won, owned, gts, members, pixels = (
            np.concatenate([nothing, *column]) for column in (zip(*part, strict=True) if part else [()] * 6)
        )
        yield Contest(rows, won, owned, gts, np.searchsorted(rows, members), pixels)


_Rows = tuple[Runs, int, int]
"""Masks, and begin and end of those that are meant."""


def _count(
    gt: _Rows, masks: _Rows, gains: _Rows, stops: NDArray[np.int64], pixels: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Won (S, n), owned (S, n) and shared (S, G, n) pixels of one image after each of `stops` candidates are in."""
    kernels = _kernels()
    if kernels is None:
        return count_with_numpy(gt, masks, gains, stops, pixels)
    flat = (part for runs, begin, end in (gt, masks, gains) for part in (runs.lengths, runs.offsets[begin : end + 1]))
    won, owned, shared = kernels.count_contest(*flat, stops, pixels)
    return won, owned, shared


@cache
def _kernels() -> ModuleType | None:
    try:
        from workbench.sweeping import kernels
    except ImportError:
        return None
    return kernels


def count_with_numpy(
    gt: _Rows, masks: _Rows, gains: _Rows, stops: NDArray[np.int64], pixels: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """As the kernel `count_contest`, a candidate at a time."""
    n, truths = masks[2] - masks[1], gt[2] - gt[1]
    truth_of = np.full(pixels, truths)
    for row in range(truths):
        truth_of[pixels_of(gt[0], gt[1] + row)] = row
    holder, owns = np.full(pixels, n), np.zeros(pixels, np.bool_)
    found = []
    for row in range(n):
        gained = pixels_of(gains[0], gains[1] + row)
        inside = np.zeros(pixels, np.bool_)
        inside[pixels_of(masks[0], masks[1] + row)] = True
        holder[gained], owns[gained] = row, inside[gained]
        if row + 1 in stops:
            pairs = np.bincount(truth_of[owns] * (n + 1) + holder[owns], minlength=(truths + 1) * (n + 1))
            owned = np.bincount(holder[owns], minlength=n + 1)[:n]
            found.append((np.bincount(holder, minlength=n + 1)[:n], owned, pairs.reshape(-1, n + 1)[:truths, :n]))
    won, owned, shared = (np.stack(part) for part in zip(*found, strict=True))
    return won, owned, shared


def pixels_of(runs: Runs, row: int) -> NDArray[np.int64]:
    """The pixels of one mask, counted down the columns."""
    lengths = runs.lengths[runs.offsets[row] : runs.offsets[row + 1]]
    return np.flatnonzero(np.repeat(np.arange(len(lengths)) % 2 == 1, lengths))
