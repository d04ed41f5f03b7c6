"""Datasets of a few pixels, written to a folder: tests bend them to the case that they need."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CATEGORIES = [
    {"id": 1, "name": "cat", "isthing": 1, "color": [200, 0, 0]},
    {"id": 7, "name": "dog", "isthing": 1, "color": [0, 200, 0]},
    {"id": 90, "name": "sky", "isthing": 0, "color": [0, 0, 200]},
]


def write_image(path: Path, size_hw: tuple[int, int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = size_hw
    pixels = np.arange(height * width * 3, dtype=np.uint32).reshape(height, width, 3) % 251
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def write_ids(path: Path, ids: Any) -> None:
    """An RGB PNG whose pixels are R + 256 G + 65536 B."""
    ids = np.asarray(ids)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)).save(path)


def write_labels(path: Path, labels: Any, dtype: Any = np.uint8) -> None:
    """A one-channel PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(labels, dtype=dtype)).save(path)


def write_toml(folder: Path, name: str = "small", **keys: Any) -> Path:
    """A definition in `folder`, whose root it is."""
    keys = {"format": "coco", "root": ".", **keys}
    path = folder / f"{name}.toml"
    path.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items()))
    return path


def image_records(maps: dict[int, Any]) -> list[dict[str, Any]]:
    """COCO image records for id -> map of shape (height, width)."""
    sizes = {image_id: np.asarray(values).shape for image_id, values in maps.items()}
    return [
        {"id": image_id, "file_name": f"{image_id}.png", "height": height, "width": width}
        for image_id, (height, width) in sizes.items()
    ]


def write_panoptic(
    folder: Path, maps: dict[int, Any], segments: dict[int, list[dict[str, Any]]], **keys: Any
) -> tuple[Path, dict[str, Any]]:
    """A COCO panoptic dataset: image id -> id map, and its segments_info. Returns the TOML and the JSON's content.

    The definition takes further `keys`; rewrite the JSON with `write_json` to bend it.
    """
    for image_id, ids in maps.items():
        write_image(folder / "images" / f"{image_id}.png", np.asarray(ids).shape)
        write_ids(folder / "panoptic" / f"{image_id}.png", ids)
    content = {
        "images": image_records(maps),
        "annotations": [
            {"image_id": image_id, "file_name": f"{image_id}.png", "segments_info": segments[image_id]}
            for image_id in maps
        ],
        "categories": CATEGORIES,
    }
    write_json(folder / "panoptic.json", content)
    return write_toml(folder, **{"images": "images", "panoptic": "panoptic.json", **keys}), content


def write_instances(
    folder: Path, sizes_hw: dict[int, tuple[int, int]], annotations: list[dict[str, Any]], **keys: Any
) -> tuple[Path, dict[str, Any]]:
    """A COCO instances dataset, without `info` and `licenses`. Returns the TOML and the JSON's content."""
    for image_id, size_hw in sizes_hw.items():
        write_image(folder / "images" / f"{image_id}.png", size_hw)
    content = {
        "images": image_records({image_id: np.zeros(size) for image_id, size in sizes_hw.items()}),
        "annotations": annotations,
        "categories": [{"id": c["id"], "name": c["name"]} for c in CATEGORIES[:2]],
    }
    write_json(folder / "instances.json", content)
    return write_toml(folder, **{"images": "images", "instances": "instances.json", **keys}), content


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content))


def write_classes(
    path: Path, rows: str = "1,wall,0\n2,door,1\n3,cat,1\n", header: str = "category_id,name,isthing"
) -> None:
    path.write_text(f"{header}\n{rows}")


def write_semantic(folder: Path, maps: dict[str, Any], **keys: Any) -> Path:
    """An ADE20K-style dataset: stem -> label map. Returns the TOML."""
    for stem, labels in maps.items():
        write_image(folder / "images" / f"{stem}.jpg", np.asarray(labels).shape)
        write_labels(folder / "labels" / f"{stem}.png", labels)
    write_classes(folder / "classes.csv")
    keys = {"format": "ade20k", "images": "images", "annotations": "labels", "classes": "classes.csv", **keys}
    return write_toml(folder, **keys)
