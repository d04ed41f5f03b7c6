"""The reasons behind the numbers, counted from the match table: error types, what they cost, calibration."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from workbench.evaluation.calibration import calibration_json
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


def read_matches(path: Path) -> pa.Table:
    """The columns of the match table that the reasons are counted from."""
    words = ["task", "kind", "status", "error_type"]
    table = pq.read_table(path, columns=[*words, "category_id", "score"], read_dictionary=words)  # 4 bytes a word
    return table.unify_dictionaries()


def error_table(matches: pa.Table, categories: Sequence[Category]) -> pa.Table:
    """How many segments of each category have each error type, as rows of `ERROR_SCHEMA`."""
    about = {category.category_id: (category.name, category.isthing) for category in categories}
    keys = ["task", "category_id", "kind", "error_type"]
    counted = matches.group_by(keys).aggregate([([], "count_all")])
    counted = pa.table({name: _plain(counted[name]) for name in counted.column_names})
    counted = counted.sort_by([(key, "ascending") for key in keys])
    segments = [about.get(category_id, ("void", False)) for category_id in counted["category_id"].to_pylist()]
    columns = {key: counted[key] for key in keys} | {
        "name": pa.array([name for name, _ in segments], pa.string()),
        "isthing": pa.array([isthing for _, isthing in segments], pa.bool_()),
        "count": counted["count_all"],
    }
    return pa.table({field.name: columns[field.name] for field in ERROR_SCHEMA}, schema=ERROR_SCHEMA)


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


def calibrations_json(matches: pa.Table) -> Json:
    """What metrics.json holds under `calibration`: by task, null where there are no scores from 0 to 1."""
    return {task: _calibration(matches, task) for task in ("panoptic", "instance")}


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Words instead of numbers of words."""
    return column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column


def _calibration(matches: pa.Table, task: str) -> Json | None:
    counts = pc.is_in(matches["status"], pa.array(["tp", "fp"]))
    scored = pc.and_(pc.equal(matches["kind"], "prediction"), pc.equal(matches["task"], task))
    rows = matches.filter(pc.and_(counts, scored))
    right = np.asarray(pc.equal(rows["status"], "tp").to_numpy(), dtype=np.bool_)
    return calibration_json(rows["score"].to_numpy().astype(np.float64), right)


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
