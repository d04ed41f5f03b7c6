"""The curve of a run that was swept: its main number over the threshold, read from sweep.json."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workbench.errors import RunError
from workbench.runs import Run

Point = tuple[float, float]
"""Threshold, and the number there as a fraction."""


@dataclass(frozen=True)
class ThresholdCurve:
    """One line, or two where the best setting has another overlap threshold than the run's own."""

    main: str
    """PQ or F1, as `pq` or `f1`."""
    lines: Mapping[str, tuple[Point, ...]]
    """By what to call each."""
    now: Point | None
    """None for imported instances, which had some threshold or none."""
    best: Point
    held_out: float | None
    """The number to expect of choosing thresholds this way on other images."""


def threshold_curve(run: Run, metrics: Mapping[str, Any]) -> ThresholdCurve | None:
    """None where the run was not swept, or was since made or labelled anew. Raises RunError for a damaged file."""
    file = run.path / "sweep.json"
    if not file.exists():
        return None
    try:
        return _curve(json.loads(file.read_text(encoding="utf-8")), run, metrics)
    except (OSError, ValueError, RecursionError, ArithmeticError, AttributeError, LookupError, TypeError) as error:
        raise RunError(
            f"{file}: cannot be read ({type(error).__name__}: {error}). Delete it, or run `workbench sweep {run.path}` "
            "again."
        ) from error


def _curve(swept: Mapping[str, Any], run: Run, metrics: Mapping[str, Any]) -> ThresholdCurve | None:
    made, scored = swept["provenance"], metrics["provenance"]
    same_labels = made["dataset"]["fingerprint"] == scored["dataset"]["fingerprint"]
    if made["run_identity"] != run.manifest.get("identity", {}) or not same_labels:
        return None
    main, now, best = swept["main"], swept["current"], swept["best"]
    if best[main] is None:
        return None
    overlaps = dict.fromkeys(each.get("overlap_threshold") for each in (now, best) if each)
    lines = {
        "F1 at IoU 0.5" if overlap is None else f"overlap threshold {overlap:g}": tuple(
            (point["threshold"], point[main])
            for point in swept["points"]
            if point.get("overlap_threshold") == overlap and point[main] is not None
        )
        for overlap in overlaps
    }
    return ThresholdCurve(
        main,
        lines,
        (now["threshold"], now[main]) if now and now[main] is not None else None,
        (best["threshold"], best[main]),
        (swept["held_out"] or {}).get(main),
    )
