"""What a training leaves on disk: checkpoints that anyone can load, and the state from which it goes on.

    OUT/last/   the newest weights in the published layout: config.json, model.safetensors, preprocessor_config.json,
    OUT/best/   and a model card, README.md; `best` are those that scored highest in validation
    OUT/state.pt    weights, their average, optimizer and step, for a resume

Each is written beside its place and renamed into it when complete.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from eomt.pickled_tensors import load_tensors
from workbench.errors import RunError
from workbench.files import replacing
from workbench.store import sync_folder

LAST, BEST, STATE = "last", "best", "state.pt"


def replace_folder(place: Path, write: Callable[[Path], None]) -> None:
    """Put what `write` makes in the folder `place`, as `replacing.new_folder`; the caller holds the training's lock."""
    replacing.remove_partials(place)
    with replacing.new_folder(place) as partial:
        write(partial)


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
    """What `save_state` wrote there last; None before that.

    Raises RunError for a file that cannot be read or is not of a training.
    """
    file = folder / STATE
    if not file.exists():
        return None
    try:
        state: dict[str, Any] = load_tensors(file)
    except Exception as error:  # of a damaged archive: pickle, zip and torch raise what they like
        raise RunError(f"{file}: not readable ({error}). Delete {folder} and train again.") from error
    if not isinstance(state, dict) or not isinstance(state.get("training"), dict) or "recent" not in state:
        raise RunError(f"{file}: not the state of a training. Delete {folder} and train again.")
    return state
