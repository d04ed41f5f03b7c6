"""Panoptic scenes like COCO's, drawn from a seed: as PNG and JSON for the official tools, as shards for us.

480x640 pixels, 133 categories of which 80 are things, some 12 segments an image on either side with ragged outlines
(about 800 characters of RLE each), crowds and void; predictions that are shifted, renamed, missing or cut in two.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from workbench.bench.drawn_dataset import SIZE_HW, DrawnDataset
from workbench.formats.base import Category
from workbench.label_map_rle import encode_label_map
from workbench.segments import VOID_CATEGORY_ID, concat, segment_table

CATEGORIES = tuple(
    Category(category_id, f"class {category_id}", category_id <= 80, (category_id, 255 - category_id, 0))
    for category_id in range(1, 134)
)
_CELLS = 13
_VOID_CELLS, _CROWDS, _RENAMED, _DROPPED = 0.09, 0.04, 0.15, 0.06
_WAVES, _RIPPLES = 14.0, 3.2  # pixels by which outlines stray, over 40 pixels and over 4


@dataclass(frozen=True)
class LabelledMap:
    """One side of one image: a map of shape `SIZE_HW` with 0 for void, and what its segments 1.. are."""

    label_map: NDArray[np.int64]
    category_ids: dict[int, int]
    crowds: frozenset[int] = frozenset()

    def infos(self) -> list[dict[str, int]]:
        """The `segments_info` of COCO's panoptic JSON."""
        areas = np.bincount(self.label_map.ravel(), minlength=max(self.category_ids, default=0) + 1)
        return [
            {"id": key, "category_id": category, "iscrowd": int(key in self.crowds), "area": int(areas[key])}
            for key, category in self.category_ids.items()
        ]

    def columns(self, is_gt: bool) -> dict[str, Any]:
        """As columns of a segment table without image ids; ground truth with its void row."""
        encoded = encode_label_map(self.label_map)
        kept = np.array([key in self.category_ids or (is_gt and key == 0) for key in encoded.ids.tolist()], np.bool_)
        ids, n = encoded.ids[kept], int(kept.sum())
        categories = [self.category_ids.get(key, VOID_CATEGORY_ID) for key in ids.tolist()]
        return {
            "segment_id": ids,
            "ordinal": np.arange(n),
            "category_id": categories,
            "isthing": [0 < category <= 80 for category in categories],
            "iscrowd": [key in self.crowds for key in ids.tolist()],
            "score": None if is_gt else [0.9] * n,
            "area": encoded.areas[kept],
            "declared_area": encoded.areas[kept].astype(np.float64) if is_gt else None,
            "bbox": encoded.bboxes[kept],
            "height": [SIZE_HW[0]] * n,
            "width": [SIZE_HW[1]] * n,
            "counts": [counts for counts, keep in zip(encoded.counts, kept, strict=True) if keep],
        }


def draw(seed: int) -> tuple[LabelledMap, LabelledMap]:
    """Ground truth and prediction of one image."""
    rng = np.random.default_rng(seed)
    centres = rng.random((_CELLS, 2)) * SIZE_HW
    stretch = np.exp(rng.normal(scale=0.35, size=(_CELLS, 2)))
    void = rng.random(_CELLS) < _VOID_CELLS
    categories = rng.choice([each.category_id for each in CATEGORIES], size=_CELLS, p=_frequencies())
    labels = np.where(void, 0, np.arange(1, _CELLS + 1))
    stray = _stray(rng)
    truth = labels[_nearest(centres, stretch, stray)]
    crowds = {int(label) for label in labels[labels > 0] if rng.random() < _CROWDS and categories[label - 1] <= 80}

    guessed = np.where(rng.random(_CELLS) < _DROPPED, 0, np.arange(1, _CELLS + 1))
    wrong = rng.random(_CELLS) < _RENAMED
    renamed = np.where(wrong, rng.choice([each.category_id for each in CATEGORIES], size=_CELLS), categories)
    moved = centres + rng.normal(scale=4, size=centres.shape)
    guess = guessed[_nearest(moved, stretch, stray + rng.normal(scale=0.3, size=2)[:, None, None] + _stray(rng) / 3)]
    return _labelled(truth, categories, frozenset(crowds)), _labelled(guess, renamed)


def _labelled(
    label_map: NDArray[np.int64], categories: NDArray[np.int64], crowds: frozenset[int] = frozenset()
) -> LabelledMap:
    present = [int(label) for label in np.unique(label_map) if label]
    return LabelledMap(label_map, {key: int(categories[key - 1]) for key in present}, crowds & frozenset(present))


def _frequencies() -> NDArray[np.float64]:
    """A few categories are everywhere, many are rare."""
    weights = 1 / np.arange(1, len(CATEGORIES) + 1) ** 0.8
    weights = np.random.default_rng(0).permutation(weights)
    return np.asarray(weights / weights.sum())


def _stray(rng: np.random.Generator) -> NDArray[np.float32]:
    """How far each pixel is looked up from where it is, float32 of shape (2, height, width)."""
    return sum((_noise(rng, 40, _WAVES), _noise(rng, 4, _RIPPLES)), start=np.zeros((2, *SIZE_HW), np.float32))


