"""Where the workbench keeps what it can compute again: `$WORKBENCH_CACHE`, or `~/.cache/workbench`."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """The folder; it may not exist yet."""
    named = os.environ.get("WORKBENCH_CACHE")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "workbench"
