"""What a training leaves on disk: checkpoints that anyone can load, and the state from which it goes on.

    OUT/last/   the newest weights in the published layout: config.json, model.safetensors, preprocessor_config.json,
    OUT/best/   and a model card, README.md; `best` are those that scored highest in validation
    OUT/state.pt    weights, their average, optimizer and step, for a resume

Each is written beside its place and renamed into it when complete.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from workbench.errors import RunError
from workbench.store import sync_folder

LAST, BEST, STATE = "last", "best", "state.pt"


def replace_folder(place: Path, write: Callable[[Path], None]) -> None:
    """Put what `write` makes in the folder `place`; an earlier folder stays until the new one is whole.

    Between two renames there is a moment without `place`; the earlier folder is then `.<name>.old`.
    """
    partial, old = place.with_name(f".{place.name}.partial"), place.with_name(f".{place.name}.old")
    for left_over in (partial, old):
        if left_over.exists():
            shutil.rmtree(left_over)
    partial.mkdir(parents=True)
    write(partial)
    _sync(partial)
    if place.exists():
        place.rename(old)
    partial.rename(place)
    sync_folder(place.parent)
    if old.exists():
        shutil.rmtree(old)


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Write `state.pt` so that it is at every moment the old file or the new one, whole."""
    partial = folder / f".{STATE}.partial"
    with partial.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(folder / STATE)
    sync_folder(folder)


def load_state(folder: Path) -> dict[str, Any] | None:
    """What `save_state` wrote there last; None before that. Raises RunError for a file that cannot be read."""
    file = folder / STATE
    if not file.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # of a damaged archive: pickle, zip and torch raise what they like
        raise RunError(f"{file}: not readable ({error}). Delete {folder} and train again.") from error
    return state


def _sync(folder: Path) -> None:
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    sync_folder(folder)
