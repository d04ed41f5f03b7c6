"""The types of error and the slices of metrics.json as tables for the terminal."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from workbench.cli.tables import table

if TYPE_CHECKING:
    from rich.table import Table

_SHOWN_OF_SLICES = ("pq", "sq", "rq", "AP", "AP50", "bbox_AP", "miou", "aacc")
_SPECIAL = {"false_positive": "all false positives", "false_negative": "all misses"}


def error_tables(metrics: Mapping[str, Any]) -> Iterator["Table"]:
    """How many segments have each type of error; for instances what it costs."""
    for task, part in metrics["errors"].items():
        if not part:
            continue
        types = [name for name in part["prediction"] if part["prediction"][name] or part["ground_truth"][name]]
        rows = [
            (name, {"predictions": part["prediction"][name], "ground truth": part["ground_truth"][name]})
            for name in types
        ]
        yield table(f"Types of error ({task})", ("predictions", "ground truth"), rows)
        for geometry, tide in part.get("tide", {}).items():
            special = [(shown, {"count": None, "dap": tide["special"][key]}) for key, shown in _SPECIAL.items()]
            title = f"AP at IoU 0.5 that each type costs ({geometry})"
            yield table(title, ("count", "dap"), [*tide["types"].items(), *special])
    for task, part in metrics["calibration"].items():
        if part:
            yield table(f"Scores and precision ({task})", ("ece", "max_gap", "n"), [("all", part)])


def slice_tables(metrics: Mapping[str, Any]) -> Iterator["Table"]:
    """The main numbers of every slice."""
    for by, parts in metrics["slices"].items():
        columns = [name for name in ("images", *_SHOWN_OF_SLICES) if any(part.get(name) is not None for part in parts)]
        rows = [(part["slice"], {name: part.get(name) for name in columns}) for part in parts]
        yield table(f"By {by}", columns, rows)
