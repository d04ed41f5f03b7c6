"""What a conversion of a checkpoint wrote, and of what."""

from dataclasses import dataclass
from pathlib import Path

from workbench.formats.base import Task
from workbench.models.form import Form


@dataclass(frozen=True)
class Conversion:
    """What was written."""

    folder: Path
    source: str
    form: Form
    """Of the source."""
    task: Task | None
    parameters: int
    dtype: str
    largest_difference: float
    """Between the logits of the source in float32 and of the weights as written, on a random input; 0 where the dtype
    holds the source's numbers exactly."""
    source_sha256: str
    weights_sha256: str
