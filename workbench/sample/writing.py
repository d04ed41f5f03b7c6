"""A folder of scenes with its ground truth in COCO's panoptic and instances forms and in ADE20K's index PNGs."""

import csv
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as coco_mask
from numpy.typing import NDArray
from PIL import Image

from workbench.errors import OptionError
from workbench.files.replacing import new_folder, recover
from workbench.sample.classes import BY_ID, CLASSES, THINGS, SceneClass
from workbench.sample.scenes import Scene, SceneSegment, generate

JPEG: dict[str, Any] = {"quality": 92, "subsampling": 0, "optimize": True}
LABELS = {scene_class.category_id: label for label, scene_class in enumerate(CLASSES, start=1)}
"""category_id -> value in the index PNGs, in which 0 is void."""


def make_dataset(folder: Path, count: int, seed: int, split: str = "val") -> list[Path]:
    """Write `write_dataset`'s files and their definitions into a new folder; returns the definitions' paths.

    The folder appears when all of it is written. Raises OptionError for one that holds something already: scenes have
    the same file names whatever their seed, so that two sets in one folder would be mixed.
    """
    _check_free(folder)
    with new_folder(folder) as partial:
        write_dataset(partial, count, seed, split)
        return [folder / path.name for path in write_definitions(partial, split)]


def write_dataset(folder: Path, count: int, seed: int, split: str = "val") -> None:
    """Write scenes 0..count-1 of a seed below `folder`, numbered from 1.

    images/000001.jpg ..., annotations/{panoptic,instances}_SPLIT.json, annotations/panoptic_SPLIT/*.png (id = R + 256 G
    + 65536 B), annotations/semantic_SPLIT/*.png, and classes.csv, whose `label` is the index PNGs' value. Same count
    and seed, same files; only the JPEGs' bytes may differ between versions of the JPEG library.
    """
    annotations = folder / "annotations"
    for part in (folder / "images", annotations / f"panoptic_{split}", annotations / f"semantic_{split}"):
        part.mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    panoptic: list[dict[str, Any]] = []
    instances: list[dict[str, Any]] = []
    for image_id in range(1, count + 1):
        scene = generate(seed, image_id - 1)
        stem = f"{image_id:06d}"
        Image.fromarray(scene.image).save(folder / "images" / f"{stem}.jpg", **JPEG)
        colors = segment_colors(scene.segments)
        Image.fromarray(painted(scene.ids, colors)).save(annotations / f"panoptic_{split}" / f"{stem}.png")
        Image.fromarray(semantic_map(scene)).save(annotations / f"semantic_{split}" / f"{stem}.png")
        height, width = scene.ids.shape
        images.append({"id": image_id, "file_name": f"{stem}.jpg", "height": height, "width": width})
        panoptic.append(
            {"image_id": image_id, "file_name": f"{stem}.png", "segments_info": _segments_info(scene, colors)}
        )
        instances += _instances(scene, image_id, first_id=len(instances) + 1)
    info = {"description": f"Generated scenes: workbench sample make --count {count} --seed {seed}", "version": "1"}
    head = {"info": info, "licenses": [{"id": 1, "name": "Apache-2.0"}], "images": images}
    _write_json(annotations / f"panoptic_{split}.json", head, panoptic, CLASSES)
    _write_json(annotations / f"instances_{split}.json", head, instances, THINGS)
    write_classes(folder / "classes.csv")


def write_definitions(folder: Path, split: str = "val") -> list[Path]:
    """Write the two definitions of what `write_dataset` wrote, panoptic and semantic; returns their paths."""
    contents = {
        f"scenes_{split}": [
            'title = "Generated scenes: panoptic segments and instances"',
            'format = "coco"',
            'root = "."',
            'images = "images"',
            f'panoptic = "annotations/panoptic_{split}.json"',
            f'instances = "annotations/instances_{split}.json"',
        ],
        f"scenes_semantic_{split}": [
            'title = "Generated scenes: semantic maps"',
            'format = "ade20k"',
            'root = "."',
            'images = "images"',
            f'annotations = "annotations/semantic_{split}"',
            'classes = "classes.csv"',
            "void = [0]",
        ],
    }
    paths = []
    for name, lines in contents.items():
        paths.append(folder / f"{name}.toml")
        paths[-1].write_text("\n".join(lines) + "\n", encoding="utf-8")
    return paths