def _noise(rng: np.random.Generator, period: int, amplitude: float) -> NDArray[np.float32]:
    """Smooth noise: random values on a coarse grid, interpolated in between."""
    height, width = SIZE_HW
    coarse = rng.normal(scale=amplitude, size=(2, height // period + 2, width // period + 2)).astype(np.float32)
    y, x = np.arange(height) / period, np.arange(width) / period
    top, left = y.astype(int), x.astype(int)
    down, right = (y - top)[:, None].astype(np.float32), (x - left)[None, :].astype(np.float32)
    rows = coarse[:, top] * (1 - down[None]) + coarse[:, top + 1] * down[None]  # (2, height, coarse width)
    return np.asarray(rows[:, :, left] * (1 - right) + rows[:, :, left + 1] * right)


def _nearest(
    centres: NDArray[np.float64], stretch: NDArray[np.float64], stray: NDArray[np.floating[Any]]
) -> NDArray[np.int64]:
    """The cell of each pixel, shape `SIZE_HW`."""
    y = np.arange(SIZE_HW[0], dtype=np.float32)[:, None] + stray[0]
    x = np.arange(SIZE_HW[1], dtype=np.float32)[None, :] + stray[1]
    best, cell = np.full(SIZE_HW, np.inf, np.float32), np.zeros(SIZE_HW, np.int64)
    for number, ((row, column), (tall, wide)) in enumerate(zip(centres.tolist(), stretch.tolist(), strict=True)):
        distance = (y - np.float32(row)) ** 2 * np.float32(tall) + (x - np.float32(column)) ** 2 * np.float32(wide)
        nearer = distance < best
        best[nearer], cell[nearer] = distance[nearer], number
    return cell


class PanopticScenes(DrawnDataset):
    """`distinct` drawn images, shown in turn under `count` image ids."""

    def __init__(self, folder: Path, distinct: int, count: int | None = None, seed: int = 0) -> None:
        """`folder` takes the files; they are written when they are asked for."""
        super().__init__(folder, "panoptic", CATEGORIES, range(count or distinct), f"{distinct} from {seed}")
        self.distinct, self.seed = distinct, seed

    def rows(self, side: int, numbers: range) -> pa.Table:
        """The segments of both sides; ground truth with its void rows."""
        tables = self._tables[side]
        return concat([_named(tables[number % self.distinct], str(number)) for number in numbers])

    def write_for_panopticapi(self) -> tuple[list[tuple[dict[str, Any], dict[str, Any]]], Path, Path]:
        """The distinct images as COCO panoptic files: pairs of annotations (ground truth, prediction), both folders.

        `gt.json` and `pred.json` are beside the folders of PNGs.
        """
        sides: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
        folders = self.folder / "gt", self.folder / "pred"
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        for number, pair in enumerate(self.maps):
            name = f"{number:06d}.png"
            for side, folder, drawn in zip(sides, folders, pair, strict=True):
                rgb = np.zeros((*SIZE_HW, 3), np.uint8)
                rgb[..., 0] = drawn.label_map  # ids below 256: the first of three bytes
                Image.fromarray(rgb).save(folder / name)
                side.append({"image_id": number, "file_name": name, "segments_info": drawn.infos()})
        categories = [{"id": each.category_id, "name": each.name, "isthing": int(each.isthing)} for each in CATEGORIES]
        images = [
            {"id": n, "file_name": f"{n}.jpg", "height": SIZE_HW[0], "width": SIZE_HW[1]} for n in range(self.distinct)
        ]
        for folder, side in zip(folders, sides, strict=True):
            content = {"images": images, "annotations": side, "categories": categories}
            folder.with_suffix(".json").write_text(json.dumps(content), encoding="utf-8")
        return list(zip(*sides, strict=True)), *folders

    @cached_property
    def maps(self) -> list[tuple[LabelledMap, LabelledMap]]:
        """Ground truth and prediction of the distinct images."""
        return [draw(self.seed * 1_000_003 + number) for number in range(self.distinct)]

    def repeated(self, count: int) -> "PanopticScenes":
        """The same distinct images under more ids."""
        more = PanopticScenes(self.folder, self.distinct, count, self.seed)
        more.__dict__["maps"] = self.maps
        return more

    @cached_property
    def _tables(self) -> tuple[list[pa.Table], list[pa.Table]]:
        """Of the distinct images, ground truth and prediction, without image ids."""
        found: tuple[list[pa.Table], list[pa.Table]] = ([], [])
        for pair in self.maps:
            for side, drawn in enumerate(pair):
                columns = drawn.columns(is_gt=side == 0)
                found[side].append(segment_table({**columns, "image_id": [""] * len(columns["segment_id"])}))
        return found


def _named(table: pa.Table, image_id: str) -> pa.Table:
    column = table.schema.get_field_index("image_id")
    return table.set_column(column, table.schema.field("image_id"), pa.array([image_id] * len(table), pa.string()))
