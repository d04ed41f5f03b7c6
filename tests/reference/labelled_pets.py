"""Three small images with cats, dogs and sky, and a run over them whose every object's fate is known.

image  ground truth                          prediction
1      a cat, a dog, sky, a void row         the cat but for a column, a cat where the dog is, the sky
2      a cat, sky                            a dog in the sky, the sky
3      sky                                   the sky
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tests.reference.small_datasets import CATEGORIES, write_instances, write_panoptic, write_semantic
from workbench import catalog, rle, runs
from workbench.evaluation.evaluation import evaluate
from workbench.formats import open_dataset
from workbench.formats.base import Dataset, Task
from workbench.runs import Run
from workbench.segments import image_table, segment_table

CAT, DOG, SKY = 1, 7, 90
SIZE = (10, 12)


def _map(**boxes: tuple[int, tuple[slice, slice]]) -> NDArray[np.int64]:
    found = np.full(SIZE, 3)
    for value, place in boxes.values():
        found[place] = value
    return found


_CAT_PLACE, _DOG_PLACE = np.s_[1:5, 1:5], np.s_[5:9, 6:10]
TRUE_MAPS = {
    1: _map(cat=(1, _CAT_PLACE), dog=(2, _DOG_PLACE), void=(0, np.s_[9:, :])),
    2: _map(cat=(1, _CAT_PLACE)),
    3: _map(),
}
"""1 and 2 are things, 3 is the sky, 0 is void."""
TRUE_CLASSES = {1: CAT, 2: DOG, 3: SKY}
PREDICTED_MAPS = {
    1: _map(cat=(1, np.s_[1:5, 1:4]), wrong=(2, _DOG_PLACE)),
    2: _map(dog=(2, np.s_[6:8, 8:11])),
    3: _map(),
}
PREDICTED = {
    1: {1: (CAT, 0.95), 2: (CAT, 0.75), 3: (SKY, 0.99)},
    2: {2: (DOG, 0.5), 3: (SKY, 0.9)},
    3: {3: (SKY, 0.99)},
}
"""image -> value -> (category, score)."""


@dataclass(frozen=True)
class Pets:
    """The dataset and its run."""

    folder: Path
    definition: Path
    dataset: Dataset
    run: Run


def write_pets(folder: Path, evaluated: bool = True, name: str = "pets") -> Pets:
    """A COCO panoptic dataset and a panoptic run over it."""
    segments = {
        image: [{"id": int(i), "category_id": TRUE_CLASSES[int(i)], "iscrowd": 0} for i in np.unique(ids) if i]
        for image, ids in TRUE_MAPS.items()
    }
    small, _ = write_panoptic(folder, TRUE_MAPS, segments)
    definition = small.rename(folder / f"{name}.toml")
    rows = [row for image in PREDICTED for row in _panoptic_rows(image)]
    return _with_run(folder, definition, "panoptic", rows, evaluated)


def write_pets_semantic(folder: Path, evaluated: bool = True) -> Pets:
    """An ADE20K dataset of the same images (cat 1, dog 2, sky 3, void 0) and a semantic run."""
    definition = write_semantic(folder, {f"{image}": ids for image, ids in TRUE_MAPS.items()})
    (folder / "classes.csv").write_text("category_id,name,isthing\n1,cat,1\n2,dog,1\n3,sky,0\n")
    definition = definition.rename(folder / "pets_semantic.toml")
    rows = []
    for image, ids in PREDICTED_MAPS.items():
        classes = np.where((ids == 2) & (image == 1), 1, ids)
        rows += [
            _row(image, n, int(value), classes == value, 0.9) for n, value in enumerate(np.unique(classes), start=1)
        ]
    return _with_run(folder, definition, "semantic", rows, evaluated)


def write_pets_instances(folder: Path, evaluated: bool = True) -> Pets:
    """A COCO instances dataset with a crowd and two objects that overlap, and an instance run."""
    box = {"cat": _mask(np.s_[1:5, 1:5]), "dog": _mask(np.s_[3:8, 3:8]), "crowd": _mask(np.s_[0:2, 8:12])}
    annotations = [
        {
            "id": number,
            "image_id": 1,
            "category_id": category,
            "iscrowd": int(name == "crowd"),
            "area": int(box[name].sum()),
            "bbox": [0.5, 0.5, 4.25, 4.75],
            "segmentation": {"size": list(SIZE), "counts": rle.encode(box[name]).decode()},
        }
        for number, (name, category) in enumerate((("dog", DOG), ("cat", CAT), ("crowd", CAT)), start=4)
    ]
    small, _ = write_instances(folder, {1: SIZE, 2: SIZE}, annotations)
    definition = small.rename(folder / "pets_instances.toml")
    rows = [
        _row(1, 1, CAT, box["cat"], 0.9),
        _row(1, 2, DOG, _mask(np.s_[3:8, 3:7]), 0.8),
        _row(1, 3, CAT, box["crowd"], 0.6),
    ]
    return _with_run(folder, definition, "instance", rows, evaluated)


def _with_run(folder: Path, definition: Path, task: Task, rows: list[dict[str, object]], evaluated: bool) -> Pets:
    dataset = open_dataset(catalog.read(definition))
    run = write_run(folder / "runs" / f"{definition.stem}-first", dataset, task, rows)
    if evaluated:
        evaluate(run)
    return Pets(folder, definition, dataset, run)


def write_run(path: Path, dataset: Dataset, task: Task, rows: list[dict[str, object]]) -> Run:
    """A complete run of those rows over all images."""
    identity = {"dataset": dataset.fingerprint()}
    manifest = runs.new_manifest("predict", dataset.definition, task, dataset.categories, identity, {"notes": []})
    with runs.lock(path):
        run = runs.create_or_resume(path, manifest)
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        runs.writer(run).commit(segment_table(columns), _images(dataset))
        return run.updated(status=runs.COMPLETE)


def _images(dataset: Dataset) -> pa.Table:
    records = dataset.images()
    return image_table(
        {
            "image_id": [record.image_id for record in records],
            "file_name": [record.file_name for record in records],
            "height": [SIZE[0]] * len(records),
            "width": [SIZE[1]] * len(records),
            "ordinal": [record.ordinal for record in records],
            "status": ["ok"] * len(records),
        }
    )


def _panoptic_rows(image: int) -> list[dict[str, object]]:
    found = []
    for number, (value, (category, score)) in enumerate(PREDICTED[image].items(), start=1):
        found.append(_row(image, number, category, PREDICTED_MAPS[image] == value, score))
    return found


def _row(image: int, number: int, category: int, mask: NDArray[np.bool_], score: float) -> dict[str, object]:
    ys, xs = np.nonzero(mask)
    isthing: Mapping[int, bool] = {entry["id"]: bool(entry["isthing"]) for entry in CATEGORIES}
    return {
        "image_id": str(image),
        "segment_id": number,
        "ordinal": number - 1,
        "category_id": category,
        "isthing": isthing.get(category, category < SKY),
        "iscrowd": False,
        "score": score,
        "area": int(mask.sum()),
        "bbox": [float(v) for v in (xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1)],
        "height": SIZE[0],
        "width": SIZE[1],
        "counts": rle.encode(mask),
    }


def _mask(place: tuple[slice, slice]) -> NDArray[np.bool_]:
    mask = np.zeros(SIZE, dtype=np.bool_)
    mask[place] = True
    return mask