def segment_colors(segments: Iterable[SceneSegment]) -> dict[int, tuple[int, int, int]]:
    """A colour for each segment id of a scene: its class's own, and for each further one of the class a neighbour."""
    seen: Counter[int] = Counter()
    colors = {}
    for segment in segments:
        red, green, blue = BY_ID[segment.category_id].color
        shift = 9 * seen[segment.category_id]
        colors[segment.id] = ((red + shift) % 256, (green + 2 * shift) % 256, (blue + 3 * shift) % 256)
        seen[segment.category_id] += 1
    if len(set(colors.values()) | {(0, 0, 0)}) <= len(colors):
        raise ValueError(f"two segments share a colour, or one is black: {colors}; change the classes' colours")
    return colors


def painted(ids: NDArray[np.int32], colors: dict[int, tuple[int, int, int]]) -> NDArray[np.uint8]:
    """The id map (height, width) as RGB (height, width, 3); void is black."""
    table = np.zeros((int(ids.max(initial=0)) + 1, 3), np.uint8)
    for segment_id, color in colors.items():
        table[segment_id] = color
    return table[ids]


def semantic_map(scene: Scene) -> NDArray[np.uint8]:
    """The scene's classes as `LABELS`, uint8 (height, width); 0 is void."""
    table = np.zeros(len(scene.segments) + 1, np.uint8)
    for segment in scene.segments:
        table[segment.id] = LABELS[segment.category_id]
    return table[scene.ids]


def write_classes(path: Path) -> None:
    """The class table: one row a class, in the order of the index PNGs' labels."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["category_id", "name", "isthing", "color", "label"])
        for scene_class in CLASSES:
            color = "#{:02x}{:02x}{:02x}".format(*scene_class.color)
            label = LABELS[scene_class.category_id]
            writer.writerow([scene_class.category_id, scene_class.name, int(scene_class.isthing), color, label])


def _check_free(folder: Path) -> None:
    recover(folder)
    if not folder.exists():
        return
    if not folder.is_dir():
        raise OptionError(f"{folder} is a file. Name a folder with --out.")
    if found := sorted(path.name for path in folder.iterdir()):
        raise OptionError(f"{folder} is not empty (it holds {found[0]!r}). Name another folder with --out.")
    if Path.cwd().is_relative_to(folder.resolve()):
        raise OptionError(f"{folder} is the current folder, and a new one takes its place. Name one inside it.")


def _segments_info(scene: Scene, colors: dict[int, tuple[int, int, int]]) -> list[dict[str, Any]]:
    infos = []
    for segment in scene.segments:
        red, green, blue = colors[segment.id]
        _, area, bbox = _encode(scene.ids == segment.id)
        infos.append(
            {
                "id": red + 256 * green + 65536 * blue,
                "category_id": segment.category_id,
                "iscrowd": int(segment.iscrowd),
                "bbox": bbox,
                "area": area,
            }
        )
    return infos


def _instances(scene: Scene, image_id: int, first_id: int) -> list[dict[str, Any]]:
    annotations: list[dict[str, Any]] = []
    for segment in (segment for segment in scene.segments if segment.isthing):
        rle, area, bbox = _encode(scene.ids == segment.id)
        annotations.append(
            {
                "id": first_id + len(annotations),
                "image_id": image_id,
                "category_id": segment.category_id,
                "iscrowd": int(segment.iscrowd),
                "segmentation": rle,
                "bbox": bbox,
                "area": area,
            }
        )
    return annotations


def _encode(mask: NDArray[np.bool_]) -> tuple[dict[str, Any], int, list[int]]:
    """The COCO RLE with counts as text, the area and the [x, y, width, height] box of a mask."""
    rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    bbox = [int(value) for value in coco_mask.toBbox(rle)]
    return {"size": list(mask.shape), "counts": rle["counts"].decode()}, int(mask.sum()), bbox


def _write_json(
    path: Path, head: dict[str, Any], annotations: list[dict[str, Any]], classes: tuple[SceneClass, ...]
) -> None:
    categories = [
        {
            "id": scene_class.category_id,
            "name": scene_class.name,
            "supercategory": "thing" if scene_class.isthing else "stuff",
            "isthing": int(scene_class.isthing),
            "color": list(scene_class.color),
        }
        for scene_class in classes
    ]
    content = {**head, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")
