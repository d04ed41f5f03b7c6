"""The bundled scenes with worn predictions, and with everything in their annotations at which official scorers stumble.

Written as the files that those tools read: so readers, importers and scorers are compared, not formulas alone.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as coco_mask
from numpy.typing import NDArray
from PIL import Image

from workbench.catalog import built_in_folder

Json = dict[str, Any]


@dataclass(frozen=True)
class WornScenes:
    """Where the files are, and how often each oddity occurs in them."""

    definition: Path
    panoptic_gt: Path
    panoptic_predictions: Path
    instances_gt: Path
    results: Path
    oddities: dict[str, int]


def write_worn_scenes(folder: Path, seed: int) -> WornScenes:
    """Make the files of one seed below `folder`."""
    scenes = built_in_folder() / "scenes"
    source: Json = json.loads((scenes / "annotations" / "panoptic_val.json").read_text(encoding="utf-8"))
    isthing = {category["id"]: bool(category["isthing"]) for category in source["categories"]}
    wear = _Wear(np.random.default_rng(seed), isthing)
    gt, predictions = list[Json](), list[Json]()
    instances, results = list[Json](), list[Json]()
    for entry in source["annotations"]:
        with Image.open(scenes / "annotations" / "panoptic_val" / entry["file_name"]) as png:
            ids = _ids(np.asarray(png.convert("RGB"), dtype=np.int64))
        ids, infos = wear.annotations(ids, entry["segments_info"])
        guess, guessed = wear.predictions(ids, infos)
        for name, values in (("gt", ids), ("predictions", guess)):
            _write_png(folder / name / entry["file_name"], values)
        image = {"image_id": entry["image_id"], "file_name": entry["file_name"]}
        gt.append({**image, "segments_info": infos})
        predictions.append({**image, "segments_info": guessed})
        instances.extend(wear.instances(entry["image_id"], ids, infos, first_id=len(instances)))
        results.extend(wear.results(entry["image_id"], guess, guessed))
    shutil.copytree(scenes / "images", folder / "images")
    common = {"images": source["images"], "categories": source["categories"]}
    things = [category for category in source["categories"] if category["isthing"]]
    _write_json(folder / "gt.json", {**common, "annotations": gt})
    _write_json(folder / "predictions.json", {"annotations": predictions})
    _write_json(folder / "instances.json", {**common, "categories": things, "info": {}, "annotations": instances})
    _write_json(folder / "results.json", results)
    keys = {"format": "coco", "root": str(folder), "images": "images"}
    keys |= {"panoptic": "gt.json", "instances": "instances.json"}
    definition = folder / "worn_scenes.toml"
    definition.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items()), encoding="utf-8")
    return WornScenes(
        definition,
        panoptic_gt=folder / "gt.json",
        panoptic_predictions=folder / "predictions.json",
        instances_gt=folder / "instances.json",
        results=folder / "results.json",
        oddities=wear.oddities,
    )


class _Wear:
    """Draws what is done to each image, and counts it."""

    def __init__(self, rng: np.random.Generator, isthing: dict[int, bool]) -> None:
        self.rng, self.isthing = rng, isthing
        self.categories = sorted(isthing)
        self.oddities = dict.fromkeys(
            ("stale areas", "second crowds", "empty segments", "annotations with id 0", "tied scores", "void pixels"), 0
        )

    def annotations(self, ids: NDArray[np.int64], infos: list[Json]) -> tuple[NDArray[np.int64], list[Json]]:
        """Void areas, crowds, stale areas, segments without pixels, and the list in another order."""
        height, width = ids.shape
        y, x = int(self.rng.integers(height)), int(self.rng.integers(width))
        ids = ids.copy()
        ids[y : y + height // 6, x : x + width // 6] = 0
        self.oddities["void pixels"] += int((ids == 0).sum())
        listed = []
        for position in self.rng.permutation(len(infos)):
            info = infos[position]
            area = int((ids == info["id"]).sum())
            stale = self.rng.random() < 0.1
            self.oddities["stale areas"] += stale
            self.oddities["empty segments"] += area == 0
            crowd = self.isthing[info["category_id"]] and self.rng.random() < 0.35
            area = int(area * self.rng.uniform(0.6, 1.5)) if stale else area
            listed.append({**info, "area": area, "iscrowd": int(crowd)})
        if self.rng.random() < 0.2:
            self.oddities["empty segments"] += 1
            listed.append({"id": 3, "category_id": self._category(), "iscrowd": 0, "area": 40, "bbox": [0, 0, 0, 0]})
        crowds = [info["category_id"] for info in listed if info["iscrowd"]]
        self.oddities["second crowds"] += len(crowds) - len(set(crowds))
        return ids, listed

    def predictions(self, ids: NDArray[np.int64], infos: list[Json]) -> tuple[NDArray[np.int64], list[Json]]:
        """The annotations moved, some of them dropped, of another category, cut in two, or joined with the next."""
        moved = np.roll(ids, self.rng.integers(-4, 5, size=2), axis=(0, 1))
        guess, guessed = np.zeros_like(ids), list[Json]()
        joined: dict[int, int] = {}
        for info in infos:
            mask, fate, category = moved == info["id"], self.rng.random(), info["category_id"]
            if not mask.any() or fate < 0.08:
                continue
            if fate < 0.16:
                category = self._category()
            elif fate < 0.3 and category in joined:
                guess[mask] = joined[category]
                continue
            parts = [mask]
            if 0.3 <= fate < 0.4:
                middle = int(np.median(np.nonzero(mask)[1]))
                left = np.arange(ids.shape[1])[None, :] <= middle
                parts = [part for part in (mask & left, mask & ~left) if part.any()]
            for part in parts:
                number = 7 * (len(guessed) + 1)
                guess[part] = joined[category] = number
                guessed.append({"id": number, "category_id": category})
        return guess, guessed

    def instances(self, image_id: int, ids: NDArray[np.int64], infos: list[Json], first_id: int) -> Iterator[Json]:
        """The things of the annotations, numbered from 0, which pycocotools takes for "not matched"."""
        things = [info for info in infos if self.isthing[info["category_id"]] and (ids == info["id"]).any()]
        for annotation_id, info in enumerate(things, start=first_id):
            self.oddities["annotations with id 0"] += annotation_id == 0
            segmentation, box = _rle(ids == info["id"])
            about = {"id": annotation_id, "image_id": image_id, "category_id": info["category_id"]}
            sizes = {"area": info["area"] * float(self.rng.choice([1, 1, 1, 20])), "iscrowd": info["iscrowd"]}
            yield {**about, **sizes, "segmentation": segmentation, "bbox": box}

    def results(self, image_id: int, guess: NDArray[np.int64], guessed: list[Json]) -> Iterator[Json]:
        """Predicted things with scores that often tie, some of them twice; every result declares a box."""
        scores = set[float]()
        for info in guessed:
            if not self.isthing[info["category_id"]]:
                continue
            for shift in [0] if self.rng.random() < 0.8 else [0, 2]:
                segmentation, box = _rle(np.roll(guess == info["id"], shift, axis=1))
                score = float(self.rng.integers(1, 11)) / 10
                self.oddities["tied scores"] += score in scores
                scores.add(score)
                about = {"image_id": image_id, "category_id": info["category_id"], "score": score}
                yield {**about, "segmentation": segmentation, "bbox": box}

    def _category(self) -> int:
        return int(self.rng.choice(self.categories))


def _rle(mask: NDArray[np.bool_]) -> tuple[Json, list[float]]:
    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}, coco_mask.toBbox(encoded).tolist()


def _ids(rgb: NDArray[np.int64]) -> NDArray[np.int64]:
    return rgb[..., 0] + 256 * rgb[..., 1] + 65536 * rgb[..., 2]


def _write_png(path: Path, ids: NDArray[np.int64]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rgb = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1)
    Image.fromarray(rgb.astype(np.uint8)).save(path)


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")
