"""From JPEG files on disk to Parquet on disk: ours against transformers' documented pipeline, same images and weights.

Behind `workbench bench predict`. Needs transformers, which the workbench itself does not.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from workbench.bench import jpeg_files
from workbench.bench.documented_pipeline import DocumentedPipeline
from workbench.bench.fitted_model import CLASSES, fitted_model, published_config, published_processor
from workbench.bench.measuring import Case, Goal, measure, per_second, share_of_memory, times
from workbench.bench.oracle import transformers_model, transformers_processor
from workbench.bench.reporting import Report, Section, finish, machine
from workbench.bench.row_agreement import agreed_quality, agreement_of, check_same_rows
from workbench.bench.torch_device import device_name, on_device
from workbench.formats.base import Category, ImageRecord, Task
from workbench.prediction.classes import ClassMap
from workbench.prediction.device import DTYPES, choose_device, exact_convolutions
from workbench.prediction.encoded import BatchEncoder
from workbench.prediction.interrupt import StopRequest
from workbench.prediction.model import Predictor
from workbench.prediction.options import task_options
from workbench.prediction.pipeline import ShardWriter, one_after_another, run_batches
from workbench.prediction.profiling import Profile
from workbench.prediction.progress import Progress
from workbench.prediction.reading import reader
from workbench.store import SegmentStore, SegmentStoreWriter

Tell = Callable[[str], None]
PACKAGES = ("torch", "transformers", "numba", "numpy", "pyarrow", "pycocotools", "pillow")
THINGS = 80
CATEGORIES = tuple(Category(i + 1, f"class {i}", i < THINGS, (0, 0, 0)) for i in range(CLASSES))
BATCHES_ON_GPU = (1, 4, 8, 16, 32)
_CPU_GOALS: dict[tuple[str, str], float] = {
    ("s", "panoptic"): 1.4,
    ("s", "instance"): 1.8,
    ("b", "panoptic"): 1.15,
    ("l", "panoptic"): 1.0,
}
_GPU_GOALS = {"l": 270.0, "b": 700.0, "s": 1200.0}
"""Images a second of one H100, panoptic at 640."""
_REDUCED_GOAL = 1.3


@dataclass(frozen=True)
class Plan:
    """What is measured."""

    sizes: Sequence[str]
    """Of `fitted_model.ARCHITECTURES`."""
    tasks: Sequence[Task]
    device: str
    dtype: str
    """Of both sides; "bfloat16" also measures ours against ours in float32."""
    images: int
    rounds: int
    batch_size: int
    threads: int
    seed: int
    edge: int = 640
    """Of the model's square input."""


class OurPipeline:
    """`workbench predict` from its loaded model on: readers, model and writer, into a folder of Parquet files."""

    def __init__(
        self, predictor: Predictor, records: Sequence[ImageRecord], workers: int, profile: Profile | None = None
    ) -> None:
        self._predictor, self._records, self._workers = predictor, records, workers
        self._profile = profile or Profile()

    def run(self, out: Path) -> pa.Table:
        """The rows that were written."""
        size = self._predictor.batch_size
        batches = [self._records[start : start + size] for start in range(0, len(self._records), size)]
        progress = Progress()
        progress.start(0, len(self._records))
        writer = ShardWriter(SegmentStoreWriter(out), progress, self._profile)
        read = reader(self._predictor.prepare, self._records[0].path.parent)
        take = one_after_another(batches)
        encoder = BatchEncoder(CATEGORIES, profile=self._profile)
        run_batches(take, read, self._predictor, encoder, writer, StopRequest(), self._workers, self._profile)
        return SegmentStore(out).segments()


def benchmark(plan: Plan, command: str, out: Path | None, tell: Tell) -> None:
    """Measure and report. Raises Disagreement where the rows differ."""
    device = choose_device(plan.device)
    with _threads(plan.threads), tempfile.TemporaryDirectory() as name:
        records = jpeg_files.write(Path(name) / "images", plan.images, plan.seed)
        sections = [_Measured(plan, device, size, records, Path(name), tell).section() for size in plan.sizes]
    where = machine(PACKAGES, plan.threads, device_name(device))
    report = Report("Prediction speed", _about(plan, device), sections, {"seed": plan.seed})
    name_of = "-".join(["predict", device.type, *plan.sizes, plan.dtype])
    finish(report, where, command, name_of, out)


