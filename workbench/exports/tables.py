"""Segment tables taken apart image by image, and an image's masks painted into one map."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from workbench import rle
from workbench.segments import VOID_SEGMENT_ID

Chunks = Iterable[tuple[pa.Table, pa.Table]]
"""Pairs of a segment table and the image table that says which images it covers."""


@dataclass(frozen=True)
class ImageSegments:
    """One image with its rows of the segment table, by `ordinal`; the ground truth's void row is left out."""

    image_id: str
    file_name: str
    size_hw: tuple[int, int] | None
    """None for an image that could not be read."""
    rows: pa.Table


class OverlapError(ValueError):
    """Two masks of one image claim a pixel with different values."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"rows {first} and {second} overlap")
        self.first, self.second = first, second


def by_image(chunks: Chunks) -> Iterator[ImageSegments]:
    """Every image of the image tables in their order, with or without segments."""
    for segments, images in chunks:
        position = pc.index_in(segments["image_id"], value_set=images["image_id"].combine_chunks())
        segments = segments.append_column("position", position)
        segments = segments.filter(pc.not_equal(segments["segment_id"], VOID_SEGMENT_ID))
        segments = segments.sort_by([("position", "ascending"), ("ordinal", "ascending")])
        bounds = np.searchsorted(segments["position"].to_numpy(), np.arange(len(images) + 1))
        rows = segments.drop_columns("position")
        for index, image in enumerate(images.to_pylist()):
            size = None if image["height"] is None else (image["height"], image["width"])
            begin, end = bounds[index], bounds[index + 1]
            yield ImageSegments(image["image_id"], image["file_name"], size, rows.slice(begin, end - begin))


def paint(rows: pa.Table, values: Sequence[int], size_hw: tuple[int, int], unpainted: int) -> NDArray[np.int64]:
    """One map of shape (height, width): `values[i]` where row i's mask is set, `unpainted` elsewhere.

    Raises OverlapError where two rows with different values share a pixel, and RleError for masks that do not fill the
    image.
    """
    height, width = size_hw
    runs = rle.parse_runs(rows["counts"])
    rle.check(runs, np.full(len(runs), height * width))
    owners, pixels = _set_pixels(runs, height * width)
    value_of_row = np.asarray(values, dtype=np.int64)
    owner_of_pixel = np.full(height * width, -1)
    owner_of_pixel[pixels] = owners  # where masks overlap the last one stays
    clash = np.flatnonzero(value_of_row[owner_of_pixel[pixels]] != value_of_row[owners])
    if len(clash):
        raise OverlapError(int(owners[clash[0]]), int(owner_of_pixel[pixels[clash[0]]]))
    painted = np.append(value_of_row, unpainted)[owner_of_pixel]  # index -1: the appended value
    return np.asarray(painted.reshape(width, height).T)  # RLE runs column by column


def _set_pixels(runs: rle.Runs, pixels: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Every set pixel of every mask: the mask's index, and the pixel's place in column-major order."""
    owner = np.repeat(np.arange(len(runs)), np.diff(runs.offsets))
    ones = (np.arange(len(runs.lengths)) - runs.offsets[owner]) % 2 == 1
    ends = np.cumsum(runs.lengths) - owner * pixels  # each mask's runs sum to `pixels`
    lengths, owner, starts = runs.lengths[ones], owner[ones], (ends - runs.lengths)[ones]
    first = np.cumsum(lengths) - lengths  # where each run of ones begins in the list of set pixels
    return np.repeat(owner, lengths), np.arange(lengths.sum()) + np.repeat(starts - first, lengths)
