"""What is meant where the user does not say: a dataset's model, a model's task, the classes of unlabelled images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from workbench import catalog
from workbench.catalog.class_tables import derived_color, read_class_table
from workbench.errors import ModelError, OptionError
from workbench.formats.base import Category, Dataset, Task
from workbench.prediction.checkpoint import Checkpoint
from workbench.prediction.classes import match_classes

BUNDLED_MODEL = "eomt_scenes_panoptic"


@dataclass(frozen=True)
class Family:
    """Datasets that share the classes of one built-in table, and the published model for each task on them."""

    table: str
    things_only: bool
    models: dict[Task, str]


FAMILIES = (
    Family(
        "coco_panoptic.csv",
        False,
        {
            "panoptic": "tue-mps/coco_panoptic_eomt_large_640",
            "instance": "tue-mps/coco_instance_eomt_large_640",
            "semantic": "tue-mps/coco_panoptic_eomt_large_640",
        },
    ),
    Family("coco_panoptic.csv", True, {"instance": "tue-mps/coco_instance_eomt_large_640"}),
    Family(
        "ade20k_150.csv",
        False,
        {
            "panoptic": "tue-mps/ade20k_panoptic_eomt_large_640",
            "instance": "tue-mps/ade20k_panoptic_eomt_large_640",
            "semantic": "tue-mps/ade20k_semantic_eomt_large_512",
        },
    ),
    Family("cityscapes_19.csv", False, {"semantic": "tue-mps/cityscapes_semantic_eomt_large_1024"}),
)


def default_model(dataset: Dataset, task: Task | None) -> str:
    """The model for a dataset where none is named: the bundled one for bundled data, else the family's published one.

    Raises OptionError where the dataset belongs to no family, or its family has no model for the task.
    """
    if dataset.definition.bundled:
        return BUNDLED_MODEL
    wanted: Task | None = task or next(iter(dataset.tasks), None)
    names = {category.name for category in dataset.categories}
    for family in FAMILIES:
        table = catalog.built_in_folder() / "classes" / family.table
        if wanted in family.models and names == {c.name for c in _categories(table, family.things_only)}:
            return family.models[wanted]
    raise OptionError(
        f"no model is known for {wanted or 'unlabelled'} data with the classes of {dataset.definition.name}. "
        "Name one with --model: a hub id such as tue-mps/coco_panoptic_eomt_large_640, or a checkpoint's folder."
    )


def default_task(checkpoint: Checkpoint, dataset: Dataset) -> Task:
    """The checkpoint's own task where its files tell it, else the first kind of ground truth, else panoptic."""
    return checkpoint.own_task or (dataset.tasks[0] if dataset.tasks else "panoptic")


def check_task(checkpoint: Checkpoint, task: Task) -> None:
    """Raise OptionError where the checkpoint cannot do the task."""
    if checkpoint.processor.do_split_image and task != "semantic":
        raise OptionError(
            f"{checkpoint.model_id} cuts images into crops, which is for semantic segmentation; it cannot do {task}. "
            f"Use --task semantic, or another --model."
        )


def categories_for(dataset: Dataset, checkpoint: Checkpoint, task: Task) -> Sequence[Category]:
    """The dataset's categories; for unlabelled images those of the built-in table that the checkpoint's classes match.

    Where no table matches, each class becomes a category with its index plus 1 as id (0 means background elsewhere):
    a thing for instance segmentation, stuff for semantic. Panoptic needs to know which is which: raises ModelError.
    """
    if dataset.categories:
        return dataset.categories
    names = checkpoint.config.id2label
    for path in sorted(catalog.built_in_folder().rglob("*.csv")):
        for things_only in (False, True):
            table = _categories(path, things_only)
            if _fits(names, table):
                return table
    if task == "panoptic":
        raise ModelError(
            f"{dataset.definition.name} has no classes, and those of {checkpoint.model_id} are in no built-in table, "
            "so things and stuff cannot be told apart. Name a CSV of them as `classes` in the definition."
        )
    return tuple(Category(i + 1, name, task == "instance", derived_color(i + 1)) for i, name in names.items())


def _fits(names: Mapping[int, str], categories: Sequence[Category]) -> bool:
    try:
        match_classes(names, categories, "panoptic")
    except ModelError:
        return False
    return True


def _categories(table: Path, things_only: bool) -> tuple[Category, ...]:
    return tuple(c for c in read_class_table(table).categories if c.isthing or not things_only)
