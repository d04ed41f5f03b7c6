"""The official boundary tool's numbers, where it is installed, and the golden file made with it.

python -m tests.reference.official_boundary > tests/workbench/golden_boundary.json
"""

import json
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import Any
from unittest import mock

import numpy as np

from tests.reference.detections import CATEGORIES as INSTANCE_CATEGORIES
from tests.reference.detections import IMAGES, Instance, pycocotools_scores
from tests.reference.scenes import CATEGORIES, Listed, PanopticImage, written

COMMIT = "37d25586a677b043ed585f10e5c42d4e80176ea9"
"""Of bowenc0221/boundary-iou-api, its newest."""
RATIOS = (0.02, 0.1)
"""Dilation ratios; 0.02 is what the tool uses for COCO."""


def boundary_pq(gt: Sequence[PanopticImage], pred: Sequence[PanopticImage], ratio: float) -> dict[int, list[float]]:
    """Category -> [tp, fp, fn, sum of IoU], from the tool's single-core path."""
    from boundary_iou.coco_panoptic_api import evaluation

    with written(gt, pred) as (pairs, folder), np.errstate(divide="ignore"):
        categories = {category: {} for category in CATEGORIES}
        stat = evaluation.pq_compute_single_core(0, pairs, folder, folder, categories, "boundary", ratio)
    return {key: [stat[key].tp, stat[key].fp, stat[key].fn, float(stat[key].iou)] for key in CATEGORIES}


def boundary_ap(gt: Sequence[Instance], dets: Sequence[Instance]) -> Any:
    """The tool's COCOeval, at its ratio of 0.02. It is of 2021: numpy's `float` is given back to it."""
    from boundary_iou.coco_instance_api import coco, cocoeval
    from boundary_iou.utils import boundary_utils

    def on_one_core(annotations: Any, to_mask: Any, dilation_ratio: float) -> Any:
        return boundary_utils.augment_annotations_with_boundary_single_core(0, annotations, to_mask, dilation_ratio)

    with (
        warnings.catch_warnings(),
        mock.patch.object(np, "float", float, create=True),
        mock.patch.object(coco, "augment_annotations_with_boundary_multi_core", on_one_core),
    ):
        # pycocotools' decode builds its arrays in a way that numpy 2 frowns on.
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
        return pycocotools_scores(gt, dets, "boundary", coco.COCO, cocoeval.COCOeval)


def golden_scenes(seed: int = 0, count: int = 6) -> tuple[list[PanopticImage], list[PanopticImage]]:
    """Images of 90 x 120 pixels (outlines 3 deep) cut into cells, with crowds and void; predictions a little off."""
    rng = np.random.default_rng(seed)
    pairs = [_golden_pair(rng, str(index)) for index in range(count)]
    return [gt for gt, _ in pairs], [pred for _, pred in pairs]


def _golden_pair(rng: np.random.Generator, image_id: str) -> tuple[PanopticImage, PanopticImage]:
    height, width, cells = 90, 120, 7
    seeds = rng.integers(0, [height, width], size=(cells, 2))
    categories = rng.choice(list(CATEGORIES), size=cells).tolist()
    gt_map = _cells(seeds, height, width)
    pred_map = _cells(seeds + rng.integers(-3, 4, size=seeds.shape), height, width)
    gt_map[:10, : int(rng.integers(10, 40))] = 0
    crowds = rng.random(cells) < 0.15
    return (
        _listed(image_id, gt_map, [Listed(i + 1, categories[i], bool(crowds[i])) for i in range(cells)]),
        _listed(image_id, pred_map, [Listed(i + 1, categories[i]) for i in range(cells)]),
    )


def _cells(seeds: np.ndarray, height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    squares = (rows[..., None] - seeds[:, 0]) ** 2 + (columns[..., None] - seeds[:, 1]) ** 2
    return np.asarray(squares.argmin(axis=-1) + 1, dtype=np.int64)


def _listed(image_id: str, label_map: np.ndarray, listed: list[Listed]) -> PanopticImage:
    return PanopticImage(image_id, label_map, tuple(entry for entry in listed if (label_map == entry.id).any()))


def golden_instances(seed: int = 0) -> tuple[list[Instance], list[Instance]]:
    """The cells of three of the `golden_scenes` as instances, each predicted with a score of its own."""
    gt, pred = (side[: len(IMAGES)] for side in golden_scenes(seed))
    truth = [_instance(image, entry) for image in gt for entry in image.listed]
    found = [_instance(image, entry) for image in pred for entry in image.listed]
    scores = np.random.default_rng(seed).random(len(found)).tolist()
    return (
        [replace(each, id=number) for number, each in enumerate(truth, start=1)],
        [replace(each, id=number, score=score) for number, (each, score) in enumerate(zip(found, scores, strict=True))],
    )


def _instance(image: PanopticImage, entry: Listed) -> Instance:
    category = INSTANCE_CATEGORIES[entry.category_id % len(INSTANCE_CATEGORIES)]
    mask = image.label_map == entry.id
    return Instance(IMAGES[int(image.image_id)], category, mask, 0, iscrowd=entry.iscrowd)


if __name__ == "__main__":
    golden = {
        "made_with": {
            "tool": "bowenc0221/boundary-iou-api",
            "commit": COMMIT,
            "command": "python -m tests.reference.official_boundary",
            "versions": {name: version(name) for name in ("numpy", "pycocotools", "opencv-python-headless")},
        },
        "boundary_pq": {str(ratio): boundary_pq(*golden_scenes(), ratio) for ratio in RATIOS},
        "boundary_ap": boundary_ap(*golden_instances()).stats.tolist(),
    }
    json.dump(golden, sys.stdout, indent=1)
    sys.stdout.write("\n")
