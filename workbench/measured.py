"""Reading metrics.json: JSON that others may have written or cut, held against what `workbench evaluate` writes there.

The shape of a value is a check, a dictionary of shapes by key (`?` before a key that may be missing, or null), or
`_Each`, one shape for all entries. Unknown keys are let through: a newer version may have more.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from workbench.errors import RunError


def read_metrics(file: Path, place: str) -> dict[str, Any]:
    """What is in a run's metrics.json. Raises RunError, naming file, key and remedy, for what no evaluation writes."""
    remedy = f"Run `workbench evaluate {place}` again."
    try:
        metrics = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{file}: not readable as JSON ({error}). {remedy}") from error
    if (wrong := _first_wrong(metrics, _METRICS, "")) is not None:
        raise RunError(f"{file}: {wrong}, which no evaluation writes. {remedy}")
    return dict(metrics)


@dataclass(frozen=True)
class _Each:
    """A dictionary whose values all have one shape."""

    shape: Any
    by_id: bool = False
    """Whether its keys are the ids of categories."""


def _first_wrong(value: Any, shape: Any, where: str) -> str | None:
    """What is wrong in a value; None where nothing is."""
    if callable(shape):
        return None if shape(value) else f"{where} is {_shown(value)}"
    if not isinstance(value, dict):
        return f"{where or 'it'} is {_shown(value)} and no object"
    for key, inner, part in _parts(value, shape):
        if part is _MISSING:
            return f"{key!r} is missing in {where or 'it'}"
        if (wrong := _first_wrong(part, inner, f"{where}.{key}" if where else key)) is not None:
            return wrong
    if isinstance(shape, _Each) and shape.by_id and (strange := [key for key in value if not _is_id(key)]):
        return f"{where} has the key {_shown(strange[0])}, which is no category's id"
    return None


def _parts(value: Mapping[str, Any], shape: Any) -> list[tuple[str, Any, Any]]:
    """(key, shape, value or _MISSING) of what is to be looked at."""
    if isinstance(shape, _Each):
        return [(key, shape.shape, part) for key, part in value.items()]
    found = []
    for name, inner in shape.items():
        key = name.removeprefix("?")
        if key == name or value.get(key) is not None:
            found.append((key, inner, value.get(key, _MISSING)))
    return found


def _is_id(key: str) -> bool:
    digits = key.removeprefix("-")
    return digits.isascii() and digits.isdecimal() and len(digits) < 10


def _is_number(value: Any) -> bool:
    """A finite number, or null for a value that does not exist."""
    return value is None or (type(value) in (int, float) and isfinite(value))


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _of(kind: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kind)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _are_bins(value: Any) -> bool:
    return isinstance(value, list) and all(_first_wrong(entry, _BIN, "bin") is None for entry in value)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _numbers(*names: str) -> dict[str, Any]:
    return dict.fromkeys(names, _is_number)


_MISSING = object()
_ABOUT = {"name": _of(str), "isthing": _of(bool)}
_BIN = {"n": _is_count, **_numbers("low", "high", "score", "precision")}
_AP = _numbers("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
_MEAN = {**_numbers("pq", "sq", "rq"), "n": _is_count}
_PQ = {
    **dict.fromkeys(("all", "things", "stuff"), _MEAN),
    "per_category": _Each({**_ABOUT, **_numbers("pq", "sq", "rq", "tp", "fp", "fn", "iou_sum")}, by_id=True),
}
_INSTANCE = {**_AP, "per_category": _Each({**_ABOUT, **_AP, "gt": _is_count}, by_id=True)}
_OUTLINES = {"miou": _is_number, "per_category": _Each({**_ABOUT, "iou": _is_number}, by_id=True)}
_SEMANTIC = {
    **_numbers("miou", "aacc", "macc"),
    "per_category": _Each({**_ABOUT, **_numbers("iou", "acc", "intersection", "union", "gt_pixels")}, by_id=True),
    "?boundary": _OUTLINES,
}
_SIDES = {"prediction": _Each(_is_count), "ground_truth": _Each(_is_count)}
_COSTS = {"ap50": _is_number, "types": _Each(_numbers("count", "dap")), "special": _Each(_is_number)}
_ERRORS = {**_SIDES, "per_category": _Each({**_ABOUT, **_SIDES}, by_id=True), "?tide": _Each(_COSTS)}
_CALIBRATION = {**_numbers("ece", "max_gap"), "n": _is_count, "bins": _are_bins}
_TASKS = ("panoptic", "instance", "semantic")
_METRICS = {
    "?panoptic": {**_PQ, "?boundary": _PQ},
    "?instance": _Each(_INSTANCE),
    "?semantic": _SEMANTIC,
    "images": _Each(dict.fromkeys(("scored", "failed", "missing"), _is_count)),
    "notes": _are_texts,
    "provenance": {
        "dataset": {"name": _of(str), "fingerprint": _of(str)},
        "versions": _Each(_of(str)),
        "evaluated": _of(str),
    },
    "mode": lambda value: value in ("strict", "corrected"),
    "?errors": {f"?{task}": _ERRORS for task in _TASKS},
    "?calibration": {f"?{task}": _CALIBRATION for task in _TASKS},
    "?intervals": _of(dict),
    "?slices": _of(dict),
}
