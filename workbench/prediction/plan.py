"""Everything that a prediction needs to know before the weights are loaded, with the defaults filled in and checked."""

import platform
import shlex
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import PIL
import torch

import workbench
from workbench import catalog, runs
from workbench.errors import DatasetError, OptionError
from workbench.formats import open_dataset
from workbench.formats.base import Dataset, ImageRecord, Task
from workbench.prediction import defaults
from workbench.prediction.checkpoint import Checkpoint, open_checkpoint
from workbench.prediction.classes import ClassMap, match_classes
from workbench.prediction.device import choose_device, choose_dtype
from workbench.prediction.model import SEED
from workbench.prediction.options import TaskOptions, task_options
from workbench.prediction.run_folder import run_name
from workbench.storage import is_folder, shown


@dataclass(frozen=True)
class Plan:
    """A prediction that can begin."""

    dataset: Dataset
    records: Sequence[ImageRecord]
    """The images to predict, in the dataset's order."""
    limit: int | None
    chosen: bool
    """Whether the images were named one by one."""
    checkpoint: Checkpoint
    options: TaskOptions
    classes: ClassMap
    device: torch.device
    dtype: str

    @property
    def name(self) -> str:
        """What its run folder is called."""
        return run_name(self.dataset.definition.name, self.options.task, self.checkpoint.short_name)

    @property
    def images_folder(self) -> Path:
        """Where the images lie."""
        definition = self.dataset.definition
        return definition.resolve(definition.images) if definition.images else definition.root

    def manifest(self) -> dict[str, Any]:
        """The manifest of the run; its identity decides the rows, up to the rounding of devices and batch sizes."""
        weights = self.checkpoint.weights_sha256()
        identity = {
            "dataset": self.dataset.fingerprint(),
            "limit": self.limit,
            **({"images": [record.image_id for record in self.records]} if self.chosen else {}),
            "weights_sha256": weights,
            **self.checkpoint.settings(),
            **self.options.identity(),
            "dtype": self.dtype,
        }
        provenance = {"command": _command(), "model": self.checkpoint.model_id, "seed": SEED, "sessions": []}
        definition = self.dataset.definition
        return runs.new_manifest(
            "predict", definition, self.options.task, self.classes.categories, identity, provenance
        )


def make_plan(
    dataset_name: str,
    model: str | None = None,
    task: str | None = None,
    limit: int | None = None,
    device: str | torch.device = "auto",
    dtype: str = "auto",
    classes: str = "exact",
    given: Mapping[str, float | int | None] | None = None,
    images: Collection[str] | None = None,
) -> Plan:
    """The plan for a dataset's name or TOML file; `given` holds the task's own options, None where not given.

    With `images`, ids or file names, only those, in the dataset's order. A torch.device is taken as it is: it may be
    one that only other machines have.

    Raises DatasetError, ModelError, CheckpointError or OptionError, each naming what to change.
    """
    if task is not None:
        task_options(task, {})  # a misspelt task is told before anything is read
    if limit is not None and limit < 1:
        raise OptionError(f"--limit is {limit}; it must be at least 1.")
    dataset = open_dataset(catalog.find(dataset_name))
    checkpoint = open_checkpoint(model or defaults.default_model(dataset, _as_task(task)))
    chosen_task = _as_task(task) or defaults.default_task(checkpoint, dataset)
    defaults.check_task(checkpoint, chosen_task)
    options = task_options(chosen_task, given or {}, classes)
    categories = defaults.categories_for(dataset, checkpoint, chosen_task)
    matched = match_classes(checkpoint.config.id2label, categories, chosen_task, options.classes)
    chosen_device = device if isinstance(device, torch.device) else choose_device(device)
    plan = Plan(
        dataset,
        _chosen(dataset, images)[:limit],
        limit,
        images is not None,
        checkpoint,
        options,
        matched,
        chosen_device,
        choose_dtype(dtype, chosen_device),
    )
    _check_images(plan)
    return plan


def versions() -> dict[str, str]:
    """Of everything that may change a row."""
    return {
        "workbench": workbench.__version__,
        "torch": str(torch.__version__),
        "numpy": numpy.__version__,
        "pillow": PIL.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
    }


def _as_task(task: str | None) -> Task | None:
    return None if task is None else task_options(task, {}).task


def _chosen(dataset: Dataset, images: Collection[str] | None) -> Sequence[ImageRecord]:
    records = dataset.images()
    if images is None:
        return records
    wanted = set(images)
    found = [record for record in records if not wanted.isdisjoint((record.image_id, record.file_name))]
    known = {name for record in found for name in (record.image_id, record.file_name)}
    if strangers := sorted(wanted - known):
        raise OptionError(
            f"{dataset.definition.name} has no image {strangers[0]!r} ({len(strangers)} of the {len(wanted)} chosen "
            "are not there). Name images by their id or their file name below the images folder."
        )
    if not found:
        raise OptionError("no image is chosen.")
    return found


def _check_images(plan: Plan) -> None:
    name = plan.dataset.definition.name
    if not is_folder(plan.images_folder):
        raise DatasetError(
            f"{name}: its images folder {shown(plan.images_folder)} is not there. "
            f"`workbench datasets show {name}` tells where it should be and how to get it."
        )
    if not plan.records:
        raise DatasetError(f"{name}: it has no images ({shown(plan.images_folder)}).")


def _command() -> str:
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
