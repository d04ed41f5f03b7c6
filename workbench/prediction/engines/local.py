"""The engine of one process on one device: threads that read, run the model and write side by side."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from workbench.prediction.engines.work import WorkerSpec, load_predictor, run_with
from workbench.prediction.interrupt import StopRequest
from workbench.prediction.model import Note, Predictor
from workbench.prediction.pipeline import Batch, Sink, one_after_another
from workbench.prediction.profiling import Profile


class LocalEngine:
    """Predicts in this process."""

    name = "local"
    num_workers = 1

    def __init__(self, device: torch.device, readers: int) -> None:
        self.device, self.readers = device, readers
        self.devices: Sequence[str] = (str(device),)
        self.where = str(device)

    @contextmanager
    def started(self, spec: WorkerSpec, note: Note, profile: Profile) -> Iterator["_Local"]:
        """With the model loaded."""
        yield _Local(spec, load_predictor(spec, self.device, note, profile), profile)


class _Local:
    def __init__(self, spec: WorkerSpec, predictor: Predictor, profile: Profile) -> None:
        self._spec, self._predictor, self._profile = spec, predictor, profile

    @property
    def batch_size(self) -> int:
        return self._predictor.batch_size

    def run(self, batches: Sequence[Batch], sink: Sink, stop: StopRequest) -> None:
        self._profile.start()
        run_with(self._predictor, self._spec, one_after_another(batches), sink, stop, self._profile)

    def profile(self, images: int) -> dict[str, Any] | None:
        return self._profile.result(images, self._spec.readers)
