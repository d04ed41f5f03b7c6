"""The loop: samples in, steps taken, and history, checkpoints and validations when they are due.

Each step draws its random numbers from the seed, its own number and the process, so that neither a resume nor a
validation in between changes what follows.
"""

import inspect
import signal
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from eomt.training import Batch, StepReport, TrainingState, start_training, training_step
from workbench.prediction.checkpoint import TASK_KEY
from workbench.prediction.interrupt import Interrupted, StopRequest, stop_on_signals
from workbench.training import checkpoints
from workbench.training.card import FILE as CARD
from workbench.training.card import model_card
from workbench.training.history import History, mean_of, step_values
from workbench.training.plan import TrainingPlan
from workbench.training.progress import TrainingProgress
from workbench.training.samples import SampleBatch, TrainingSamples, collate, sample_numbers
from workbench.training.validation import FOLDER, validate

# Every process computes the same buffers. torch 2.13 gave the argument that says so another name.
_RENAMED = "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters
_BUFFERS_STAY: dict[str, Any] = {"forward_sync_buffers" if _RENAMED else "broadcast_buffers": False}

_STEP, _WEIGHTS = 2, 3  # streams of random numbers, beside those of `samples`


class Loop:
    """A training of one plan in one folder, from where its state says."""

    def __init__(self, plan: TrainingPlan, folder: Path, progress: TrainingProgress) -> None:
        self.plan, self.folder, self.progress = plan, folder, progress
        self.state = _new_state(plan)
        self.recent: list[dict[str, float]] = []
        """The steps since the last line of history."""
        if saved := checkpoints.load_state(folder):
            self.state.load_state_dict(saved["training"])
            self.recent = saved["recent"]
        self.history = History(folder, self.state.step) if plan.processes.first else None

    def run(self) -> None:
        """Train to the end. Raises Interrupted where the user stops it; the state is saved then."""
        self.progress.begin(self.state.step, self.plan.recipe.total_steps, self.plan.images_a_step)
        with stop_on_signals() as stop:
            if self.state.step:
                self._write_last()  # a crash may have come between the state and this
                self._validate_if_due()
            for batches in self._batches():
                self._step(batches)
                self._after_step(stop)
        if self.history is not None:
            self.history.close()

    def _step(self, batches: list[Batch]) -> None:
        plan = self.plan
        seed_all(_STEP, plan.options.seed, self.state.step, plan.processes.rank)
        report = training_step(self.state, batches)
        values = self._agreed(report)
        self.recent.append(values)
        self.progress.advance(values)
        if self.state.step % plan.log_every == 0 or self._at_end:
            self._write_line()

    def _agreed(self, report: StepReport) -> dict[str, float]:
        """The step's numbers, as means over all processes."""
        values = step_values(report)
        return dict(zip(values, self.plan.processes.means(list(values.values())), strict=True))

    def _write_line(self) -> None:
        step, plan = self.state.step, self.plan
        if self.history is not None:
            where = {"step": step, "epoch": round(step * plan.images_a_step / len(plan.annotations), 4)}
            speed = {"images_per_second": round(self.progress.images_per_second, 4)}
            self.history.add({**where, **mean_of(self.recent), **speed})
        self.recent = []

    def _after_step(self, stop: StopRequest) -> None:
        """Save and validate where it is due. Raises Interrupted where any process was asked to stop."""
        step = self.state.step
        stopping = any(self.plan.processes.means([float(stop.requested)]))
        due = step % self.plan.save_every == 0 or self._validation_due or self._at_end
        if due or stopping:
            self.save()
        if stopping:
            raise self._interrupted()
        if due:
            self._validate_if_due()
        self.progress.pause()

    def _interrupted(self) -> Interrupted:
        return Interrupted(
            f"Stopped: {self.state.step} of {self.plan.recipe.total_steps} steps are in {self.folder}. Run the same "
            "command again to go on."
        )

    @property
    def _at_end(self) -> bool:
        return self.state.step == self.plan.recipe.total_steps

    @property
    def _validation_due(self) -> bool:
        return self.plan.val is not None and (self.state.step % self.plan.eval_every == 0 or self._at_end)

    def save(self) -> None:
        """Write the state and the newest weights."""
        if self.plan.processes.first:
            state = {"training": self.state.state_dict(), "recent": self.recent}
            checkpoints.save_state(self.folder, state)
        self._write_last()
        self.plan.processes.wait()

    def _write_last(self) -> None:
        if self.plan.processes.first:
            checkpoints.replace_folder(self.folder / checkpoints.LAST, lambda place: self._write(place, None))

    def _write(self, place: Path, score: dict[str, Any] | None) -> None:
        average = self.state.average
        (self.state.model if average is None else average.model).save_pretrained(place)
        self.plan.start.processor.save_pretrained(place)
        (place / CARD).write_text(model_card(self.plan, self.state.step, score), encoding="utf-8")

    def _validate_if_due(self) -> None:
        if self.history is not None and self._validation_due and not self.history.validated(self.state.step):
            self._validate(self.history)
        self.plan.processes.wait()

    def _validate(self, history: History) -> None:
        step = self.state.step
        try:
            metric, value = validate(self.plan, self.folder / checkpoints.LAST, self.folder / FOLDER)
        except Interrupted:
            raise self._interrupted() from None
        epoch = round(step * self.plan.images_a_step / len(self.plan.annotations), 4)
        entry = {"step": step, "epoch": epoch, "metric": metric, "value": value}
        best = history.best()
        better = best is None or value > best["value"]
        if better:
            checkpoints.replace_folder(self.folder / checkpoints.BEST, lambda place: self._write(place, entry))
        history.add(entry)
        self.progress.note(f"step {step}: {metric} {100 * value:.2f}{' (the best so far)' if better else ''}")

    def _batches(self) -> Iterator[list[Batch]]:
        """The micro-batches of each step that is left, on the device."""
        plan = self.plan
        numbers = sample_numbers(
            self.state.step,
            plan.recipe.total_steps,
            plan.batch_size,
            plan.options.accumulate,
            plan.processes.rank,
            plan.processes.count,
        )
        samples = TrainingSamples(plan.annotations, plan.start.image_size_hw, plan.augmentation, plan.options.seed)
        loader: Iterable[SampleBatch] = DataLoader(
            samples,
            batch_sampler=numbers,
            num_workers=plan.workers,
            collate_fn=collate,
            pin_memory=plan.processes.device.type == "cuda",
            worker_init_fn=_leave_signals_alone,
        )
        micro: list[Batch] = []
        for batch in loader:
            micro.append(batch.on(plan.processes.device, plan.start.processor))
            if len(micro) == plan.options.accumulate:
                yield micro
                micro = []


def _new_state(plan: TrainingPlan) -> TrainingState:
    seed_all(_WEIGHTS, plan.options.seed)  # the same weights in every process
    model = plan.start.model().to(plan.processes.device)
    model.config = replace(model.config, extra={**model.config.extra, TASK_KEY: plan.task})
    if plan.options.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    state = start_training(model, plan.recipe)
    if plan.processes.count > 1:
        gpus = [plan.processes.device.index] if plan.processes.device.type == "cuda" else None
        state.parallel = DistributedDataParallel(model, device_ids=gpus, **_BUFFERS_STAY)
    return state


def seed_all(*words: int) -> None:
    """Start torch's random numbers, of every device, anew from these whole numbers."""
    torch.manual_seed(int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0]) >> 1)


def _leave_signals_alone(worker: int) -> None:
    """In a process that prepares images: Ctrl-C reaches it too, and the training itself decides when to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)
