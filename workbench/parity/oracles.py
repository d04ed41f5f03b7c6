"""The official tools as they are called here, each on the files of `worn_scenes`. Needs the tool that it calls."""

import contextlib
import io
import json
from collections.abc import Sequence
from typing import Any

from workbench.parity.tide_oracle import TideInstance, tidecv_scores
from workbench.parity.worn_scenes import WornScenes

Json = dict[str, Any]


def panopticapi_scores(files: WornScenes) -> Json:
    """`all`, `things`, `stuff` and `per_class` (category id -> tp, fp, fn, iou_sum), on its single-core path."""
    from panopticapi.evaluation import pq_compute_single_core

    truth, found = (json.loads(path.read_text()) for path in (files.panoptic_gt, files.panoptic_predictions))
    categories = {category["id"]: category for category in truth["categories"]}
    pairs = list(zip(truth["annotations"], found["annotations"], strict=True))
    folders = [str(path.with_suffix("")) for path in (files.panoptic_gt, files.panoptic_predictions)]
    with contextlib.redirect_stdout(io.StringIO()):
        stat = pq_compute_single_core(0, pairs, *folders, categories)
    means = {
        name: stat.pq_average(categories, isthing=isthing)[0]
        for name, isthing in (("all", None), ("things", True), ("stuff", False))
    }
    per_class = {
        str(key): (stat[key].tp, stat[key].fp, stat[key].fn, float(stat[key].iou)) for key in sorted(categories)
    }
    return {**means, "per_class": per_class}


def pycocotools_scores(files: WornScenes, geometry: str) -> Any:
    """The `COCOeval` after `summarize`."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(files.instances_gt))
        scored = COCOeval(truth, truth.loadRes(str(files.results)), geometry)
        scored.evaluate()
        scored.accumulate()
        scored.summarize()
    return scored


def tidecv_of_files(files: WornScenes, geometry: str) -> Json:
    """As `tide_oracle.tidecv_scores`."""
    truth, results = (json.loads(path.read_text()) for path in (files.instances_gt, files.results))
    images = [image["id"] for image in truth["images"]]
    categories = [category["id"] for category in truth["categories"]]
    return tidecv_scores(_instances(truth["annotations"]), _instances(results), images, categories, geometry)


def _instances(records: Sequence[Json]) -> list[TideInstance]:
    return [
        TideInstance(
            image_id=record["image_id"],
            category_id=record["category_id"],
            rle=record["segmentation"],
            bbox=record["bbox"],
            score=record.get("score"),
            iscrowd=bool(record.get("iscrowd", False)),
        )
        for record in records
    ]
