"""Images a second from JPEG files to Parquet, without a peer: what a GPU is bought for.

Behind `workbench bench throughput`. Each published size is run as `workbench predict` runs it, and twice first: the two
must have the same rows, bit for bit.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import torch

from workbench.bench import jpeg_files
from workbench.bench.fitted_model import fitted_model, published_config, published_processor
from workbench.bench.measuring import Case, Disagreement, Goal, measure, per_second
from workbench.bench.predict import CATEGORIES, PACKAGES, OurPipeline
from workbench.bench.reporting import Report, Section, finish, machine
from workbench.bench.row_agreement import agreed_quality
from workbench.bench.torch_device import device_name, on_device
from workbench.formats.base import ImageRecord, Task
from workbench.prediction.classes import ClassMap
from workbench.prediction.device import DTYPES, choose_batch_size, choose_compiled, choose_device, choose_dtype
from workbench.prediction.engines.work import stage_profile
from workbench.prediction.model import Predictor
from workbench.prediction.options import task_options
from workbench.prediction.profiling import Profile, as_text

Tell = Callable[[str], None]
DISTINCT = 64
"""Images that are drawn; more are these again."""


@dataclass(frozen=True)
class Shape:
    """A published model as it is meant to be used."""

    size: str
    edge: int
    task: Task
    goal: float
    """Images a second of one H100, to be reached."""


SHAPES = {
    "s-640": Shape("s", 640, "panoptic", 1200),
    "b-640": Shape("b", 640, "panoptic", 700),
    "l-640": Shape("l", 640, "panoptic", 270),
    "l-512-semantic": Shape("l", 512, "semantic", 230),
    "g-640": Shape("g", 640, "panoptic", 90),
    "l-1280": Shape("l", 1280, "panoptic", 45),
}


@dataclass(frozen=True)
class Plan:
    """What is measured."""

    shapes: Sequence[str]
    """Of `SHAPES`."""
    device: str
    dtype: str
    images: int
    batch_size: int | str
    workers: int
    compiled: bool | None
    rounds: int
    seed: int


def benchmark(plan: Plan, command: str, out: Path | None, tell: Tell) -> None:
    """Measure and report. Raises Disagreement where two runs have different rows."""
    device = choose_device(plan.device)
    plan = replace(plan, dtype=choose_dtype(plan.dtype, device))
    with tempfile.TemporaryDirectory() as name:
        drawn = jpeg_files.write(Path(name) / "images", min(plan.images, DISTINCT), plan.seed)
        records = [_again(drawn[i % len(drawn)], i) for i in range(plan.images)]
        sections = [_section(plan, SHAPES[shape], device, records, Path(name), tell) for shape in plan.shapes]
    report = Report("Prediction throughput", _about(plan), sections, {"seed": plan.seed})
    where = machine(PACKAGES, torch.get_num_threads(), device_name(device))
    finish(report, where, command, "-".join(["throughput", device.type, *plan.shapes, plan.dtype]), out)


def _section(
    plan: Plan, shape: Shape, device: torch.device, records: Sequence[ImageRecord], folder: Path, tell: Tell
) -> Section:
    processor = published_processor(shape.task, shape.edge)
    first = published_processor("panoptic", shape.edge)([records[0].path], return_tensors="pt").pixel_values[0]
    model = fitted_model(published_config(shape.size, shape.edge), plan.seed, first).to(device)
    batch_size = choose_batch_size(plan.batch_size, device, (shape.edge, shape.edge))

    def run_of(dtype: str, compiled: bool, profile: Profile) -> Callable[[], pa.Table]:
        predictor = Predictor(
            model,
            processor,
            task_options(shape.task, {}),
            ClassMap(CATEGORIES, CATEGORIES),
            batch_size=batch_size,
            dtype=DTYPES[dtype],
            compiled=compiled,
            note=tell,
            profile=profile,
        )
        pipeline = OurPipeline(predictor, records, plan.workers, profile)

        def run() -> pa.Table:
            with tempfile.TemporaryDirectory(dir=folder) as out:
                return pipeline.run(Path(out))

        return run

    compiled = choose_compiled(plan.compiled, device, plan.dtype, len(records))
    profile = stage_profile(device)
    run = run_of(plan.dtype, compiled, profile)
    rows = run()  # the first run compiles
    profile.start()
    if not run().equals(rows):
        raise Disagreement(f"two runs of EoMT-{shape.size.upper()} at {shape.edge} have different rows.")
    notes = [
        "Two runs had the same rows, bit for bit.",
        as_text(profile.result(len(records), plan.workers), plan.workers),
    ]
    if plan.dtype != "float32" and shape.task != "semantic":
        quality = agreed_quality(rows, run_of("float32", False, Profile())())
        notes.append(f"PQ of {plan.dtype} against float32: {quality:.4f}.")
    title = f"{shape.task}, {len(records)} images, batches of {batch_size}, {plan.dtype}"
    case = Case(
        title + (", compiled" if compiled else ""),
        run,
        goals=_goals(shape, device),
        items=len(records),
        **on_device(device),
    )
    return Section(f"EoMT-{shape.size.upper()} at {shape.edge}", [measure(case, plan.rounds, tell)], notes)


def _goals(shape: Shape, device: torch.device) -> tuple[Goal, ...]:
    return (per_second(shape.goal),) if device.type == "cuda" else ()


def _again(record: ImageRecord, ordinal: int) -> ImageRecord:
    """The same file as another image of the list."""
    return replace(record, image_id=f"{ordinal:06}", ordinal=ordinal)


def _about(plan: Plan) -> str:
    return (
        f"{plan.images} drawn photographs of 480x640 and 640x480 pixels ({min(plan.images, DISTINCT)} of them "
        "distinct) as JPEG files, through models of the published architectures whose weights are drawn from seed "
        f"{plan.seed} and whose heads are fitted so that 20 of 200 queries are sure of one of 133 classes and share "
        f"out the image. The model is loaded; {plan.workers} threads read the files, and Parquet is written. Goals are "
        "for one H100."
    )
