"""A model out of any form of checkpoint, ready to be saved in the published one: weights, classes and processor."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from eomt.auto import config_from_json, load_model
from eomt.backbones import load_delta
from eomt.configuration import EomtConfig
from eomt.dinov3 import EomtDinov3Config
from eomt.hub import read_json, try_find_file
from eomt.image_processing import EomtImageProcessor
from eomt.modeling import EomtForUniversalSegmentation
from eomt.processor_settings import FILE_NAME as PROCESSOR
from workbench import catalog
from workbench.catalog.class_tables import read_class_table
from workbench.errors import ModelError, OptionError, did_you_mean
from workbench.formats.base import TASKS, Task
from workbench.models.form import Weights
from workbench.prediction.checkpoint import place_of, task_in_name


@dataclass(frozen=True)
class Source:
    """A checkpoint to load, and what its files do not say."""

    place: str
    weights: Weights
    backbone: str | None = None
    """For a delta: the DINOv3 model that it is the difference to, a hub id or a folder."""
    config: Path | None = None
    """A `config.json` to take the place of the source's."""
    classes: str | None = None
    """Names of the classes in the order of their indices: a CSV or the name of a built-in class table."""
    image_size: int | None = None
    """For a delta: edge of the input in pixels."""


def load(source: Source) -> EomtForUniversalSegmentation:
    """The model in float32 on the CPU. Raises OptionError where something is missing or in vain, CheckpointError."""
    form = source.weights.form
    if form == "backbone":
        raise OptionError(f"{source.place} is a backbone without heads. Train one from it: workbench train --from.")
    names = _class_names(source.classes)
    if form == "delta":
        return _load_delta(source, names)
    for flag, value in (("--backbone", source.backbone), ("--image-size", source.image_size)):
        if value is not None:
            raise OptionError(f"{flag} {value} is for the original's DINOv3 deltas; {source.place} is whole.")
    config = config_from_json(source.config) if source.config else None
    model = load_model(source.place, config=config, dtype=torch.float32)
    if names is not None:
        _check_count(names, model.config, source)
        model.config = model.config.with_labels(names)
    return model


def processor_for(
    source: Source, config: EomtConfig, task: str | None, names: tuple[str, ...]
) -> tuple[EomtImageProcessor, Task | None]:
    """The source's own processor, or else the one that the published models of the task have; and the task.

    The task is what was given, or what the first of `names` tells; without a file of the source's it must be known.
    """
    if task is not None and task not in TASKS:
        raise OptionError(f"no task {task!r}. {did_you_mean(task, TASKS)}")
    known = next((t for t in TASKS if t == task), None) or next((t for n in names if (t := task_in_name(n))), None)
    if try_find_file(source.place, PROCESSOR):
        return EomtImageProcessor.from_pretrained(source.place), known
    if known is None:
        raise OptionError(
            f"{source.place} has no {PROCESSOR}, and neither its name nor the target's says which task it is for. Give "
            "--task panoptic, instance or semantic: semantic models on DINOv2 cut images into crops, the others pad."
        )
    height, width = config.image_size_hw
    split = known == "semantic" and not isinstance(config, EomtDinov3Config)
    size = {"shortest_edge": height, "longest_edge": None if split else width}
    return EomtImageProcessor(size=size, do_split_image=split, do_pad=not split), known


def _load_delta(source: Source, names: dict[int, str] | None) -> EomtForUniversalSegmentation:
    settings = _delta_settings(source.config)
    if names is not None:
        settings["id2label"] = names
    if source.image_size is not None:
        settings["image_size"] = source.image_size
    missing = [
        text
        for text, is_there in (
            ("--backbone (the DINOv3 model that it was trained from)", source.backbone),
            ("--image-size (640, 1280 or 512 in the published names)", "image_size" in settings),
        )
        if not is_there
    ]
    if missing:
        raise OptionError(f"{source.place} holds the difference to a DINOv3 backbone; give {' and '.join(missing)}.")
    assert source.backbone is not None
    return load_delta(source.place, place_of(source.backbone), **settings)


def _delta_settings(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    known = {field.name for field in fields(EomtDinov3Config)} - {"extra"}
    return {name: value for name, value in read_json(path).items() if name in known}


def _class_names(classes: str | None) -> dict[int, str] | None:
    """The classes of a CSV, or of a built-in one by its stem, by the order of their category ids."""
    if classes is None:
        return None
    built_in = {path.stem: path for path in (catalog.built_in_folder() / "classes").glob("*.csv")}
    path = built_in.get(classes, Path(classes))
    if not path.is_file():
        raise OptionError(
            f"--classes {classes} is neither a CSV file nor a built-in table. {did_you_mean(classes, built_in)}"
        )
    return {index: category.name for index, category in enumerate(read_class_table(path).categories)}


def _check_count(names: dict[int, str], config: EomtConfig, source: Source) -> None:
    if len(names) != config.num_labels:
        raise ModelError(
            f"{source.place} has {config.num_labels} classes, and {source.classes} names {len(names)}. Name them all, "
            "in the order of their indices."
        )
