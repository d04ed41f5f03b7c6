"""A few bundled scenes with their panoptic annotations, as a folder to upload."""

import json
import shutil
from pathlib import Path
from typing import Any

from workbench.catalog import built_in_folder

SCENES = built_in_folder() / "scenes"


def panoptic_scenes(folder: Path, count: int) -> Path:
    """The first `count` scenes as a COCO panoptic dataset; returns its TOML file, `few_scenes.toml`."""
    full: dict[str, Any] = json.loads((SCENES / "annotations" / "panoptic_val.json").read_text())
    images = sorted(full["images"], key=lambda image: int(image["id"]))[:count]
    chosen = {image["id"] for image in images}
    annotations = [annotation for annotation in full["annotations"] if annotation["image_id"] in chosen]
    for name in ("images", "panoptic"):
        (folder / name).mkdir(parents=True)
    for image in images:
        shutil.copy(SCENES / "images" / image["file_name"], folder / "images")
    for annotation in annotations:
        shutil.copy(SCENES / "annotations" / "panoptic_val" / annotation["file_name"], folder / "panoptic")
    content = {"images": images, "annotations": annotations, "categories": full["categories"]}
    (folder / "panoptic.json").write_text(json.dumps(content))
    return definition(folder / "few_scenes.toml", root=".")


def definition(path: Path, **keys: str) -> Path:
    """A definition of these scenes, its keys replaced or added."""
    values = {"format": "coco", "images": "images", "panoptic": "panoptic.json", **keys}
    path.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items()))
    return path
