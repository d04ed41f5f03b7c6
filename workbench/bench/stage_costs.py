"""What an image costs, stage by stage, one after another in one thread; and what its rows cost on disk.

Behind `workbench bench stages`; the figures are what `capacity.py` reckons with. Nothing overlaps here, so that a
stage's time is its own: `workbench predict --profile` tells how they share a machine.
"""

import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from eomt.auto import load_model
from eomt.image_processing import EomtImageProcessor
from workbench import catalog
from workbench.bench import jpeg_files
from workbench.bench.drawn_dataset import DrawnDataset, image_rows
from workbench.bench.fitted_model import fitted_model, published_config, published_processor
from workbench.bench.instance_scenes import InstanceScenes
from workbench.bench.measuring import Case, Result, measure
from workbench.bench.panoptic_scenes import PanopticScenes
from workbench.bench.predict import CATEGORIES, PACKAGES
from workbench.bench.reporting import Report, Section, finish, machine
from workbench.formats import open_dataset
from workbench.formats.base import ImageRecord, Task
from workbench.prediction.checkpoint import BUNDLED_CHECKPOINTS
from workbench.prediction.classes import ClassMap
from workbench.prediction.encode import PredictedImage
from workbench.prediction.encoded import BatchEncoder
from workbench.prediction.model import Predictor, Prepared
from workbench.prediction.options import task_options
from workbench.prediction.pipeline import IMAGES_PER_SHARD
from workbench.store import SegmentStore, SegmentStoreWriter

Tell = Callable[[str], None]
EDGE = 640


@dataclass(frozen=True)
class Plan:
    """What is measured."""

    sizes: Sequence[str]
    """Models of `fitted_model.ARCHITECTURES`; the stages around the model are measured with the first."""
    tasks: Sequence[Task]
    runs: Sequence[Path]
    """Run folders whose bytes are counted."""
    images: int
    rounds: int
    seed: int


