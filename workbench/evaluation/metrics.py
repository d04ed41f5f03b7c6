"""Results as the documented JSON object, and as a tidy table of every category's numbers.

Values are fractions; None (null) stands where a value does not exist, never -1 or NaN.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from math import isfinite
from typing import Any

import pyarrow as pa

from workbench.evaluation.average_precision import InstanceResult
from workbench.evaluation.boundary_passes import BoundarySemantic
from workbench.evaluation.instance import Geometry
from workbench.evaluation.panoptic import PanopticMean, PanopticResult
from workbench.evaluation.semantic import SemanticResult
from workbench.formats.base import Category

Json = dict[str, Any]

PER_CATEGORY_SCHEMA = pa.schema(
    [
        pa.field("task", pa.string(), nullable=False),
        pa.field("geometry", pa.string()),  # "segm", "bbox" or "boundary" for instances; "boundary" or null otherwise
        pa.field("category_id", pa.int32(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("isthing", pa.bool_(), nullable=False),
        pa.field("metric", pa.string(), nullable=False),
        pa.field("value", pa.float64()),  # a fraction or a count
    ]
)


def metrics_json(
    panoptic: PanopticResult | None,
    instance: Mapping[Geometry, InstanceResult] | None,
    semantic: SemanticResult | None,
    categories: Sequence[Category],
) -> Json:
    """The object under the documented keys `panoptic`, `instance` and `semantic`, null for what was not scored."""
    return {
        "panoptic": None if panoptic is None else panoptic_json(panoptic, categories),
        "instance": None if instance is None else instance_json(instance, categories),
        "semantic": None if semantic is None else semantic_json(semantic, categories),
    }


def add_boundary(
    metrics: Json,
    panoptic: PanopticResult | None,
    semantic: BoundarySemantic | None,
    categories: Sequence[Category],
) -> None:
    """What outlines give, under `boundary` of `panoptic` and `semantic`; instances have it among their geometries."""
    if panoptic is not None:
        metrics["panoptic"]["boundary"] = panoptic_json(panoptic, categories)
    if semantic is not None:
        columns = {name: getattr(semantic, name) for name in ("iou", "intersection", "gt_pixels", "pred_pixels")}
        metrics["semantic"]["boundary"] = {"miou": semantic.miou, "per_category": _per_category(categories, columns)}


def panoptic_json(result: PanopticResult, categories: Sequence[Category]) -> Json:
    """`all`, `things`, `stuff` and `per_category` of PQ; classes that never occur have null."""
    pq, sq, rq = result.qualities()
    columns = {
        "pq": pq,
        "sq": sq,
        "rq": rq,
        "tp": result.tp,
        "fp": result.fp,
        "fn": result.fn,
        "iou_sum": result.iou_sum,
    }
    return {
        "all": _mean(result.mean()),
        "things": _mean(result.mean(isthing=True)),
        "stuff": _mean(result.mean(isthing=False)),
        "per_category": _per_category(categories, columns),
    }


def instance_json(results: Mapping[Geometry, InstanceResult], categories: Sequence[Category]) -> Json:
    """COCO's 12 numbers under `segm` and `bbox` (null for one that cannot be scored), each with `per_category`."""
    scored: Json = {"segm": None, "bbox": None}
    for geometry, result in results.items():
        summaries = [result.summary(k) for k in range(len(categories))]
        columns: dict[str, Iterable[Any]] = {name: [each[name] for each in summaries] for name in result.summary()}
        columns["gt"] = result.gt[:, 0]
        scored[geometry] = {**result.summary(), "per_category": _per_category(categories, columns)}
    return scored


def semantic_json(result: SemanticResult, categories: Sequence[Category]) -> Json:
    """mIoU and accuracies. `miou` runs over the `n` classes in ground truth or predictions; other means beside it."""
    columns = {
        "iou": result.iou,
        "acc": result.accuracy,
        "intersection": result.intersection,
        "union": result.union,
        "gt_pixels": result.gt_pixels,
    }
    return {
        "miou": result.miou,
        "aacc": result.aacc,
        "macc": result.macc,
        "n": int((result.union > 0).sum()),
        "miou_all_classes": result.miou_all_classes,
        "n_all_classes": len(result.category_ids),
        "miou_in_gt": result.miou_in_gt,
        "n_in_gt": int((result.gt_pixels > 0).sum()),
        "per_category": _per_category(categories, columns),
    }


def per_category_table(metrics: Mapping[str, Any]) -> pa.Table:
    """Every category's numbers as one row each, from the three objects above under their task's name."""
    rows: list[tuple[Any, ...]] = []
    for task in ("panoptic", "instance", "semantic"):
        scored = metrics[task]
        parts = [(None, scored), ("boundary", scored.get("boundary"))] if scored else []
        for geometry, part in scored.items() if task == "instance" and scored else parts:
            for category_id, numbers in (part or {"per_category": {}})["per_category"].items():
                about = (int(category_id), numbers["name"], numbers["isthing"])
                values = [(metric, value) for metric, value in numbers.items() if metric not in ("name", "isthing")]
                rows.extend((task, geometry, *about, metric, value) for metric, value in values)
    columns = zip(*rows, strict=True) if rows else [()] * len(PER_CATEGORY_SCHEMA)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, PER_CATEGORY_SCHEMA, strict=True)]
    return pa.Table.from_arrays(arrays, schema=PER_CATEGORY_SCHEMA)


def _per_category(categories: Sequence[Category], columns: Mapping[str, Iterable[Any]]) -> dict[str, Json]:
    """Category id -> name, isthing and its value of each column."""
    rows = zip(*(map(_plain, column) for column in columns.values()), strict=True)
    return {
        str(category.category_id): {
            "name": category.name,
            "isthing": category.isthing,
            **dict(zip(columns, row, strict=True)),
        }
        for category, row in zip(categories, rows, strict=True)
    }


def _mean(mean: PanopticMean) -> Json:
    return {name: _plain(value) for name, value in asdict(mean).items()}


def _plain(value: Any) -> int | float | None:
    """A number of JSON's kind; None for NaN, and for the infinite IoU that a declared area of 0 can give."""
    number: int | float | None = value.item() if hasattr(value, "item") else value
    return number if number is None or isfinite(number) else None
