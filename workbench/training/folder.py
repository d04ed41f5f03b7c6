"""The folder of a training: `train.json` says what it is, so that the same command resumes it and no other touches it.

The keys of `train.json`, all JSON values: `version` of this layout, `status` ("incomplete" or "complete"), `dataset`
(its name), `task`, `classes` (names in class order), `steps`, `identity` (what decides the weights: a resume must
agree) and `provenance` (what does not: command, versions).
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from workbench.errors import RunError
from workbench.files.locks import exclusive
from workbench.runs import COMPLETE, INCOMPLETE, write_json
from workbench.training.plan import TrainingPlan, provenance

DEFAULT_ROOT = Path("trainings")
MANIFEST = "train.json"
_VERSION = 1
_LOCK = ".lock"


def manifest(plan: TrainingPlan, command: str) -> dict[str, Any]:
    """The manifest of a training that begins."""
    return {
        "version": _VERSION,
        "status": INCOMPLETE,
        "dataset": plan.dataset.definition.name,
        "val": None if plan.val is None else plan.val.definition.name,
        "task": plan.task,
        "classes": [category.name for category in plan.start.head.categories],
        "steps": plan.recipe.total_steps,
        "identity": json.loads(json.dumps(plan.identity())),  # as the file will hold it: tuples are lists there
        "provenance": provenance(command),
    }


def choose(name: str, identity: Mapping[str, Any], resume: bool, root: Path = DEFAULT_ROOT) -> Path:
    """The first of `name`, `name-2`, ... below `root` that is free, or with `resume` holds this very training."""
    for number in count(1):
        folder = root / (name if number == 1 else f"{name}-{number}")
        if _is_free(folder) or (resume and (read(folder) or {}).get("identity") == identity):
            return folder
    raise AssertionError("unreachable: there is always another number")


def read(folder: Path) -> dict[str, Any] | None:
    """The manifest in a folder, None where there is none. Raises RunError for one that cannot be read."""
    file = folder / MANIFEST
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise RunError(f"{file}: not readable as JSON ({error}).") from error
    if not isinstance(content, dict) or content.get("version") != _VERSION:
        raise RunError(f"{file}: not a training of layout {_VERSION}. Name another folder with --out.")
    return content


def begin(folder: Path, wanted: Mapping[str, Any], resume: bool) -> bool:
    """Make the folder for a training, or check that it holds this one; returns whether that is complete already.

    Raises RunError where the folder holds something else, a training made differently (naming each difference), or any
    training where not `resume`.
    """
    there = read(folder)
    if there is None:
        if not _is_free(folder):
            raise RunError(f"{folder}: not empty and no training. Name another folder with --out.")
        write_json(folder / MANIFEST, wanted)
        return False
    if not resume:
        raise RunError(f"{folder}: a training is there already. Name another folder with --out, or --resume it.")
    if differences := list(_differences(there["identity"], wanted["identity"])):
        raise RunError(
            f"{folder}: holds a training made differently, so it cannot be resumed: {'; '.join(differences)}. "
            "Name another folder with --out."
        )
    return bool(there["status"] == COMPLETE)


def finish(folder: Path) -> None:
    """Mark the training as complete."""
    write_json(folder / MANIFEST, {**(read(folder) or {}), "status": COMPLETE})


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold the folder, made if need be, for one training. Raises RunError where that is impossible."""
    with ExitStack() as held:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            held.enter_context(exclusive(folder / _LOCK, wait=False))
        except BlockingIOError:
            raise RunError(f"{folder}: another training is at work there. Wait for it, or stop it.") from None
        except OSError as error:
            raise RunError(
                f"{folder}: cannot be written ({error.strerror}). Name another folder with --out."
            ) from error
        yield


def _is_free(folder: Path) -> bool:
    own = {_LOCK, f".{MANIFEST}.partial"}
    return not folder.exists() or (folder.is_dir() and all(entry.name in own for entry in folder.iterdir()))


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            yield from _differences(before, after, f"{prefix}{key}.")
        elif before != after:
            yield f"{prefix}{key} is {before!r} there, {after!r} now"
