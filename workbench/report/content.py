"""What a report says of one run, as plain data: read from the files that `evaluate` left, nothing is scored here."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow.parquet as pq

from workbench.evaluation.confusion import NOTHING
from workbench.evaluation.headlines import headlines, main_headline
from workbench.formats.base import Dataset, Task
from workbench.report.curves import PrecisionRecall, SizeSlice, precision_recall, size_slices
from workbench.report.provenance import commands, facts, without_folders
from workbench.report.thresholds import ThresholdCurve, threshold_curve
from workbench.report.words import ERROR_TYPES, label
from workbench.runs import Run

Json = dict[str, Any]


@dataclass(frozen=True)
class Number:
    """One headline number, as a fraction; `low` and `high` are None without an interval."""

    name: str
    label: str
    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class CategoryRow:
    """One line of the table of categories; `values` by the name of the column."""

    category_id: int
    name: str
    isthing: bool
    color: tuple[int, int, int]
    main: Number
    values: Mapping[str, float | int | None]


@dataclass(frozen=True)
class ErrorRow:
    """How many predictions and ground-truth segments have one error type; `dap` is the AP that it costs (instances)."""

    name: str
    label: str
    meaning: str
    predictions: int
    ground_truth: int
    dap: float | None = None
    most: tuple[str, int] | None = None
    """The category that has it most often, on the side that has it more often, and how often."""


@dataclass(frozen=True)
class Confused:
    """A cell of the confusion matrix off its diagonal or on it; None stands for nothing there."""

    gt_category_id: int | None
    pred_category_id: int | None
    count: int


@dataclass(frozen=True)
class Slice:
    """The main number of a part of the images or segments; `images` is None where the part is one of segments."""

    name: str
    images: int | None
    main: Number


@dataclass(frozen=True)
class Absent:
    """What the report lacks, and the command that would give it."""

    what: str
    how: str


@dataclass(frozen=True)
class RunContent:
    """Everything that a report says of a run, but for its pictures."""

    name: str
    task: Task
    dataset: str
    images: int
    main: Number
    numbers: tuple[Number, ...]
    confidence: float | None
    categories: tuple[CategoryRow, ...]
    errors: tuple[ErrorRow, ...]
    confusion: tuple[Confused, ...]
    confusion_unit: str | None
    calibration: Mapping[str, Any] | None
    sizes: tuple[SizeSlice, ...]
    slices: Mapping[str, tuple[Slice, ...]]
    """By what `evaluate --by` was given."""
    curves: PrecisionRecall | None = field(repr=False)
    thresholds: ThresholdCurve | None = field(repr=False)
    """Where `workbench sweep` was run."""
    notes: tuple[str, ...]
    facts: Mapping[str, str]
    commands: tuple[str, ...]
    absent: tuple[Absent, ...]

    @property
    def category_names(self) -> dict[int, str]:
        """Name of every category id."""
        return {row.category_id: row.name for row in self.categories}


def gather(run: Run, metrics: Mapping[str, Any], dataset: Dataset) -> RunContent:
    """Read what a run's folder holds; `metrics` is the content of its metrics.json."""
    found = headlines(metrics)
    main, task = main_headline(run.task, found), matched_task(run, metrics)
    counted = "iou" if main == "miou" else main
    intervals = metrics.get("intervals") or {}
    numbers = {name: _number(name, value, intervals.get("headlines", {})) for name, value in found.items()}
    cells, unit = _confusion(run, task)
    return RunContent(
        name=run.path.resolve().name,
        task=run.task,
        dataset=dataset.definition.name,
        images=metrics["images"][task]["scored"],
        main=numbers[main],
        numbers=tuple(numbers.values()),
        confidence=intervals.get("confidence"),
        categories=tuple(_categories(run, metrics, dataset, counted, intervals.get("per_category", {}))),
        errors=tuple(_errors(metrics, task, counted)),
        confusion=cells,
        confusion_unit=unit,
        calibration=(metrics.get("calibration") or {}).get(task),
        sizes=size_slices(run.path, task),
        slices=_slices(metrics, main),
        curves=precision_recall(run.path, metrics),
        thresholds=threshold_curve(run, metrics),
        notes=tuple(note.replace(str(run.path), run.path.resolve().name) for note in metrics["notes"]),
        facts=facts(run, metrics),
        commands=commands(run, metrics),
        absent=tuple(_absent(run, metrics)),
    )


def matched_task(run: Run, metrics: Mapping[str, Any]) -> Task:
    """The ground truth that the run was matched with: of its own task, or the first that there is."""
    return run.task if run.task in metrics["images"] else next(iter(metrics["images"]))


