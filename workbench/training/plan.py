"""Everything that a training needs to know before the weights are made, with the defaults filled in and checked."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from eomt.dinov3 import EomtDinov3Config
from eomt.hub import read_json, try_find_file
from eomt.recipe import Recipe
from workbench import catalog, ground_truth
from workbench.errors import DatasetError, OptionError, did_you_mean
from workbench.formats import open_dataset
from workbench.formats.base import TASKS, Dataset, Task
from workbench.prediction.classes import match_classes
from workbench.prediction.device import choose_dtype
from workbench.prediction.plan import versions
from workbench.prediction.run_folder import run_name
from workbench.training.annotations import Annotations
from workbench.training.augmentation import Augmentation
from workbench.training.distributed import Processes
from workbench.training.options import TrainOptions
from workbench.training.start import Start, choose_start

_VALIDATIONS = 10  # in a training, where nothing is said
_LINES = 200  # of history, about
_MOST_STEPS_A_LINE = 50
_MOST_WORKERS = 8
METRICS: Mapping[Task, str] = {"panoptic": "PQ", "instance": "AP", "semantic": "mIoU"}


@dataclass(frozen=True)
class TrainingPlan:
    """A training that can begin."""

    dataset: Dataset
    val: Dataset | None
    task: Task
    start: Start
    annotations: Annotations
    options: TrainOptions
    recipe: Recipe
    augmentation: Augmentation
    dtype: str
    processes: Processes
    workers: int
    eval_every: int
    save_every: int
    log_every: int

    @property
    def name(self) -> str:
        """What its folder is called where nothing is said."""
        return run_name(self.dataset.definition.name, self.task, self.start.name)

    @property
    def batch_size(self) -> int:
        """Images of a forward pass of one process."""
        return self.options.batch(self.processes.count)

    @property
    def images_a_step(self) -> int:
        """Images of an update of the weights, over all processes."""
        return self.batch_size * self.options.accumulate * self.processes.count

    @property
    def dataset_title(self) -> str:
        """For texts."""
        return _title(self.dataset)

    @property
    def val_title(self) -> str:
        """For texts."""
        return "nothing" if self.val is None else _title(self.val)

    def identity(self) -> dict[str, Any]:
        """What decides the weights, up to the rounding of devices and versions, as JSON values."""
        recipe = {**asdict(self.recipe), "autocast_dtype": str(self.recipe.autocast_dtype)}
        return {
            "dataset": self.dataset.fingerprint(),
            "task": self.task,
            **self.start.identity(),
            "recipe": recipe,
            "augmentation": asdict(self.augmentation),
            "batch_size": self.batch_size,
            "accumulate": self.options.accumulate,
            "processes": self.processes.count,
            "seed": self.options.seed,
        }

    def describe(self) -> str:
        """One line for the beginning."""
        together = f" on each of {self.processes.count} processes" if self.processes.count > 1 else ""
        times = f" x {self.options.accumulate}" if self.options.accumulate > 1 else ""
        return (
            f"{self.task} segmentation of {self.dataset.definition.name} ({len(self.annotations)} images) from "
            f"{self.start.name} on {self.processes.device} ({self.dtype}, batch size {self.batch_size}{times}{together}"
            f"), {self.recipe.total_steps} steps"
        )


def make_plan(
    dataset: str,
    val: str | None,
    options: TrainOptions,
    processes: Processes,
    workers: int | None = None,
    progress: ground_truth.Progress | None = None,
) -> TrainingPlan:
    """The plan for a dataset's name or TOML file, and for that of the validation.

    Raises WorkbenchError or EomtError, each naming what to change.
    """
    dtype = _dtype(options.dtype, processes)
    opened = open_dataset(catalog.find(dataset))
    task = _task(options.task, opened)
    start = choose_start(options.start, opened.categories, task)
    _check_dense(options, start)
    validation = None if val is None else _validation(val, task, start)
    annotations = Annotations(opened, task, start.head.class_of, progress)
    images_a_step = options.batch(processes.count) * options.accumulate * processes.count
    steps = options.total_steps(len(annotations), images_a_step)
    eval_every = options.eval_every or max(1, steps // _VALIDATIONS)
    return TrainingPlan(
        dataset=opened,
        val=validation,
        task=task,
        start=start,
        annotations=annotations,
        options=options,
        recipe=options.recipe(start.kind, _is_dinov3(start), steps, dtype),
        augmentation=options.augmentation_for(task),
        dtype=dtype,
        processes=processes,
        workers=_workers(workers, processes),
        eval_every=eval_every,
        save_every=options.save_every or eval_every,
        log_every=options.log_every or max(1, min(_MOST_STEPS_A_LINE, steps // _LINES)),
    )


def _task(given: str | None, dataset: Dataset) -> Task:
    name = dataset.definition.name
    if not dataset.tasks:
        raise DatasetError(f"{name} has no annotations to learn from. Name them in {dataset.definition.source}.")
    if given is None:
        return dataset.tasks[0]
    for task in TASKS:
        if task == given:
            if task not in dataset.tasks:
                raise OptionError(f"--task {task}: {name} has annotations for {' and '.join(dataset.tasks)} only.")
            return task
    raise OptionError(f"no task {given!r}. {did_you_mean(given, TASKS)}")


def _validation(name: str, task: Task, start: Start) -> Dataset:
    val = open_dataset(catalog.find(name))
    if task not in val.tasks:
        raise OptionError(f"--val {name}: it has annotations for {' and '.join(val.tasks) or 'nothing'}, not {task}.")
    match_classes(start.head.id2label, val.categories, task)
    return val


def _check_dense(options: TrainOptions, start: Start) -> None:
    """As `DenseSupervision` does, before a folder is made; a backbone's blocks are few."""
    config = start.config
    if options.dense_weight and config is not None and config.num_blocks >= config.num_hidden_layers:
        raise OptionError(
            f"--dense-weight: the queries pass through all {config.num_hidden_layers} layers of {start.name} "
            f"(num_blocks is {config.num_blocks}), and the helper needs a layer before them. Leave it out."
        )


def _dtype(name: str, processes: Processes) -> str:
    if name == "float16":
        raise OptionError("--dtype float16: gradients underflow in it. Use bfloat16 or float32.")
    return choose_dtype(name, processes.device)


def _is_dinov3(start: Start) -> bool:
    if start.config is not None:
        return isinstance(start.config, EomtDinov3Config)
    file = try_find_file(start.source or "", "config.json")
    return file is not None and read_json(file).get("model_type") == "dinov3_vit"


def _workers(given: int | None, processes: Processes) -> int:
    """Processes that prepare images: none beside a CPU that trains alone, else one a core, at most 8."""
    if given is not None:
        return given
    if processes.device.type == "cpu":
        return 0
    return max(1, min(_MOST_WORKERS, (os.cpu_count() or 1) // processes.count))


def provenance(command: str) -> dict[str, Any]:
    """What does not decide the weights: command and versions."""
    return {"command": command, "versions": versions()}


def _title(dataset: Dataset) -> str:
    return dataset.definition.title or dataset.definition.name