class _Measured:
    """All that is measured of one size of model."""

    def __init__(
        self, plan: Plan, device: torch.device, size: str, records: Sequence[ImageRecord], folder: Path, tell: Tell
    ) -> None:
        self._plan, self._device, self._size, self._records, self._tell = plan, device, size, records, tell
        self._folder = folder
        first = published_processor("panoptic", plan.edge)([records[0].path], return_tensors="pt").pixel_values[0]
        self._model = fitted_model(published_config(size, plan.edge), plan.seed, first).to(device)
        self._notes: list[str] = []

    def section(self) -> Section:
        cases = [self._against_transformers(task) for task in self._plan.tasks]
        if self._plan.dtype != "float32":
            cases += [self._against_float32(task) for task in self._plan.tasks]
        if self._device.type == "cuda":
            cases += [self._alone(batch_size) for batch_size in BATCHES_ON_GPU]
        else:
            self._notes.append("Images a second by batch size are measured on a GPU only; this machine has none.")
        results = [measure(case, self._plan.rounds, self._tell) for case in cases]
        return Section(f"EoMT-{self._size.upper()} at {self._plan.edge}", results, self._notes)

    def _against_transformers(self, task: Task) -> Case:
        plan, dtype = self._plan, DTYPES[self._plan.dtype]
        theirs = transformers_model(self._model).to(self._device, dtype).eval()
        processor = transformers_processor(**_settings(task, plan.edge))
        documented = DocumentedPipeline(theirs, processor, task, CATEGORIES, self._device)
        paths = [record.path for record in self._records]

        def peer() -> pa.Table:
            file = self._folder / "theirs.parquet"
            with exact_convolutions() if exact else nullcontext():  # as ours
                documented.run(paths, plan.batch_size, file)
            return pq.read_table(file)

        exact = plan.dtype == "float32"
        return self._case(
            task,
            self._ours(task, plan.dtype, plan.batch_size),
            plan.batch_size,
            theirs=peer,
            peer="transformers' documented pipeline" if task != "instance" else "transformers' model, original top-k",
            agree=partial(check_same_rows, mask_scores=task == "instance")
            if exact
            else self._note_quality(task, "transformers in the same dtype"),
            agreement=agreement_of(mask_scores=task == "instance") if exact else "see below",
            goals=self._goals(task),
        )

    def _against_float32(self, task: Task) -> Case:
        plan = self._plan
        return self._case(
            f"{task}, {plan.dtype} against float32",
            self._ours(task, plan.dtype, plan.batch_size),
            plan.batch_size,
            theirs=self._ours(task, "float32", plan.batch_size),
            peer="workbench in float32",
            agree=self._note_quality(task, "ours in float32"),
            agreement="see below",
            goals=(times(_REDUCED_GOAL),),
        )

    def _alone(self, batch_size: int) -> Case:
        goal = _GPU_GOALS.get(self._size)
        goals = (per_second(goal),) if goal and self._plan.edge == 640 else ()
        return self._case(
            "panoptic alone", self._ours("panoptic", self._plan.dtype, batch_size), batch_size, goals=goals
        )

    def _case(self, title: str, ours: Callable[[], pa.Table], batch_size: int, **fields: Any) -> Case:
        on = on_device(self._device)
        if self._device.type == "cpu" and self._plan.threads == 1:
            on["clock"] = "cpu"
        whole = f"{title}, {len(self._records)} images, batches of {batch_size}, {self._plan.dtype}"
        return Case(whole, ours=ours, items=len(self._records), **on, **fields)

    def _ours(self, task: Task, dtype: str, batch_size: int) -> Callable[[], pa.Table]:
        predictor = Predictor(
            self._model,
            published_processor(task, self._plan.edge),
            task_options(task, {}),
            ClassMap(CATEGORIES, CATEGORIES),
            batch_size=batch_size,
            dtype=DTYPES[dtype],
        )
        pipeline = OurPipeline(predictor, self._records, workers=self._plan.threads)

        def run() -> pa.Table:
            with tempfile.TemporaryDirectory(dir=self._folder) as out:
                return pipeline.run(Path(out))

        return run

    def _goals(self, task: Task) -> tuple[Goal, ...]:
        ratio = _CPU_GOALS.get((self._size, task))
        on_cpu = self._device.type == "cpu" and self._plan.edge == 640
        return (times(ratio), share_of_memory(0.5)) if ratio is not None and on_cpu else ()

    def _note_quality(self, task: Task, peer: str) -> Callable[[pa.Table, pa.Table], None]:
        """Different arithmetic cannot give the same rows: tell how near they are."""

        def note(ours: pa.Table, theirs: pa.Table) -> None:
            quality = agreed_quality(ours, theirs)
            self._notes.append(f"{task}, {self._plan.dtype}: PQ of ours against {peer}: {quality:.4f}.")

        return note


def _settings(task: Task, edge: int) -> dict[str, Any]:
    """Of the processor, as both take them."""
    ours = published_processor(task, edge)
    return {"size": ours.size, "do_pad": ours.do_pad, "do_split_image": ours.do_split_image}


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _about(plan: Plan, device: torch.device) -> str:
    clock = (
        " Seconds are the processor's work of all threads, which other programs disturb less than the clock."
        if device.type == "cpu" and plan.threads == 1
        else ""
    )
    return (
        f"{plan.images} drawn photographs of 480x640 and 640x480 pixels as JPEG files, through models of the published "
        f"architectures whose weights are drawn from seed {plan.seed} and whose heads are fitted so that 20 of 200 "
        "queries are sure of a class and share out the image. Both sides have their model loaded; they read the files, "
        f"predict, and write Parquet.{clock}"
    )
