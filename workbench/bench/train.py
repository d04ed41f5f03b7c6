"""Training speed against transformers: the same weights, batches, random numbers and loop, step by step in turn.

    python -m workbench.bench.train --out reports/benchmarks

The losses of both must agree before a time is taken. Needs transformers, which the workbench itself does not.
"""

import platform
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import click
import torch
from torch import nn

from eomt.training import Batch
from workbench import catalog
from workbench.bench.oracle import transformers_model
from workbench.errors import WorkbenchError
from workbench.formats import open_dataset
from workbench.prediction.device import choose_device
from workbench.training.annotations import Annotations
from workbench.training.augmentation import Augmentation
from workbench.training.loop import seed_all
from workbench.training.samples import TrainingSamples, collate
from workbench.training.start import StartOptions, choose_start

DATASET = "scenes_val"
TOLERANCE = 1e-4  # relative, of the loss of a step; the two sum in another order
_NAMES = ("workbench", "transformers")


@dataclass(frozen=True)
class Case:
    """One model to train."""

    title: str
    start: StartOptions
    batch_size: int


CASES = {
    "bundled": Case(
        "the bundled checkpoint's model, 128x128", StartOptions(checkpoint="eomt_scenes_panoptic", image_size=128), 8
    ),
    "small-640": Case("EoMT-S, 640x640, 12,544 points", StartOptions(size="small"), 1),
}


@dataclass(frozen=True)
class Result:
    """Seconds of each step of a case, ours and theirs, and the largest relative difference of their losses."""

    case: Case
    dtype: str
    seconds: tuple[list[float], list[float]]
    difference: float

    @property
    def ratio(self) -> float:
        """How many times as fast as transformers ours is, by the medians."""
        return median(self.seconds[1]) / median(self.seconds[0])


def measure(case: Case, device: torch.device, dtype: str, steps: int, warmup: int = 1) -> Result:
    """Train both models of a case for `warmup` and then `steps` measured steps, in turn.

    Raises WorkbenchError where their losses differ by more than the tolerance: then their times mean nothing.
    """
    models, batches = _models(case, device), _batches(case, device, warmup + steps)
    optimizers = [torch.optim.AdamW(model.parameters(), lr=1e-5) for model in models]
    seconds: tuple[list[float], list[float]] = ([], [])
    difference = 0.0
    for number, batch in enumerate(batches):
        losses = []
        for which, (model, optimizer) in enumerate(zip(models, optimizers, strict=True)):
            seed_all(0, number)
            spent, loss = _timed(device, lambda: _step(model, optimizer, batch, device, dtype))  # noqa: B023
            losses.append(loss)
            if number >= warmup:
                seconds[which].append(spent)
        difference = max(difference, abs(losses[0] - losses[1]) / abs(losses[1]))
        _check_agreement(case, number, losses, dtype)
    return Result(case, dtype, seconds, difference)


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


def _timed(device: torch.device, run: Callable[[], float]) -> tuple[float, float]:
    """Seconds and the result: on a CPU of its own work, so that other programs do not count; else of the clock."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    _synchronise(device)
    before = clock()
    result = run()
    _synchronise(device)
    return clock() - before, result


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _check_agreement(case: Case, number: int, losses: Sequence[float], dtype: str) -> None:
    """Only the first step's losses must be equal: after that, rounding has moved the weights apart a little."""
    tolerance = TOLERANCE if dtype == "float32" else 100 * TOLERANCE
    if number == 0 and abs(losses[0] - losses[1]) > tolerance * abs(losses[1]):
        raise WorkbenchError(
            f"{case.title}: the losses of the first step are {losses[0]:.6f} and {losses[1]:.6f}; the two do not train "
            "the same model, so their times cannot be compared."
        )


def _models(case: Case, device: torch.device) -> list[nn.Module]:
    """Ours and transformers' with the same weights, all attention masked, in training mode."""
    seed_all(1)
    start = choose_start(case.start, open_dataset(catalog.find(DATASET)).categories, "panoptic")
    ours = start.model()
    return [model.to(device).train() for model in (ours, transformers_model(ours))]


def _batches(case: Case, device: torch.device, count: int) -> list[Batch]:
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


def report(results: Sequence[Result], device: torch.device, threads: int) -> str:
    """The Markdown of a measurement."""
    kind = "seconds of CPU time" if device.type == "cpu" else "seconds"
    differences = ", ".join(f"{result.difference:.1e}" for result in results)
    machine = [f"- {name}: {value}" for name, value in _machine(device, threads).items()]
    return _TEMPLATE.format(
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        kind=kind,
        rows="\n".join(_row(result) for result in results),
        steps=len(results[0].seconds[0]),
        differences=differences,
        machine="\n".join(machine),
    )


_TEMPLATE = """# Training speed, {date}

One optimizer step (forward, loss, backward, clipping, AdamW) of `eomt` and of transformers' EoMT, in {kind}.
Both have the same weights, batches, random numbers and loop, and take turns. Made by `python -m workbench.bench.train`.

| model | precision | batch | workbench | spread | images/s | transformers | spread | images/s | times as fast |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
{rows}

Medians of {steps} steps after a warm-up step; spread is fastest to slowest. Before a time is believed, the losses of
the first step must agree. Largest relative difference of the losses in any step: {differences}.

## Machine

{machine}
"""


def _row(result: Result) -> str:
    cells = [result.case.title, result.dtype, str(result.case.batch_size)]
    for seconds in result.seconds:
        cells += [f"{median(seconds):.3f} s", f"{min(seconds):.3f} to {max(seconds):.3f}"]
        cells.append(f"{result.case.batch_size / median(seconds):.3g}")
    return "| " + " | ".join([*cells, f"**{result.ratio:.2f}**"]) + " |"


def _machine(device: torch.device, threads: int) -> dict[str, Any]:
    import transformers

    if device.type == "cuda":
        where = f"{torch.cuda.get_device_name(device)}"
        peak = f"{torch.cuda.max_memory_allocated(device) / 2**30:.1f} GiB of GPU memory, both models together"
    else:
        where = f"{_cpu_name()}, {threads} of its threads"
        peak = f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB, both models together"
    return {
        "device": where,
        "peak memory": peak,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
    }


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or "CPU"


@click.command()
@click.option("--case", "cases", type=click.Choice(list(CASES)), multiple=True, help="Default: all.")
@click.option("--device", default="auto", help="auto, cpu or cuda.")
@click.option("--dtype", "dtypes", type=click.Choice(["float32", "bfloat16"]), multiple=True, default=("float32",))
@click.option("--steps", type=click.IntRange(1), default=5, help="Measured steps.")
@click.option("--threads", type=click.IntRange(1), default=1, help="Of a CPU.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the report; without it only stdout has it.")
def main(cases: Sequence[str], device: str, dtypes: Sequence[str], steps: int, threads: int, out: Path | None) -> None:
    """Measure training steps against transformers, and write a dated report."""
    torch.set_num_threads(threads)
    chosen = choose_device(device)
    results = [measure(CASES[name], chosen, dtype, steps) for name in cases or CASES for dtype in dtypes]
    text = report(results, chosen, threads)
    click.echo(text)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / f"{datetime.now(UTC):%Y-%m-%d}-training-speed-{chosen.type}.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
