"""Instances like COCO's, drawn from a seed: as JSON for the official tool, as shards for us.

480x640 pixels; 80 categories, some everywhere and most rare; some 7 objects an image, 3 in 200 of them crowds, of all
sizes; 30 to 100 detections an image, in one of a hundred more: of the objects, shifted and now and then renamed, and of
nothing. Scores have three decimals, so many are equal.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pycocotools.mask as coco_mask
from numpy.typing import NDArray

from workbench.bench.drawn_dataset import SIZE_HW, DrawnDataset
from workbench.formats.base import Category
from workbench.segments import segment_table

CATEGORIES = tuple(Category(number, f"class {number}", True, (number, 255 - number, 0)) for number in range(1, 81))
_OBJECTS, _CATEGORIES_AN_IMAGE, _CROWDS = 7.3, 3, 0.015
_DETECTIONS, _MANY, _MORE = (30, 101), 0.01, 150
_OF_OBJECTS, _RENAMED = 0.6, 0.2
_ROUGH = 0.035  # of the radius, by which each corner of an outline strays


@dataclass(frozen=True)
class Blob:
    """A star-shaped outline around a centre: what an object looks like before it is painted."""

    centre: tuple[float, float]
    radius: float
    waves: NDArray[np.float64]
    """(4, 2), amplitude and phase of the outline's first harmonics."""
    category_id: int

    def paint(self, rng: np.random.Generator) -> dict[str, Any]:
        """As COCO's compressed RLE, with a rough edge."""
        corners = int(np.clip(self.radius, 8, 80))
        angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
        waves = sum(size * np.cos(n * angle + phase) for n, (size, phase) in enumerate(self.waves.tolist(), start=2))
        radius = self.radius * (1 + waves) * (1 + _ROUGH * rng.standard_normal(corners))
        x = np.clip(self.centre[0] + radius * np.cos(angle), 0, SIZE_HW[1])
        y = np.clip(self.centre[1] + radius * np.sin(angle), 0, SIZE_HW[0])
        rle: dict[str, Any] = coco_mask.frPyObjects([np.stack([x, y], axis=1).ravel().tolist()], *SIZE_HW)[0]
        return rle

    def moved(self, rng: np.random.Generator) -> tuple["Blob", float]:
        """A detection of it, and a score that falls with how far it is off."""
        off = rng.exponential(0.12)
        x, y = np.array(self.centre) + rng.normal(scale=off * self.radius, size=2)
        category = _any_category(rng) if rng.random() < _RENAMED else self.category_id
        radius = self.radius * float(np.exp(rng.normal(scale=off)))
        return Blob((float(x), float(y)), radius, self.waves, category), 1 - 2 * off + rng.normal(scale=0.15)


@dataclass(frozen=True)
class Drawn:
    """One object or detection of one image."""

    category_id: int
    rle: dict[str, Any]
    iscrowd: bool = False
    score: float | None = None


def draw(seed: int) -> tuple[list[Drawn], list[Drawn]]:
    """Objects and detections of one image."""
    rng = np.random.default_rng(seed)
    present = [_any_category(rng) for _ in range(_CATEGORIES_AN_IMAGE)]
    blobs = [_blob(rng, int(rng.choice(present))) for _ in range(rng.poisson(_OBJECTS))]
    objects = [Drawn(blob.category_id, blob.paint(rng), bool(rng.random() < _CROWDS)) for blob in blobs]
    detections = []
    for _ in range(_MORE if rng.random() < _MANY else int(rng.integers(*_DETECTIONS))):
        if blobs and rng.random() < _OF_OBJECTS:
            blob, score = blobs[int(rng.integers(len(blobs)))].moved(rng)
        else:
            category = int(rng.choice(present)) if rng.random() < 0.5 else _any_category(rng)
            blob, score = _blob(rng, category), float(rng.beta(1, 4))
        rounded = round(float(np.clip(score, 0.001, 0.999)), 3)
        detections.append(Drawn(blob.category_id, blob.paint(rng), score=rounded))
    return _with_pixels(objects), _with_pixels(detections)


def _blob(rng: np.random.Generator, category_id: int) -> Blob:
    x, y = (rng.random(2) * SIZE_HW[::-1]).tolist()
    waves = np.stack([rng.normal(scale=0.12, size=4), rng.uniform(0, 2 * np.pi, size=4)], axis=1)
    return Blob((x, y), float(np.clip(np.exp(rng.normal(3.3, 0.9)), 3, 200)), waves, category_id)


