"""How datumaro reads our CVAT files, and label-studio-sdk our Label Studio files.

Made in an environment of its own, since neither is among the tests' requirements:

    python -m tests.reference.annotation_exports FOLDER                     # with the workbench
    pip install label-studio-sdk==2.1.2 datumaro==1.13.12                   # elsewhere
    python tests/reference/annotation_oracles.py FOLDER > tests/workbench/golden_annotation.json
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np


def counts_of(mask: Any) -> list[int]:
    """Runs row by row, zeros first."""
    flat = np.concatenate([[0], np.asarray(mask).astype(bool).ravel().astype(int)])
    bounds = np.flatnonzero(np.diff(flat))
    return np.diff(np.concatenate([[0], bounds, [flat.size - 1]])).tolist()


def read_by_datumaro(folder: Path) -> dict[str, list[dict[str, Any]]]:
    from datumaro.components.dataset import Dataset

    dataset = Dataset.import_from(str(folder / "annotations.xml"), "cvat")
    names = [label.name for label in dataset.categories()[next(iter(dataset.categories()))]]
    found: dict[str, list[dict[str, Any]]] = {}
    for item in dataset:
        found[item.id] = [
            {
                "label": names[annotation.label],
                "type": annotation.type.name,
                "attributes": {key: annotation.attributes[key] for key in ("score", "iscrowd")},
                "place": counts_of(annotation.image) if annotation.type.name == "mask" else list(annotation.points),
            }
            for annotation in item.annotations
        ]
    return found


def read_by_label_studio(folder: Path) -> list[dict[str, Any]]:
    from label_studio_sdk.converter import brush
    from label_studio_sdk.label_interface import LabelInterface

    interface = LabelInterface((folder / "config.xml").read_text())
    interface.validate()
    found = []
    for task in json.loads((folder / "tasks.json").read_text()):
        problems = interface.validate_prediction(task["predictions"][0], return_errors=True)
        if not interface.validate_task({"data": task["data"]}):
            problems.append("the task lacks what the configuration asks for")
        regions = []
        for result in task["predictions"][0]["result"]:
            size = result["original_height"], result["original_width"]
            region = {"label": result["value"][result["type"]], "type": result["type"]}
            if result["type"] == "brushlabels":
                mask = np.reshape(brush.decode_rle(result["value"]["rle"]), (*size, 4))[:, :, 3]
                region["place"] = counts_of(mask)
                region["rle"] = [int(v) for v in brush.mask2rle(mask)]
            else:
                region["place"] = result["value"]["points"]
            regions.append(region)
        found.append({"image_id": task["data"]["image_id"], "problems": problems, "regions": regions})
    return found


def main() -> None:
    folder = Path(sys.argv[1])
    golden = {
        "versions": {name: version(name) for name in ("datumaro", "label-studio-sdk")},
        "cvat": {kind: read_by_datumaro(folder / f"cvat-{kind}") for kind in ("masks", "polygons")},
        "label_studio": {kind: read_by_label_studio(folder / f"label-studio-{kind}") for kind in ("masks", "polygons")},
    }
    json.dump(golden, sys.stdout, separators=(",", ":"))
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
