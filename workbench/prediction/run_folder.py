"""Which folder a prediction goes to: the same command again resumes its run, another command never touches it."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench.errors import RunError
from workbench.files.claims import first_fitting
from workbench.runs import DEFAULT_ROOT, Run, is_free
from workbench.storage import shown


def run_name(dataset: str, task: str, model: str) -> str:
    """`<dataset>-<task>-<model>`, in characters that every file system takes."""
    return re.sub(r"[^\w.-]+", "_", f"{dataset}-{task}-{model}").strip("_.")


def choose_folder(name: str, identity: Mapping[str, Any], resume: bool, root: Path = DEFAULT_ROOT) -> Path:
    """The first of `name`, `name-2`, `name-3`, ... below `root` that is free, or that holds a run of this identity.

    Without `resume` the first free one.
    """
    return first_fitting(
        root / name, lambda folder: is_free(folder) or (resume and bool(_identity(folder) == identity))
    )


def _identity(folder: Path) -> Any:
    """The identity of the run in a folder, None where there is no readable run."""
    try:
        return Run.open(shown(folder)).manifest.get("identity")
    except RunError:
        return None
