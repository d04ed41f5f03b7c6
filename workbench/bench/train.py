"""Training speed against transformers: the same weights, batches, random numbers and loop, step by step in turn.

Behind `workbench bench train`. Needs transformers, which the workbench itself does not.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from eomt.training import Batch
from workbench import catalog
from workbench.bench.measuring import Case, Disagreement, measure
from workbench.bench.oracle import transformers_model
from workbench.bench.reporting import Report, Section, finish, machine
from workbench.bench.torch_device import device_name, on_device
from workbench.formats import open_dataset
from workbench.prediction.device import choose_device
from workbench.training.annotations import Annotations
from workbench.training.augmentation import Augmentation
from workbench.training.loop import seed_all
from workbench.training.samples import TrainingSamples, collate
from workbench.training.start import StartOptions, choose_start

DATASET = "scenes_val"
TOLERANCE = 1e-4  # relative, of the loss of a step; the two sum in another order


@dataclass(frozen=True)
class TrainingCase:
    """One model to train."""

    title: str
    start: StartOptions
    batch_size: int


CASES = {
    "bundled": TrainingCase(
        "the bundled checkpoint's model, 128x128", StartOptions(checkpoint="eomt_scenes_panoptic", image_size=128), 8
    ),
    "small-640": TrainingCase("EoMT-S, 640x640, 12,544 points", StartOptions(size="small"), 1),
}


def benchmark(
    cases: Sequence[str],
    device: str,
    dtypes: Sequence[str],
    rounds: int,
    threads: int,
    command: str,
    out: Path | None,
    tell: Callable[[str], None],
) -> None:
    """Measure the cases named (none: all) and report. Raises Disagreement where the losses of a first step differ."""
    torch.set_num_threads(threads)
    chosen = choose_device(device)
    results, notes = [], []
    for name in cases or CASES:
        for dtype in dtypes:
            pair = Pair(CASES[name], chosen, dtype, rounds + 1)
            results.append(measure(pair.case(), rounds, tell))
            notes.append(f"{pair.title}: largest relative difference of the losses in any step {pair.difference:.1e}.")
    about = (
        "One optimizer step (forward, loss, backward, clipping, AdamW) of `eomt` and of transformers' EoMT, with the "
        "same weights, batches, random numbers and loop."
        + (" Seconds are the processor's work, which other programs do not disturb." if chosen.type == "cpu" else "")
    )
    report = Report("Training speed", about, [Section("An optimizer step", results, notes)])
    where = machine(("torch", "transformers"), threads, device_name(chosen))
    finish(report, where, command, f"training-speed-{chosen.type}", out)


class Pair:
    """Ours and transformers' in training, each a step at a time over the same batches."""

    def __init__(self, case: TrainingCase, device: torch.device, dtype: str, steps: int) -> None:
        self.title = f"{case.title}, {dtype}, batch of {case.batch_size}"
        self._case, self._device, self._dtype = case, device, dtype
        self._models, self._batches = _models(case, device), _batches(case, device, steps)
        self._optimizers = [torch.optim.AdamW(model.parameters(), lr=1e-5) for model in self._models]
        self._losses: tuple[list[float], list[float]] = ([], [])

    @property
    def difference(self) -> float:
        """The largest relative difference of their losses in any step so far."""
        return max(abs(ours - theirs) / abs(theirs) for ours, theirs in zip(*self._losses, strict=True))

    def case(self) -> Case:
        """A step of each. Only the first step's losses must agree: after that, rounding has moved the weights apart."""
        tolerance = TOLERANCE if self._dtype == "float32" else 100 * TOLERANCE

        def agree(ours: float, theirs: float) -> None:
            if abs(ours - theirs) > tolerance * abs(theirs):
                raise Disagreement(
                    f"{self.title}: the losses of the first step are {ours:.6f} and {theirs:.6f}; the two do not train "
                    "the same model, so their times cannot be compared."
                )

        on = on_device(self._device)
        if self._device.type == "cpu":
            on["clock"] = "cpu"
        return Case(
            self.title,
            ours=lambda: self.step(0),
            theirs=lambda: self.step(1),
            peer="transformers",
            agree=agree,
            agreement=f"losses to {tolerance:g}",
            items=self._case.batch_size,
            **on,
        )

    def step(self, which: int) -> float:
        """The next step of ours (0) or transformers' (1), and its loss."""
        number = len(self._losses[which])
        seed_all(0, number)
        batch = self._batches[number]
        loss = _step(self._models[which], self._optimizers[which], batch, self._device, self._dtype)
        self._losses[which].append(loss)
        return loss


def _step(model: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch, device: torch.device, dtype: str) -> float:
    """One update, as in `eomt.training` but with nothing that only our model understands."""
    optimizer.zero_grad()
    with torch.autocast(device.type, torch.bfloat16, enabled=dtype == "bfloat16"):
        loss = model(
            pixel_values=batch.pixel_values, mask_labels=batch.mask_labels, class_labels=batch.class_labels
        ).loss
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 0.01)
    optimizer.step()
    return float(loss.detach())


def _models(case: TrainingCase, device: torch.device) -> list[nn.Module]:
    """Ours and transformers' with the same weights, all attention masked, in training mode."""
    seed_all(1)
    start = choose_start(case.start, open_dataset(catalog.find(DATASET)).categories, "panoptic")
    ours = start.model()
    return [model.to(device).train() for model in (ours, transformers_model(ours))]


def _batches(case: TrainingCase, device: torch.device, count: int) -> list[Batch]:
    """Augmented training batches of the bundled scenes."""
    dataset = open_dataset(catalog.find(DATASET))
    start = choose_start(case.start, dataset.categories, "panoptic")
    annotations = Annotations(dataset, "panoptic", start.head.class_of)
    samples = TrainingSamples(annotations, start.image_size_hw, Augmentation(scale=(0.5, 2.0)), seed=0)
    batches = []
    for number in range(count):
        picked = [samples[number * case.batch_size + i] for i in range(case.batch_size)]
        batch = collate(picked).on(device, start.processor)
        masks = [mask.float() for mask in batch.mask_labels]  # which is what transformers' own processor makes
        batches.append(Batch(batch.pixel_values, masks, batch.class_labels))
    return batches
