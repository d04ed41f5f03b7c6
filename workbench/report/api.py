"""`report`: evaluated runs as a folder with index.html, report.md and report.json."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from workbench import catalog
from workbench.errors import OptionError, RunError
from workbench.evaluation.compare import evaluated
from workbench.evaluation.evaluation import Progress
from workbench.evaluation.resampling import Bootstrap
from workbench.formats import open_dataset
from workbench.formats.base import Dataset
from workbench.report.comparison import Pair, compare_with_first
from workbench.report.content import RunContent, gather, matched_task
from workbench.report.findings import findings
from workbench.report.galleries import Gallery, draw_galleries
from workbench.report.markdown import markdown
from workbench.report.page import page
from workbench.runs import Run
from workbench.storage import plain_path

ROOT = Path("reports")
HTML, MARKDOWN, JSON = "index.html", "report.md", "report.json"
TILES = 6
_VERSION = 1


@dataclass(frozen=True)
class Report:
    """A report on disk."""

    folder: Path
    contents: tuple[RunContent, ...] = field(repr=False)

    @property
    def html(self) -> Path:
        """The page."""
        return self.folder / HTML


def report(
    runs: Sequence[Run | str | os.PathLike[str]] = (),
    out: str | os.PathLike[str] | None = None,
    dataset: Dataset | str | None = None,
    tiles: int = TILES,
    progress: Progress | None = None,
) -> Report:
    """Write the report of a run (none named: the newest), or of several compared with the first.

    Runs that are not evaluated yet are evaluated first, with intervals. `out` is a folder, reports/<name of the run> if
    None; an earlier report there is replaced, other files stay. `tiles` limits the pictures of each gallery; 0 for
    none. Raises RunError, DatasetError and EvaluationError where runs or data cannot be used, OptionError for a
    negative `tiles`.
    """
    if tiles < 0:
        raise OptionError(f"tiles is {tiles}; it is 0 (no pictures) or more.")
    opened = [run if isinstance(run, Run) else Run.open(run) for run in runs] or [Run.newest()]
    given = open_dataset(catalog.find(dataset)) if isinstance(dataset, str) else dataset
    metrics = [evaluated(run, given, progress, Bootstrap()) for run in opened]
    truth = [given or open_dataset(run.dataset) for run in opened]
    parts = []
    for run, found, data in zip(opened, metrics, truth, strict=True):
        galleries = draw_galleries(run, data, matched_task(run, found), tiles)
        parts.append((gather(run, found, data), galleries))
    pairs: tuple[Pair, ...] = ()
    if len(opened) > 1:
        pairs = compare_with_first(opened, given, tiles, matched_task(opened[0], metrics[0]), truth[0], progress)
    folder = plain_path(out) if out is not None else ROOT / "-vs-".join(content.name for content, _ in parts)
    contents = tuple(content for content, _ in parts)
    _write(
        folder,
        {
            HTML: page(parts, pairs),
            MARKDOWN: markdown(contents, pairs),
            JSON: json.dumps(_json(parts, pairs), indent=2, ensure_ascii=False, allow_nan=False) + "\n",
        },
    )
    return Report(folder, contents)


def _json(parts: Sequence[tuple[RunContent, Sequence[Gallery]]], pairs: Sequence[Pair]) -> dict[str, Any]:
    """The page's content, pictures by what they show."""
    return {
        "version": _VERSION,
        "runs": [
            {
                **_content_json(content),
                "findings": findings(content),
                "galleries": [_gallery_json(gallery) for gallery in galleries],
            }
            for content, galleries in parts
        ],
        "comparisons": [{"run": pair.name, "main": pair.main, **_portable(pair.report)} for pair in pairs],
    }


def _content_json(content: RunContent) -> dict[str, Any]:
    plain = asdict(content)
    if content.curves is not None:
        lines = {f"{iou:g}": values.tolist() for iou, values in content.curves.precision.items()}
        plain["curves"] = {**plain["curves"], "recall": content.curves.recall.tolist(), "precision": lines}
    return plain


def _gallery_json(gallery: Gallery) -> dict[str, Any]:
    tiles = [{"image_id": tile.image_id, "title": tile.title, "details": tile.details} for tile in gallery.tiles]
    return {"name": gallery.name, "title": gallery.title, "total": gallery.total, "tiles": tiles}


def _portable(comparison: Mapping[str, Any]) -> dict[str, Any]:
    """Without the folders of this machine."""
    names = {key: Path(comparison[key]).resolve().name for key in ("a", "b")}
    dataset = {key: value for key, value in comparison["dataset"].items() if key != "definition"}
    return {**{key: value for key, value in comparison.items() if key != "notes"}, **names, "dataset": dataset}


def _write(folder: Path, texts: Mapping[str, str]) -> None:
    """Each file appears whole. Raises RunError where the folder cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            partial = folder / f".{name}.partial"
            partial.write_text(text, encoding="utf-8")
            partial.replace(folder / name)
    except OSError as error:
        raise RunError(f"{folder}: cannot be written ({error.strerror}). Name another folder with --out.") from error