def _any_category(rng: np.random.Generator) -> int:
    return int(rng.choice(len(CATEGORIES), p=_FREQUENCIES)) + 1


def _frequencies() -> NDArray[np.float64]:
    weights = 1 / np.arange(1, len(CATEGORIES) + 1) ** 0.9
    return np.asarray(weights / weights.sum())


_FREQUENCIES = _frequencies()


def _with_pixels(drawn: list[Drawn]) -> list[Drawn]:
    return [each for each in drawn if coco_mask.area(each.rle)]


class InstanceScenes(DrawnDataset):
    """Images 1, 2, ... with what is drawn for each."""

    def __init__(self, folder: Path, count: int, seed: int = 0) -> None:
        """`folder` takes the files; they are written when they are asked for."""
        super().__init__(folder, "instance", CATEGORIES, range(1, count + 1), str(seed))
        self.seed = seed

    def rows(self, side: int, numbers: range) -> pa.Table:
        """The objects, or the detections."""
        before = sum(len(pair[side]) for pair in self._drawn[: numbers.start - 1])
        rows = [(n, place, each) for n in numbers for place, each in enumerate(self._drawn[n - 1][side])]
        return segment_table(_columns(rows, [before + 1 + i for i in range(len(rows))] if side == 0 else None))

    def write_for_pycocotools(self) -> tuple[Path, Path]:
        """The same as COCO's annotation and result files."""
        self.folder.mkdir(parents=True, exist_ok=True)
        truth, results = self.folder / "gt.json", self.folder / "results.json"
        content = {
            "images": [{"id": i, "height": SIZE_HW[0], "width": SIZE_HW[1]} for i in self.numbers],
            "categories": [{"id": each.category_id, "name": each.name} for each in CATEGORIES],
            "annotations": [_annotation(i, number, each) for number, (i, each) in enumerate(self._rows(0), start=1)],
        }
        truth.write_text(json.dumps(content), encoding="utf-8")
        results.write_text(json.dumps([_result(i, each) for i, each in self._rows(1)]), encoding="utf-8")
        return truth, results

    @cached_property
    def _drawn(self) -> list[tuple[list[Drawn], list[Drawn]]]:
        return [draw(self.seed * 1_000_003 + number) for number in self.numbers]

    def _rows(self, side: int) -> Iterator[tuple[int, Drawn]]:
        for number, pair in zip(self.numbers, self._drawn, strict=True):
            yield from ((number, each) for each in pair[side])


def _annotation(image_id: int, number: int, drawn: Drawn) -> dict[str, Any]:
    box, area = coco_mask.toBbox(drawn.rle).tolist(), int(coco_mask.area(drawn.rle))
    about = {"id": number, "iscrowd": int(drawn.iscrowd), "area": area, "bbox": box}
    return {**about, **_common(image_id, drawn)}


def _result(image_id: int, drawn: Drawn) -> dict[str, Any]:
    return {"score": drawn.score, **_common(image_id, drawn)}


def _common(image_id: int, drawn: Drawn) -> dict[str, Any]:
    segmentation = {"size": list(SIZE_HW), "counts": drawn.rle["counts"].decode()}
    return {"image_id": image_id, "category_id": drawn.category_id, "segmentation": segmentation}


def _columns(rows: Sequence[tuple[int, int, Drawn]], ids: list[int] | None) -> dict[str, Any]:
    masks = [each.rle for _, _, each in rows]
    return {
        "image_id": [str(number) for number, _, _ in rows],
        "segment_id": [place + 1 for _, place, _ in rows],
        "ordinal": [place for _, place, _ in rows],
        "category_id": [each.category_id for _, _, each in rows],
        "isthing": [True] * len(rows),
        "iscrowd": [each.iscrowd for _, _, each in rows],
        "score": [each.score for _, _, each in rows],
        "area": [int(coco_mask.area(mask)) for mask in masks],
        "bbox": np.array([coco_mask.toBbox(mask) for mask in masks]),
        "height": [SIZE_HW[0]] * len(rows),
        "width": [SIZE_HW[1]] * len(rows),
        "counts": [mask["counts"] for mask in masks],
        "source_id": ids,
    }
