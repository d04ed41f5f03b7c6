"""Tiny data sets drawn at random as label maps with segment lists: as segment tables, and as panopticapi reads them."""

import contextlib
import io
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from panopticapi.evaluation import PQStat, pq_compute_single_core
from panopticapi.utils import id2rgb
from PIL import Image

from workbench import rle
from workbench.segments import SEGMENT_SCHEMA, VOID_CATEGORY_ID, segment_table

CATEGORIES = {1: True, 2: True, 7: False, 9: False}
"""Category id -> isthing."""


@dataclass(frozen=True)
class Listed:
    """One entry of a panoptic JSON's `segments_info`; `area` is what the file claims (None: as counted)."""

    id: int
    category_id: int
    iscrowd: bool = False
    area: int | None = None


@dataclass(frozen=True)
class PanopticImage:
    """A label map of shape (height, width), 0 for void, and its segments in the order of the file."""

    image_id: str
    label_map: NDArray[np.int64]
    listed: tuple[Listed, ...]


def table_of(images: Sequence[PanopticImage], score: float | None = None) -> pa.Table:
    """The images as a segment table; ground truth (with void rows and declared areas) unless there is a `score`."""
    columns: dict[str, list[Any]] = {name: [] for name in SEGMENT_SCHEMA.names}
    for image in images:
        listed = sorted(enumerate(image.listed), key=lambda entry: entry[1].id)
        rows = [(number, ordinal, entry) for number, (ordinal, entry) in enumerate(listed, start=1)]
        if score is None:
            rows.insert(0, (0, len(rows), Listed(0, VOID_CATEGORY_ID)))
        for segment_id, ordinal, entry in rows:
            mask = image.label_map == entry.id
            declared = entry.area if entry.area is not None else int(mask.sum())
            row = (
                image.image_id,
                segment_id,
                ordinal,
                entry.category_id,
                CATEGORIES.get(entry.category_id, False),
                entry.iscrowd,
                score,
                int(mask.sum()),
                declared if score is None else None,
                box_of(mask),
                *mask.shape,
                rle.encode(mask),
                entry.id,
            )
            for name, value in zip(columns, row, strict=True):
                columns[name].append(value)
    return segment_table(columns)


def box_of(mask: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    """x, y, w, h of the smallest box around the mask's pixels; zeros for an empty mask."""
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return (0.0, 0.0, 0.0, 0.0)
    x, y = columns.min(), rows.min()
    return (float(x), float(y), float(columns.max() - x + 1), float(rows.max() - y + 1))


def panopticapi_scores(gt: Sequence[PanopticImage], pred: Sequence[PanopticImage]) -> dict[str, Any]:
    """What panopticapi's single-core path gives: `all`, `things`, `stuff` (None where it crashes) and every class."""
    with written(gt, pred) as (pairs, folder), np.errstate(divide="ignore"):
        stat = pq_compute_single_core(0, pairs, folder, folder, {key: {} for key in CATEGORIES})
    return _averages(stat)


@contextlib.contextmanager
def written(
    gt: Sequence[PanopticImage], pred: Sequence[PanopticImage]
) -> Iterator[tuple[list[tuple[dict[str, Any], ...]], str]]:
    """The annotation pairs that panopticapi takes and the folder with their PNGs; its printing is swallowed."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        pairs = []
        for index, (truth, guess) in enumerate(zip(gt, pred, strict=True)):
            entries = []
            for side, image in (("gt", truth), ("pred", guess)):
                name = f"{side}{index}.png"
                Image.fromarray(id2rgb(image.label_map)).save(Path(folder) / name)
                entries.append({"image_id": index, "file_name": name, "segments_info": _segments_info(image)})
            pairs.append(tuple(entries))
        yield pairs, folder


def _segments_info(image: PanopticImage) -> list[dict[str, int]]:
    return [
        {
            "id": entry.id,
            "category_id": entry.category_id,
            "iscrowd": int(entry.iscrowd),
            "area": int((image.label_map == entry.id).sum()) if entry.area is None else entry.area,
        }
        for entry in image.listed
    ]


def _averages(stat: PQStat) -> dict[str, Any]:
    categories = {key: {"isthing": int(isthing)} for key, isthing in CATEGORIES.items()}
    scores: dict[str, Any] = {}
    for name, isthing in (("all", None), ("things", True), ("stuff", False)):
        try:
            scores[name], per_class = stat.pq_average(categories, isthing=isthing)
        except ZeroDivisionError:
            scores[name] = None
        else:
            scores["per_class"] = per_class if name == "all" else scores["per_class"]
    scores["counts"] = {key: (stat[key].tp, stat[key].fp, stat[key].fn, float(stat[key].iou)) for key in CATEGORIES}
    return scores


@st.composite
def panoptic_pairs(draw: st.DrawFn, images: int = 3) -> tuple[list[PanopticImage], list[PanopticImage]]:
    """Ground truth and predictions of up to `images` images, with everything that has ever gone wrong in them.

    Several crowds of a category, declared areas that are wrong, segments without pixels, pixels without a segment, ids
    in any order, void on both sides, images without segments.
    """
    gt, pred = [], []
    for index in range(draw(st.integers(1, images))):
        shape = (draw(st.integers(1, 7)), draw(st.integers(1, 7)))
        small = arrays.arrays(np.int64, shape, elements=st.integers(0, 4), fill=st.integers(0, 4))
        truth = draw(small)
        noise = draw(arrays.arrays(np.bool_, shape, fill=st.just(False)))
        guess = np.where(noise, draw(small), truth)
        categories = draw(st.lists(st.sampled_from([1, 1, 2, 7, 9]), min_size=6, max_size=6))
        gt.append(_draw_image(draw, str(index), truth, categories, is_gt=True))
        if draw(st.booleans()):
            categories = draw(st.permutations(categories))
        pred.append(_draw_image(draw, str(index), guess, categories, is_gt=False))
    return gt, pred


def _draw_image(
    draw: st.DrawFn, image_id: str, label_map: NDArray[np.int64], categories: Sequence[int], is_gt: bool
) -> PanopticImage:
    ids = np.array([0, *draw(st.permutations([3, 258, 70_000, 9])), 1])
    present = [int(label) for label in np.unique(label_map) if label]
    if is_gt:
        present = [label for label in present if draw(st.integers(0, 9))]  # now and then an id is not listed
        present += [5] if not draw(st.integers(0, 9)) else []  # ... or a listed id has no pixels
    listed = tuple(
        Listed(
            id=int(ids[label]),
            category_id=categories[label],
            iscrowd=is_gt and not draw(st.integers(0, 3)),
            area=draw(st.integers(0, 60)) if is_gt and not draw(st.integers(0, 5)) else None,
        )
        for label in draw(st.permutations(present))
    )
    return PanopticImage(image_id, ids[label_map], listed)
