"""Reading a run's manifest: JSON by others' hands, held against what `runs.py` says of each key."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from workbench.errors import RunError
from workbench.formats.base import TASKS
from workbench.storage import shown, url_of

MANIFEST_VERSION = 1
MANIFEST = "run.json"


def read_manifest(file: Path) -> dict[str, Any]:
    """The manifest in a `run.json`. Raises RunError, naming file and key, for one that no run can have."""
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        there = file.parent.exists() or url_of(file.parent) is not None
        lacks = f"it has no {MANIFEST}" if there else "it does not exist"
        raise RunError(f"{shown(file.parent)}: not a run folder ({lacks}). `workbench predict` makes one.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{file}: not readable as JSON ({error}).") from error
    version = manifest.get("version") if isinstance(manifest, dict) else None
    if type(version) is not int:
        raise RunError(f"{file}: not a run manifest (it has no whole number under 'version').")
    if version > MANIFEST_VERSION:
        raise RunError(f"{file}: manifest version {version}; this workbench reads up to {MANIFEST_VERSION}. Upgrade.")
    for key, is_sound in _CHECKS.items():
        if not is_sound(manifest.get(key)):
            raise RunError(
                f"{file}: {key!r} is {_shown(manifest.get(key))}, which no run has. Copy the run again, or make it "
                "anew."
            )
    return dict(manifest)


def _is_dataset(value: Any) -> bool:
    texts = [value.get("name"), value.get("definition")] if isinstance(value, dict) else [None]
    return all(isinstance(text, str) and "\0" not in text for text in texts)


def _are_categories(value: Any) -> bool:
    return isinstance(value, list) and all(_is_category(entry) for entry in value)


def _is_category(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and type(entry.get("category_id")) is int
        and isinstance(entry.get("name"), str)
        and isinstance(entry.get("isthing"), bool)
        and _is_color(entry.get("color"))
    )


def _is_color(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(type(part) is int and 0 <= part <= 255 for part in value)


_CHECKS: dict[str, Callable[[Any], bool]] = {
    "dataset": _is_dataset,
    "task": lambda value: value in TASKS,
    "categories": _are_categories,
    "images": lambda value: value is None or (type(value) is int and value >= 0),
    "identity": lambda value: isinstance(value, dict),
    "provenance": lambda value: isinstance(value, dict),
}


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
