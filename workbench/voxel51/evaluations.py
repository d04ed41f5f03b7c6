"""Our numbers registered as FiftyOne evaluations, so that its Model Evaluation panel shows them and nothing else.

FiftyOne's own evaluation knows no PQ, no ignored pixels and no stuff, and takes forty times as long.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from workbench.evaluation.instance import IOU_THRESHOLDS
from workbench.voxel51 import push_maps
from workbench.voxel51.push_maps import PixelTally
from workbench.voxel51.scoring import SCORE_FIELDS, Keys, Tally
from workbench.voxel51.target import Target

MISSING = "(none)"
"""The class of what the other side has nothing for."""
_HEADLINES = {
    "panoptic": (
        ("all", "pq", "PQ"),
        ("all", "sq", "SQ"),
        ("all", "rq", "RQ"),
        ("things", "pq", "PQ things"),
        ("stuff", "pq", "PQ stuff"),
    ),
    "instance": (
        *(("segm", name, f"{name} (masks)") for name in ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100")),
        ("bbox", "AP", "AP (boxes)"),
    ),
}
_SEMANTIC = (("miou", "mIoU"), ("aacc", "pixel accuracy"), ("macc", "mean class accuracy"))


def custom_metrics(metrics: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The headline numbers of metrics.json as FiftyOne's custom metrics; what was not scored is left out."""
    found: list[tuple[str, str, float | None]] = []
    for task, headlines in _HEADLINES.items():
        scored = metrics.get(task) or {}
        found += [
            (f"{task}_{part}_{name}", label, (scored.get(part) or {}).get(name)) for part, name, label in headlines
        ]
    semantic = metrics.get("semantic") or {}
    found += [(f"semantic_{name}", label, semantic.get(name)) for name, label in _SEMANTIC]
    return {
        f"workbench/{key.lower()}": {"key": key.lower(), "value": value, "label": label, "lower_is_better": False}
        for key, label, value in found
        if value is not None
    }


def register_objects(target: Target, keys: Keys) -> None:
    """Make both evaluations of a run of objects; forgets the earlier ones, with what they wrote on objects.

    Comes before the documents are written: FiftyOne's panel remembers the results of an evaluation by the moment at
    which it was registered.
    """
    from fiftyone.utils.eval.coco import COCOEvaluationConfig

    for key, classwise in ((keys.metric, True), (keys.confusion, False)):
        config = COCOEvaluationConfig(
            keys.pred_field, keys.gt_field, iou=0.5, classwise=classwise, use_masks=True, compute_mAP=True
        )
        method = config.build()
        method.register_run(target.dataset, key)
        method.register_samples(target.dataset, key)
    for name in (keys.gt_field, keys.pred_field):
        target.declare_detections(name, keys.attributes())
    for key in (keys.metric, keys.confusion):
        target.declare_values({f"{key}_{name}": kind for name, kind in SCORE_FIELDS.items()})


def save_objects(target: Target, keys: Keys, run: Path, metrics: Mapping[str, Any], tally: Tally) -> None:
    """Keep the results of both evaluations."""
    from fiftyone.utils.eval.coco import COCODetectionResults

    classes = list(target.labels.values())
    precision, recall, recall_sweep = _curves(target, run, metrics)
    for key, matches in ((keys.metric, tally.matches), (keys.confusion, tally.confusion)):
        method = _method(target, key)
        results = COCODetectionResults(
            target.dataset,
            method.config,
            key,
            matches,
            precision,
            recall,
            IOU_THRESHOLDS,
            classes,
            recall_sweep=recall_sweep,
            missing=MISSING,
            custom_metrics=custom_metrics(metrics),
            backend=method,
        )
        method.save_run_results(target.dataset, key, results)
        method.add_fields_to_sidebar_group(target.dataset, key)


