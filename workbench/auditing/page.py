"""An audit as one HTML page: the most suspicious labels with pictures of label and prediction side by side."""

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from workbench.auditing.api import TOP, Audit
from workbench.auditing.kinds import TITLES, Kind
from workbench.errors import RunError
from workbench.files.replacing import new_file
from workbench.report.api import HTML, ROOT
from workbench.report.galleries import Drawer, Tile
from workbench.report.page import rendered
from workbench.report.selection import ErrorExample
from workbench.storage import plain_path
from workbench.voxel51.names import ground_truth_field

_IMAGES = 10


def write_page(
    audit: Audit, out: str | os.PathLike[str] | None = None, top: int = TOP, kinds: Sequence[Kind] = ()
) -> Path:
    """Write index.html into the folder `out` (None: reports/<run>-audit) and return its path.

    It shows the first `top` rows, of those kinds (none named: all). Raises RunError where it cannot be written.
    """
    folder = plain_path(out) if out is not None else ROOT / f"{audit.run.path.resolve().name}-audit"
    try:
        with new_file(folder / HTML) as partial:
            partial.write_text(audit_page(audit, top, kinds), encoding="utf-8")
    except OSError as error:
        raise RunError(f"{folder}: cannot be written ({error.strerror}). Name another folder with --out.") from error
    return folder / HTML


def audit_page(audit: Audit, top: int = TOP, kinds: Sequence[Kind] = ()) -> str:
    """The HTML."""
    rows = [{**row, "title": TITLES[row["kind"]][0]} for row in audit.top(top, kinds)]
    tiles = _tiles(audit, rows)
    shown = {row[key] for row in rows for key in ("category_id", "suggested_category_id")}
    counts = audit.summary["kinds"]
    return rendered(
        "audit.html.j2",
        title=f"Label suspects of {audit.dataset.definition.name}",
        subtitle=f"What the run {audit.run.path.resolve().name} says against {audit.summary['labels']:,} "
        f"{audit.task} labels of {audit.summary['images']:,} images",
        suspects=sum(each["suspects"] for each in counts.values()),
        labels=audit.summary["labels"],
        suspect_from=audit.summary["suspect_from"],
        kinds=[{"title": title, "meaning": meaning, **counts[kind]} for kind, (title, meaning) in TITLES.items()],
        notes=audit.summary["notes"],
        rows=rows,
        ranked=len(audit.table),
        tiles=tiles,
        categories=[category for category in audit.dataset.categories if category.category_id in shown],
        images=audit.images.slice(0, _IMAGES).to_pylist(),
        commands=next_commands(audit),
    )


def next_commands(
    audit: Audit, run: str | None = None, dataset: str | None = None, pushed_as: str | None = None
) -> tuple[str, ...]:
    """From suspects to corrected labels; `run` and `dataset` as a user here would name them, else by name alone.

    `pushed_as` is the FiftyOne dataset, None for the one named after the dataset.
    """
    name = audit.dataset.definition.name
    field = ground_truth_field(audit.task, audit.dataset.tasks)
    home = ["workbench", "pull", "--dataset", dataset or name, "--field", field, "--out", f"{name}_fixed.toml"]
    named = [] if pushed_as is None else ["--name", pushed_as]
    return (
        shlex.join(["workbench", "audit", run or f"runs/{audit.run.path.resolve().name}", "--view", *named]),
        shlex.join(["fiftyone", "app", "launch", pushed_as or name]),
        shlex.join([*home, *named]),
    )


def _tiles(audit: Audit, rows: Sequence[Mapping[str, Any]]) -> list[Tile]:
    drawer = Drawer(audit.dataset, audit.task, [audit.run])
    truth, predictions = drawer.load(row["image_id"] for row in rows)
    return [
        Tile(
            row["image_id"],
            f"{row['rank']}. {_title(row)}",
            _details(row),
            drawer.crop(_example(row), truth, predictions),
        )
        for row in rows
    ]


def _title(row: Mapping[str, Any]) -> str:
    if row["kind"] == "missing":
        return f"{row['suggested_name']} not labelled"
    if row["kind"] == "wrong_class":
        return f"{row['name']}, rather {row['suggested_name']}"
    return f"{row['name']}: {row['title'].lower()}"


def _details(row: Mapping[str, Any]) -> tuple[str, ...]:
    return f"suspicion {row['suspicion']:.2f}", f"image {row['image_id']}", row["why"]


def _example(row: Mapping[str, Any]) -> ErrorExample:
    """The row as the galleries of reports draw errors: the label with its prediction, or a prediction alone."""
    missing = row["kind"] == "missing"
    return ErrorExample(
        image_id=row["image_id"],
        kind="prediction" if missing else "ground_truth",
        segment_id=row["pred_segment_id"] if missing else row["segment_id"],
        category_id=row["suggested_category_id"] if missing else row["category_id"],
        score=row["score"],
        area=row["area"],
        other_segment_id=None if missing or row["kind"] == "spurious" else row["pred_segment_id"],
        iou=row["iou"],
    )