def _number(name: str, value: float | None, intervals: Mapping[str, Any]) -> Number:
    ends = intervals.get(name) or {}
    return Number(name, label(name), value, ends.get("low"), ends.get("high"))


_TABLES: Mapping[str, tuple[tuple[str, ...], Mapping[str, str]]] = {
    "pq": (("panoptic",), {"pq": "pq", "sq": "sq", "rq": "rq", "tp": "tp", "fp": "fp", "fn": "fn"}),
    "AP": (("instance", "segm"), {"AP": "AP", "AP50": "AP50", "AP75": "AP75", "gt": "gt"}),
    "bbox_AP": (("instance", "bbox"), {"bbox_AP": "AP", "AP50": "AP50", "AP75": "AP75", "gt": "gt"}),
    "iou": (("semantic",), {"iou": "iou", "acc": "acc", "gt_pixels": "gt_pixels"}),
}
_BESIDE = {"AP": ("instance", "segm"), "iou": ("semantic",)}
"""Columns of other metrics beside the main one's: by column, where metrics.json has its categories."""


def _categories(
    run: Run, metrics: Mapping[str, Any], dataset: Dataset, counted: str, intervals: Mapping[str, Any]
) -> Iterator[CategoryRow]:
    """The categories that occur in ground truth or predictions, those of the dataset's order."""
    path, columns = _TABLES[counted]
    rows = _per_category(metrics, path)
    colors = {category.category_id: category.color for category in (*run.categories, *dataset.categories)}
    beside = {name: _per_category(metrics, where) for name, where in _BESIDE.items() if name not in columns}
    for key, row in rows.items():
        values = {column: row[source] for column, source in columns.items()}
        values |= {column: found.get(key, {}).get(column) for column, found in beside.items() if found}
        if all(value in (None, 0) for value in values.values()):
            continue
        main = _number(counted, values[counted], {counted: intervals.get(counted, {}).get(key)})
        color = colors.get(int(key), (128, 128, 128))
        yield CategoryRow(int(key), row["name"], row["isthing"], color, main, values)


def _per_category(metrics: Mapping[str, Any], path: tuple[str, ...]) -> Mapping[str, Any]:
    part: Any = metrics
    for key in path:
        part = (part or {}).get(key)
    return part["per_category"] if part else {}


def _errors(metrics: Mapping[str, Any], task: Task, counted: str) -> Iterator[ErrorRow]:
    """The types that occur, right ones and ignored ones left out."""
    found = (metrics.get("errors") or {}).get(task)
    if not found:
        return
    geometry = "bbox" if counted == "bbox_AP" else "segm"
    costs = ((found.get("tide") or {}).get(geometry) or {}).get("types", {})
    for name, (title, meaning) in ERROR_TYPES.items():
        predictions, truth = (found[kind].get(name, 0) for kind in ("prediction", "ground_truth"))
        if predictions or truth:
            kind = "prediction" if predictions >= truth else "ground_truth"
            of_category = [(row["name"], row[kind].get(name, 0)) for row in found["per_category"].values()]
            most = max(of_category, key=lambda pair: pair[1], default=None)
            yield ErrorRow(name, title, meaning, predictions, truth, costs.get(name, {}).get("dap"), most)


def _confusion(run: Run, task: Task) -> tuple[tuple[Confused, ...], str | None]:
    """The cells of the run's own task, and what they count."""
    file = run.path / "confusion.parquet"
    if not file.exists():
        return (), None
    rows = [row for row in pq.read_table(file).to_pylist() if row["task"] == task]
    cells = tuple(
        Confused(_known(row["gt_category_id"]), _known(row["pred_category_id"]), row["count"]) for row in rows
    )
    return cells, rows[0]["unit"] if rows else None


def _known(category_id: int) -> int | None:
    return None if category_id == NOTHING else category_id


def _slices(metrics: Mapping[str, Any], main: str) -> dict[str, tuple[Slice, ...]]:
    """The main number of each slice; a CSV's folder is left out."""
    return {
        str(without_folders(by)): tuple(
            Slice(row["slice"], row["images"], _number(main, row.get(main), {})) for row in rows
        )
        for by, rows in (metrics.get("slices") or {}).items()
    }


def _absent(run: Run, metrics: Mapping[str, Any]) -> Iterator[Absent]:
    again = f"workbench evaluate {_shown_folder(run)}"
    if not metrics.get("intervals"):
        yield Absent("Confidence intervals", f"{again} --confidence")
    if "errors" not in metrics:
        yield Absent("Error types", again)
    if "calibration" not in metrics and run.task != "semantic":
        yield Absent("Calibration of scores", again)
    if not (run.path / "confusion.parquet").exists():
        yield Absent("Confusion between categories", again)


def _shown_folder(run: Run) -> str:
    return f"runs/{run.path.resolve().name}"
