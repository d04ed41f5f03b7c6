"""Which folder a prediction goes to: the same command again resumes its run, another command never touches it."""

import re
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

from workbench.errors import RunError
from workbench.runs import DEFAULT_ROOT, MANIFEST, Run, is_free


def run_name(dataset: str, task: str, model: str) -> str:
    """`<dataset>-<task>-<model>`, in characters that every file system takes."""
    return re.sub(r"[^\w.-]+", "_", f"{dataset}-{task}-{model}").strip("_.")


def choose_folder(name: str, identity: Mapping[str, Any], resume: bool, root: Path = DEFAULT_ROOT) -> Path:
    """The first of `name`, `name-2`, `name-3`, ... below `root` that is free, or that holds a run of this identity.

    Without `resume` the first free one.
    """
    for folder in _candidates(root / name):
        if is_free(folder) or (resume and _identity(folder) == identity):
            return folder
    raise AssertionError("unreachable: there is always another number")


def _candidates(first: Path) -> Iterator[Path]:
    yield first
    for number in count(2):
        yield first.with_name(f"{first.name}-{number}")


def _identity(folder: Path) -> Any:
    """The identity of the run in a folder, None where there is no readable run."""
    if not (folder / MANIFEST).exists():
        return None
    try:
        return Run.open(folder).manifest.get("identity")
    except RunError:
        return None
