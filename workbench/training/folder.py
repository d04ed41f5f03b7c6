"""The folder of a training: `train.json` says what it is, so that the same command resumes it and no other touches it.

The keys of `train.json`, all JSON values: `version` of this layout, `status` ("incomplete" or "complete"), `dataset`
(its name), `task`, `classes` (names in class order), `steps`, `identity` (what decides the weights: a resume must
agree) and `provenance` (what does not: command, versions).
"""

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from workbench.errors import RunError
from workbench.files import claims
from workbench.runs import COMPLETE, INCOMPLETE, write_json
from workbench.training.plan import TrainingPlan, provenance

DEFAULT_ROOT = Path("trainings")
MANIFEST = "train.json"
_VERSION = 1
_CLAIM = claims.Claim("training", MANIFEST)


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
    return claims.first_fitting(
        root / name,
        lambda folder: _CLAIM.is_free(folder) or (resume and (read(folder) or {}).get("identity") == identity),
    )


def read(folder: Path) -> dict[str, Any] | None:
    """The manifest in a folder, None where there is none. Raises RunError for one that cannot be read."""
    file = folder / MANIFEST
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{file}: not readable as JSON ({error}).") from error
    if not isinstance(content, dict) or content.get("version") != _VERSION:
        raise RunError(f"{file}: not a training of layout {_VERSION}. Name another folder with --out.")
    if not isinstance(content.get("identity"), dict) or content.get("status") not in (COMPLETE, INCOMPLETE):
        raise RunError(f"{file}: it lacks the identity or the status of a training. Name another folder with --out.")
    return content


def begin(folder: Path, wanted: Mapping[str, Any], resume: bool) -> bool:
    """Make the folder for a training, or check that it holds this one; returns whether that is complete already.

    Raises RunError where the folder holds something else, a training made differently (naming each difference), or any
    training where not `resume`.
    """
    there = read(folder)
    if there is None:
        _CLAIM.refuse_foreign(folder)
        write_json(folder / MANIFEST, wanted)
        return False
    if not resume:
        raise RunError(f"{folder}: a training is there already. Name another folder with --out, or --resume it.")
    _CLAIM.check_identity(folder, there["identity"], wanted["identity"])
    return bool(there["status"] == COMPLETE)


def finish(folder: Path) -> None:
    """Mark the training as complete."""
    write_json(folder / MANIFEST, {**(read(folder) or {}), "status": COMPLETE})


def lock(folder: Path) -> AbstractContextManager[None]:
    """Hold the folder, made if need be, for one training. Raises RunError where that is impossible."""
    return _CLAIM.lock(folder)
