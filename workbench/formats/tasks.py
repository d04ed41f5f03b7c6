"""Which tasks a definition's annotations allow, told from its keys and from which files exist, without opening any."""

from workbench.catalog.definitions import DatasetDefinition
from workbench.formats.base import TASKS, Task
from workbench.storage import exists

Kind = Task
"""Annotations are of the same three kinds as tasks; panoptic ones serve all three."""


def annotation_kinds(definition: DatasetDefinition) -> dict[Kind, str]:
    """The kinds of annotation that a definition names, with the key that names each.

    Keys that are `optional` count where their file exists, and all of them where none of the dataset's files does.
    """
    keys: dict[Kind, str] = {}
    if definition.annotations is not None:
        keys["panoptic" if definition.instance_id_to_semantic_id else "semantic"] = "annotations"
    if definition.panoptic is not None:
        keys["panoptic"] = "panoptic"
    if definition.instances is not None:
        keys["instance"] = "instances"
    there = {kind: key for kind, key in keys.items() if _exists(definition, key)}
    return (
        {kind: key for kind, key in keys.items() if kind in there or key not in definition.optional} if there else keys
    )


def offered_tasks(definition: DatasetDefinition) -> dict[Task, str]:
    """The tasks that a definition allows, in the order of `TASKS`, and where each one's ground truth comes from."""
    kinds = annotation_kinds(definition)
    offered: dict[Task, str] = {}
    for task in TASKS:
        if task in kinds:
            offered[task] = kinds[task]
        elif "panoptic" in kinds:
            offered[task] = f"derived from {kinds['panoptic']}"
    return offered


def is_present(definition: DatasetDefinition) -> bool:
    """Whether the files that the definition needs are there: its images and each annotation that is not optional."""
    needed = [definition.images] if definition.images is not None else []
    needed += [getattr(definition, key) for key in annotation_kinds(definition).values()]
    return all(exists(definition.resolve(path)) for path in needed)


def _exists(definition: DatasetDefinition, key: str) -> bool:
    return exists(definition.resolve(getattr(definition, key)))