def register_maps(target: Target, keys: Keys) -> None:
    """Make the evaluation of a run of semantic maps."""
    from fiftyone.utils.eval.segmentation import SimpleEvaluationConfig

    method = SimpleEvaluationConfig(keys.pred_field, keys.gt_field).build()
    method.register_run(target.dataset, keys.metric)
    method.register_samples(target.dataset, keys.metric)
    target.declare_values({f"{keys.metric}_{name}": kind for name, kind in push_maps.SCORE_FIELDS.items()})


def save_maps(target: Target, keys: Keys, metrics: Mapping[str, Any], tally: PixelTally) -> None:
    """Keep its results."""
    from fiftyone.utils.eval.segmentation import SegmentationResults

    classes = [*target.labels.values(), MISSING]
    confusion = np.zeros((len(classes), len(classes)), dtype=np.int64)
    if tally.classes is not None:
        confusion[:-1, :] = tally.classes.confusion
    method = _method(target, keys.metric)
    results = SegmentationResults(
        target.dataset,
        method.config,
        keys.metric,
        confusion,
        classes,
        matches=tally.pairs,
        missing=MISSING,
        custom_metrics=custom_metrics(metrics),
        backend=method,
    )
    method.save_run_results(target.dataset, keys.metric, results)
    method.add_fields_to_sidebar_group(target.dataset, keys.metric)


def _method(target: Target, key: str) -> Any:
    return target.dataset.get_evaluation_info(key).config.build()


def _curves(
    target: Target, run: Path, metrics: Mapping[str, Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Precision (T, K, R), recall levels (R,) and last recall (T, K) of AP of masks; -1 where there is none."""
    from workbench.evaluation.average_precision import RECALL_THRESHOLDS

    shape = (len(IOU_THRESHOLDS), len(target.categories), len(RECALL_THRESHOLDS))
    if not (metrics.get("instance") or {}).get("segm"):
        return -np.ones(shape), RECALL_THRESHOLDS, -np.ones(shape[:2])
    result = accumulated(run, np.array([category.category_id for category in target.categories], dtype=np.int32))
    return result.precision[..., 0, -1].transpose(0, 2, 1), RECALL_THRESHOLDS, result.recall[..., 0, -1]


def accumulated(run: Path, category_ids: NDArray[np.int32]) -> Any:
    """AP's curves of a run's masks, from what its evaluation kept of every detection."""
    from workbench.evaluation.average_precision import accumulate
    from workbench.evaluation.image_ids import ranks_of_ids
    from workbench.evaluation.instance import AREA_RANGES, InstanceTally
    from workbench.evaluation.keeping import DETECTIONS, PER_IMAGE

    detections = pq.read_table(run / DETECTIONS, filters=[("geometry", "=", "segm")])
    images = pq.read_table(run / PER_IMAGE, filters=[("task", "=", "instance")])
    ids = images.filter(images["category_id"].to_numpy() < 0)["image_id"].to_pylist()
    position = {image_id: index for index, image_id in enumerate(ids)}
    by_category = images.filter(images["category_id"].to_numpy() >= 0)
    counts = np.array(by_category["gt_by_area"].to_pylist(), dtype=np.int64).reshape(-1, len(AREA_RANGES))
    tally = InstanceTally(
        image=np.array([position[i] for i in detections["image_id"].to_pylist()], dtype=np.int32),
        category=detections["category_id"].to_numpy(),
        rank=detections["rank"].to_numpy(),
        score=detections["score"].to_numpy(),
        tp=_bits(detections["tp"].to_pylist()),
        fp=_bits(detections["fp"].to_pylist()),
        gt_image=np.zeros(0, np.int32),
        gt_category=by_category["category_id"].to_numpy(),
        gt_countable=counts,  # type: ignore[arg-type]  # added up: a row here stands for all of its image and category
    )
    return accumulate(tally, category_ids, ranks_of_ids(ids))


def _bits(rows: list[bytes]) -> NDArray[np.uint8]:
    return np.frombuffer(b"".join(rows), dtype=np.uint8).reshape(len(rows), -1)
