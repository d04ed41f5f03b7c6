"""Several runs side by side: every later run against the first, in pairs on the same images."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench.evaluation.compare import compare
from workbench.evaluation.evaluation import Progress
from workbench.evaluation.resampling import Bootstrap
from workbench.formats.base import Dataset, Task
from workbench.report.galleries import Drawer, Gallery, Tile
from workbench.runs import Run

Json = dict[str, Any]
_MOST_MOVED = 20
SHOWN = 0.0005
"""Differences from here on are not 0.0 when shown."""


@dataclass(frozen=True)
class Pair:
    """How one run differs from the first; `report` is what `workbench compare --json` prints."""

    name: str
    main: str
    counted: str
    report: Json = field(repr=False)
    changed: Gallery | None

    @property
    def notes(self) -> list[str]:
        """What the reader of the differences must know, folders of this machine not named."""
        names = {self.report[side]: Path(self.report[side]).resolve().name for side in ("a", "b")}
        notes: list[str] = self.report["notes"]
        for path, name in names.items():
            notes = [note.replace(path, name) for note in notes]
        return notes

    def moved(self) -> list[tuple[str, float, float | None, float | None]]:
        """(name, difference, low, high) of the categories that moved most, by falling difference."""
        rows = self.report["per_category"].get(self.counted, {})
        known = [(key, row) for key, row in rows.items() if abs(row["difference"] or 0.0) >= SHOWN]
        most = sorted(known, key=lambda item: -abs(item[1]["difference"]))[:_MOST_MOVED]
        ordered = sorted(most, key=lambda item: -item[1]["difference"])
        names = self.report["categories"]
        return [(names[key], row["difference"], *_ends(row["interval"])) for key, row in ordered]


def compare_with_first(
    runs: Sequence[Run],
    dataset: Dataset | None,
    count: int,
    task: Task,
    opened: Dataset,
    progress: Progress | None,
) -> tuple[Pair, ...]:
    """The pairs (first run, each later one), with a gallery of at most `count` images that changed most.

    `dataset` stands in for the runs' own; `opened` is the one that they were scored against. Raises EvaluationError for
    runs that cannot be compared.
    """
    pairs = []
    for run in runs[1:]:
        found = compare(runs[0], run, dataset, Bootstrap(), progress)
        changed = _changed(found.report["images"], (runs[0], run), opened, task, count) if count else None
        counted = "iou" if found.main == "miou" else found.main
        pairs.append(Pair(run.path.resolve().name, found.main, counted, found.report, changed))
    return tuple(pairs)


def _ends(interval: Json | None) -> tuple[float | None, float | None]:
    return (interval["low"], interval["high"]) if interval else (None, None)


def _changed(rows: Sequence[Json], runs: Sequence[Run], dataset: Dataset, task: Task, count: int) -> Gallery | None:
    chosen = [row for row in rows if row["difference"]][:count]
    if not chosen:
        return None
    drawer = Drawer(dataset, task, runs)
    sides = drawer.load(row["image_id"] for row in chosen)
    names = [run.path.resolve().name for run in runs]
    tiles = tuple(
        Tile(
            row["image_id"],
            f"Image {row['image_id']}",
            (f"{100 * row['a']:.1f} to {100 * row['b']:.1f} ({100 * row['difference']:+.1f})",),
            drawer.whole(row["image_id"], sides, ("Ground truth", *names)),
        )
        for row in chosen
    )
    about = "Images whose quality differs most between the two runs."
    return Gallery("changed", "Images that changed most", about, len(rows), tiles)
