"""The reasons behind the numbers, counted from the match table: error types, what they cost, calibration."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from workbench.evaluation.calibration import Reliability, calibration_json
from workbench.evaluation.errors import MAP_TYPES
from workbench.evaluation.instance import Geometry
from workbench.evaluation.tide import INSTANCE_TYPES
from workbench.evaluation.tide_ap import TideResult
from workbench.formats.base import Category

Json = dict[str, Any]
KINDS = ("prediction", "ground_truth")
TYPES: Mapping[str, tuple[str, ...]] = {"panoptic": MAP_TYPES, "instance": INSTANCE_TYPES, "semantic": MAP_TYPES}

ERROR_SCHEMA = pa.schema(
    [
        pa.field("task", pa.string(), nullable=False),
        pa.field("category_id", pa.int32(), nullable=False),  # of the segment itself; -1 for void rows
        pa.field("name", pa.string(), nullable=False),  # "void" for them
        pa.field("isthing", pa.bool_(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),  # of KINDS
        pa.field("error_type", pa.string(), nullable=False),
        pa.field("count", pa.int64(), nullable=False),  # never 0
    ]
)


@dataclass(frozen=True)
class Reasons:
    """What is counted of a match table."""

    errors: Counter[tuple[str, int, str, str]]
    """How many segments there are of each task, category, kind and error type."""
    calibrations: Mapping[str, Reliability]
    """Scores of the predictions that count, by task."""


def read_reasons(path: Path) -> Reasons:
    """Count a match table, some of its rows at a time."""
    reasons = Reasons(Counter(), {task: Reliability() for task in ("panoptic", "instance")})
    keys = ["task", "category_id", "kind", "error_type"]
    with pq.ParquetFile(path, read_dictionary=["task", "kind", "status", "error_type"]) as file:
        for group in range(file.num_row_groups):
            rows = file.read_row_group(group, columns=[*keys, "status", "score"])
            counted = rows.group_by(keys).aggregate([([], "count_all")])
            columns = (counted[name].to_pylist() for name in (*keys, "count_all"))
            for *key, count in zip(*columns, strict=True):
                reasons.errors[tuple(key)] += count
            for task, scores in reasons.calibrations.items():
                _add_scores(scores, rows, task)
    return reasons


def error_table(reasons: Reasons, categories: Sequence[Category]) -> pa.Table:
    """How many segments of each category have each error type, as rows of `ERROR_SCHEMA`."""
    about = {category.category_id: (category.name, category.isthing) for category in categories}
    rows = [
        (task, category_id, *about.get(category_id, ("void", False)), kind, error_type, count)
        for (task, category_id, kind, error_type), count in sorted(reasons.errors.items())
    ]
    columns = zip(*rows, strict=True) if rows else [()] * len(ERROR_SCHEMA)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, ERROR_SCHEMA, strict=True)]
    return pa.Table.from_arrays(arrays, schema=ERROR_SCHEMA)


def errors_json(table: pa.Table, tide: Mapping[Geometry, TideResult] | None) -> Json:
    """What metrics.json holds under `errors`: by task, null for one without match table."""
    errors: Json = {}
    rows = table.to_pylist()
    for task, types in TYPES.items():
        of_task = [row for row in rows if row["task"] == task]
        errors[task] = _task_errors(of_task, types) if of_task or (task == "instance" and tide) else None
    if tide:
        errors["instance"]["tide"] = {geometry: _tide_json(result) for geometry, result in tide.items()}
    return errors


def calibrations_json(reasons: Reasons) -> Json:
    """What metrics.json holds under `calibration`: by task, null where there are no scores from 0 to 1."""
    return {task: calibration_json(scores) for task, scores in reasons.calibrations.items()}


def _add_scores(scores: Reliability, rows: pa.Table, task: str) -> None:
    counts = pc.is_in(rows["status"], pa.array(["tp", "fp"]))
    scored = pc.and_(pc.equal(rows["kind"], "prediction"), pc.equal(rows["task"], task))
    chosen = rows.filter(pc.and_(counts, scored))
    right = np.asarray(pc.equal(chosen["status"], "tp").to_numpy(), dtype=np.bool_)
    scores.add(chosen["score"].to_numpy().astype(np.float64), right)


def _task_errors(rows: list[Json], types: tuple[str, ...]) -> Json:
    counts = {kind: dict.fromkeys(types, 0) for kind in KINDS}
    per_category: dict[str, Json] = {}
    for row in rows:
        counts[row["kind"]][row["error_type"]] += row["count"]
        if row["category_id"] >= 0:
            empty = {"name": row["name"], "isthing": row["isthing"], **{kind: {} for kind in KINDS}}
            of_category = per_category.setdefault(str(row["category_id"]), empty)
            of_category[row["kind"]][row["error_type"]] = row["count"]
    return {**counts, "per_category": per_category}


def _tide_json(result: TideResult) -> Json:
    types = {name: {"count": result.counts[name], "dap": result.dap[name]} for name in result.counts}
    special = {"false_positive": result.false_positive, "false_negative": result.false_negative}
    return {"ap50": result.ap, "types": types, "special": special}