def benchmark(plan: Plan, command: str, out: Path | None, tell: Tell) -> None:
    """Measure and report."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as name:
            sections = _measured(plan, Path(name), tell)
            writes, stored = _Shards(plan, Path(name) / "shards", tell).measured()
        quantiles = service_quantiles(plan.rounds)
    finally:
        torch.set_num_threads(before)
    stored |= {path.name: bytes_an_image(path) for path in plan.runs}
    spread = f"Seconds of a batch of 2 with the bundled checkpoint, by the clock, in units of their mean: {quantiles}."
    sections.append(Section("Shards on disk", writes, [*(_told(name, each) for name, each in stored.items()), spread]))
    about = (
        f"{plan.images} drawn photographs of 480x640 and 640x480 pixels; models of the published architectures at "
        f"{EDGE} whose weights are drawn from seed {plan.seed} and whose heads are fitted so that 20 of 200 queries "
        "are sure of a class. Each stage alone, on one thread: the processor's seconds. A shard, of "
        f"{IMAGES_PER_SHARD} images, by the clock, as it waits for the disk. There is no peer here."
    )
    report = Report("What an image costs", about, sections, {"bytes_an_image": stored, "service_quantiles": quantiles})
    finish(report, machine(PACKAGES, 1), command, "stages-cpu", out)


def service_quantiles(rounds: int, images: int | None = None, count: int = 20) -> list[float]:
    """How a worker's seconds for a batch vary, by the clock: `count` quantiles in units of the mean.

    The bundled checkpoint over the bundled scenes (the first `images`, or all) in batches of 2, one thread, from
    reading to rows; whatever else the machine does shows in them.
    """
    folder = BUNDLED_CHECKPOINTS / "eomt_scenes_panoptic"
    model, processor = load_model(str(folder)), EomtImageProcessor.from_pretrained(str(folder))
    dataset = open_dataset(catalog.find("scenes_val"))
    classes = ClassMap(dataset.categories, dataset.categories)
    predictor = Predictor(model, processor, task_options("panoptic", {}), classes, batch_size=2)
    encoder, records = BatchEncoder(dataset.categories), dataset.images()[:images]
    seconds = []
    for _ in range(rounds + 1):
        for start in range(0, len(records), 2):
            begin = perf_counter()
            batch = records[start : start + 2]
            made = predictor.predict([predictor.prepare(record.path) for record in batch])
            encoder.encode([PredictedImage(record, each) for record, each in zip(batch, made, strict=True)])
            seconds.append(perf_counter() - begin)
    kept = np.array(seconds[len(seconds) // (rounds + 1) :])  # the first round compiles
    quantiles = np.quantile(kept / kept.mean(), (np.arange(count) + 0.5) / count)
    return [round(float(value), 3) for value in quantiles / quantiles.mean()]


def _told(name: str, each: dict[str, float]) -> str:
    columns = sorted(each.keys() - {"files", "images"}, key=lambda key: -each[key])
    shares = ", ".join(f"{key} {each[key] / each['files']:.0%}" for key in columns[:3])
    return f"{name}: {each['files']:,.0f} bytes an image ({shares})."


def _measured(plan: Plan, folder: Path, tell: Tell) -> list[Section]:
    records = jpeg_files.write(folder / "images", plan.images, plan.seed)
    sections = []
    for number, size in enumerate(plan.sizes):
        first = published_processor("panoptic", EDGE)([records[0].path], return_tensors="pt").pixel_values[0]
        stages = _Stages(fitted_model(published_config(size, EDGE), plan.seed, first), records, plan.rounds, tell)
        if number == 0:
            sections += [Section(f"Around the model, {task}", stages.around(task)) for task in plan.tasks]
        sections.append(Section(f"EoMT-{size.upper()}", [stages.model("panoptic")]))
    return sections


class _Stages:
    def __init__(self, model: Any, records: Sequence[ImageRecord], rounds: int, tell: Tell) -> None:
        self._model, self._records, self._rounds, self._tell = model, records, rounds, tell

    def model(self, task: Task) -> Result:
        """The forward pass alone."""
        predictor = self._predictor(task)
        prepared = [predictor.prepare(record.path) for record in self._records]
        return self._measure("model", lambda: self._forward(predictor, prepared))

    def around(self, task: Task) -> list[Result]:
        """All stages of the worker but the model."""
        predictor, encoder = self._predictor(task), BatchEncoder(CATEGORIES)
        prepared = [predictor.prepare(record.path) for record in self._records]
        outputs = self._forward(predictor, prepared)

        def predicted() -> list[PredictedImage]:
            made = [predictor.post_process(output, [image])[0] for output, image in zip(outputs, prepared, strict=True)]
            return [PredictedImage(record, image) for record, image in zip(self._records, made, strict=True)]

        images = predicted()
        return [
            self._measure("read, decode and prepare", lambda: [predictor.prepare(each.path) for each in self._records]),
            self._measure("post-process", predicted),
            self._measure("encode", lambda: encoder.encode(images)),
        ]

    def _measure(self, title: str, work: Callable[[], Any]) -> Result:
        return measure(Case(title, work, items=len(self._records), clock="cpu"), self._rounds, self._tell)

    def _forward(self, predictor: Predictor, prepared: Sequence[Prepared]) -> list[Any]:
        return [predictor.forward([image]) for image in prepared]

    def _predictor(self, task: Task) -> Predictor:
        classes = ClassMap(CATEGORIES, CATEGORIES)
        processor = published_processor(task, EDGE)
        return Predictor(self._model, processor, task_options(task, {}), classes, batch_size=1)


class _Shards:
    """Shards of drawn scenes, whose outlines are about as ragged as COCO's, written to disk."""

    def __init__(self, plan: Plan, folder: Path, tell: Tell) -> None:
        self._plan, self._folder, self._tell = plan, folder, tell

    def measured(self) -> tuple[list[Result], dict[str, dict[str, float]]]:
        """The seconds to commit a shard, and the bytes an image that it takes."""
        drawn: dict[str, DrawnDataset] = {
            "panoptic": PanopticScenes(self._folder, IMAGES_PER_SHARD, seed=self._plan.seed),
            "instance": InstanceScenes(self._folder, IMAGES_PER_SHARD, self._plan.seed),
        }
        results, stored = [], {}
        for task, scenes in drawn.items():
            title = f"a shard of drawn {task} scenes"
            results.append(self._commit(title, scenes.rows(1, scenes.numbers), image_rows(scenes.numbers, 0)))
            stored[title] = bytes_an_image(self._folder / title / "0")
        return results, stored

    def _commit(self, title: str, segments: pa.Table, images: pa.Table) -> Result:
        folders = (self._folder / title / str(number) for number in count())
        shard = segments.combine_chunks(), images.combine_chunks()

        def write() -> None:
            SegmentStoreWriter(next(folders)).commit(*shard)

        return measure(Case(title, write, items=IMAGES_PER_SHARD), self._plan.rounds, self._tell)


def bytes_an_image(folder: Path) -> dict[str, float]:
    """Compressed bytes an image by column of the segments, of all of `images`, and of both kinds of `files` in all."""
    store = SegmentStore(folder)
    columns: Counter[str] = Counter()
    for part in store.parts:
        segments, image_table = store.segments_folder / part, store.images_folder / part
        columns.update(_column_bytes(segments))
        columns["images"] += image_table.stat().st_size
        columns["files"] += image_table.stat().st_size + segments.stat().st_size
    return {name: round(size / max(store.count_images(), 1), 1) for name, size in columns.items()}


def _column_bytes(path: Path) -> Counter[str]:
    footer = pq.read_metadata(path)
    groups = [footer.row_group(number) for number in range(footer.num_row_groups)]
    found: Counter[str] = Counter()
    for column in (group.column(place) for group in groups for place in range(group.num_columns)):
        found[column.path_in_schema.partition(".")[0]] += column.total_compressed_size
    return found
