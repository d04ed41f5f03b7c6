"""A few of the bundled scenes as datasets of their own, with or without annotations, for tests of prediction."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench.catalog import built_in_folder


def coco_scenes(folder: Path, count: int, declared_hw: Mapping[int, tuple[int, int]] | None = None) -> Path:
    """The first `count` scenes as a COCO instances dataset without objects; returns its TOML file.

    `declared_hw` replaces the size that the JSON declares for an image id.
    """
    scenes = built_in_folder() / "scenes"
    full: dict[str, Any] = json.loads((scenes / "annotations" / "panoptic_val.json").read_text())
    images = sorted(full["images"], key=lambda image: int(image["id"]))[:count]
    (folder / "images").mkdir(parents=True)
    for image in images:
        shutil.copy(scenes / "images" / image["file_name"], folder / "images")
        if declared_hw and image["id"] in declared_hw:
            image["height"], image["width"] = declared_hw[image["id"]]
    content = {"images": images, "annotations": [], "categories": full["categories"]}
    (folder / "instances.json").write_text(json.dumps(content))
    definition = folder / "few_scenes.toml"
    definition.write_text('format = "coco"\nroot = "."\nimages = "images"\ninstances = "instances.json"\n')
    return definition


def unlabelled_scenes(folder: Path, count: int) -> Path:
    """The same images without annotations."""
    definition = coco_scenes(folder, count)
    (folder / "instances.json").unlink()
    definition.write_text('format = "images"\nroot = "."\nimages = "images"\n')
    return definition
