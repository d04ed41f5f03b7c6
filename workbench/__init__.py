"""The EoMT workbench: predict, evaluate, see and label segmentation data sets.

    run = workbench.predict("scenes_val")
    metrics = workbench.evaluate(run)
    frame = run.segments().to_pandas()

Names load their modules on first use, so that `import workbench` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.auditing.api import audit
    from workbench.errors import WorkbenchError
    from workbench.evaluation.compare import compare
    from workbench.evaluation.evaluation import evaluate
    from workbench.evaluation.resampling import Bootstrap
    from workbench.exports.api import export
    from workbench.imports.api import import_predictions
    from workbench.prediction.api import predict
    from workbench.runs import Run
    from workbench.sweeping.api import sweep
    from workbench.training.api import train

__version__ = "0.1.0"

_HOME = {
    "Bootstrap": "workbench.evaluation.resampling",
    "Run": "workbench.runs",
    "WorkbenchError": "workbench.errors",
    "audit": "workbench.auditing.api",
    "compare": "workbench.evaluation.compare",
    "evaluate": "workbench.evaluation.evaluation",
    "export": "workbench.exports.api",
    "import_predictions": "workbench.imports.api",
    "predict": "workbench.prediction.api",
    "sweep": "workbench.sweeping.api",
    "train": "workbench.training.api",
}

__all__ = [
    "Bootstrap",
    "Run",
    "WorkbenchError",
    "__version__",
    "audit",
    "compare",
    "evaluate",
    "export",
    "import_predictions",
    "predict",
    "sweep",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'workbench' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
