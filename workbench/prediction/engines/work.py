"""One worker's share of a prediction: what it needs to know, its model, and the rows that it gives back."""

import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from eomt.auto import load_model
from eomt.errors import EomtError
from eomt.image_processing import EomtImageProcessor
from workbench.errors import WorkbenchError
from workbench.prediction.checkpoint import BUNDLED_CHECKPOINTS, Checkpoint, place_of
from workbench.prediction.classes import ClassMap
from workbench.prediction.device import DTYPES
from workbench.prediction.encoded import BatchEncoder, EncodedBatch
from workbench.prediction.interrupt import StopRequest
from workbench.prediction.model import Note, Predictor
from workbench.prediction.options import TaskOptions
from workbench.prediction.pipeline import Sink, Take, run_batches
from workbench.prediction.profiling import Profile, StageProfile
from workbench.prediction.reading import reader
from workbench.prediction.streams import GpuClock


@dataclass(frozen=True)
class WorkerSpec:
    """What a worker needs in order to predict, wherever it runs. It can be pickled."""

    model: str
    """As `place_of` reads it on the worker's machine: a bundled name, an absolute folder, a hub id, a URL."""
    weights_sha256: str
    processor: EomtImageProcessor
    options: TaskOptions
    classes: ClassMap
    dtype: str
    batch_size: int
    images_folder: Path
    readers: int
    """Threads that read images, of each worker."""
    profiled: bool = False
    compiled: bool = False
    """Whether the model goes through torch's compiler."""


@dataclass(frozen=True)
class Report:
    """What a worker tells of itself with each batch; numbers are of all that it has done so far."""

    worker: str
    """A name that no other worker of the session has."""
    device: str
    batch_size: int
    """Of its forward passes by now: it halves where memory runs out."""
    images: int
    profile: dict[str, Any] | None
    notes: tuple[str, ...] = ()
    """What the user should know, once."""


def portable_model(checkpoint: Checkpoint) -> str:
    """How `WorkerSpec.model` names the checkpoint, for a process with another current folder or another machine."""
    if Path(checkpoint.place).parent == BUNDLED_CHECKPOINTS:
        return Path(checkpoint.place).name
    if Path(checkpoint.place).is_dir() and "://" not in checkpoint.model_id:
        return str(Path(checkpoint.place).resolve())
    return checkpoint.model_id


def load_predictor(spec: WorkerSpec, device: torch.device, note: Note, profile: Profile) -> Predictor:
    """The model on its device. Raises CheckpointError or ModelError where it cannot be loaded."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = load_model(place_of(spec.model), dtype=torch.float32, device=device)
    for warning in caught:
        note(f"Note: {warning.message}")
    return Predictor(
        model,
        spec.processor,
        spec.options,
        spec.classes,
        batch_size=spec.batch_size,
        dtype=DTYPES[spec.dtype],
        compiled=spec.compiled,
        note=note,
        profile=profile,
    )


def stage_profile(device: torch.device) -> StageProfile:
    """What a GPU does is timed by marks in its own queue."""
    return StageProfile(GpuClock(device) if device.type == "cuda" else None)


def run_with(
    predictor: Predictor, spec: WorkerSpec, take: Take, sink: Sink, stop: StopRequest, profile: Profile
) -> None:
    """Predict what `take` gives, in this process."""
    read = reader(predictor.prepare, spec.images_folder)
    encoder = BatchEncoder(predictor.categories, spec.options.candidate_floor is not None, profile)
    run_batches(take, read, predictor, encoder, sink, stop, spec.readers, profile)


class Worker:
    """A model that predicts what it is sent, and reports on itself with each batch."""

    def __init__(self, name: str, spec: WorkerSpec, device: torch.device) -> None:
        self.name, self._spec, self._device = name, spec, device
        self._notes: list[str] = []
        self._images = 0
        self._profile: Profile = stage_profile(device) if spec.profiled else Profile()
        self._predictor = load_predictor(spec, device, self._notes.append, self._profile)

    def work(self, take: Take, deliver: Callable[[EncodedBatch, Report], None], stop: StopRequest) -> None:
        """Predict what `take` gives; `deliver` gets each batch, in order, from one thread."""
        self._profile.start()
        run_with(self._predictor, self._spec, take, _Reporting(self, deliver), stop, self._profile)

    def report(self, images: int) -> Report:
        """Of all that it has done, `images` more than at the last time."""
        self._images += images
        notes, self._notes[:] = tuple(self._notes), []
        return Report(
            self.name,
            str(self._device),
            self._predictor.batch_size,
            self._images,
            self._profile.result(self._images, self._spec.readers),
            notes,
        )


@dataclass(frozen=True)
class _Reporting:
    worker: Worker
    deliver: Callable[[EncodedBatch, Report], None]

    def add(self, batch: EncodedBatch) -> None:
        self.deliver(batch, self.worker.report(batch.images.num_rows))

    def commit(self) -> None:
        """The process that started the worker does."""


def portable_error(error: BaseException) -> Exception:
    """The error as it can be sent to another process; one that no user can mend carries its traceback along."""
    if isinstance(error, WorkbenchError | EomtError):
        return type(error)(str(error))
    told = RuntimeError(f"{type(error).__name__} in a worker: {error}")
    told.add_note("".join(traceback.format_exception(error)))
    return told
