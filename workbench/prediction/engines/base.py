"""What every engine is: told what its workers need to know, then given batches, whose rows it hands on in order."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch

from workbench.prediction.engines.work import WorkerSpec
from workbench.prediction.interrupt import StopRequest
from workbench.prediction.model import Note
from workbench.prediction.pipeline import Batch, Sink
from workbench.prediction.profiling import Profile


class Started(Protocol):
    """An engine whose workers are there, or on their way."""

    def run(self, batches: Sequence[Batch], sink: Sink, stop: StopRequest) -> None:
        """Predict the batches until all are done or a stop is requested; `sink` gets them in order.

        Whatever ends it, `sink` has got whole batches from the first on, without a gap, and its `commit` was called.
        Raises WorkbenchError or EomtError where a batch cannot be predicted, and EngineError where workers were lost
        again and again.
        """

    @property
    def batch_size(self) -> int:
        """Of the forward passes by now: the smallest of all workers."""

    def profile(self, images: int) -> dict[str, Any] | None:
        """What `Profile.result` gives, of all workers together."""


class Engine(Protocol):
    """Where a prediction's workers run."""

    name: str
    num_workers: int
    devices: Sequence[str]
    """Of the workers, each named once."""
    where: str
    """The same, for people."""
    device: torch.device
    """It decides what `auto` means for the dtype and the batch size."""
    readers: int
    """Threads of each worker that read images."""

    def started(self, spec: WorkerSpec, note: Note, profile: Profile) -> AbstractContextManager[Started]:
        """The engine at work for the block. `profile` is this process's; `note` tells the user something."""
