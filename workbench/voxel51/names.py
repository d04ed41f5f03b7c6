"""How runs and evaluations are called in FiftyOne: Python identifiers, each run's its own."""

import re
from collections.abc import Collection, Mapping

from workbench.formats.base import Task

GROUND_TRUTH = "ground_truth"
LABEL_EDITS = "label_edits"
POLYGON_EDITS = "polygon_edits"
PRELABELLED_BY: Mapping[str, str] = {LABEL_EDITS: "prelabelled_by", POLYGON_EDITS: "polygons_prelabelled_by"}
"""Field of pre-labels -> the sample field that says which of `info["prelabels"]` an image's come from."""
IMAGE_ID = "image_id"
METRIC: Mapping[Task, str] = {"panoptic": "pq", "instance": "ap", "semantic": "miou"}
"""What an evaluation of each task is called first."""
CONFUSION = "confusion"

_RESERVED = {"id", "filepath", "tags", "metadata", "created_at", "last_modified_at", IMAGE_ID, *PRELABELLED_BY}


def run_field(run_name: str, dataset_name: str = "", taken: Collection[str] = ()) -> str:
    """The field of a run folder of that name: an identifier, numbered where it is `taken` by another run.

    The dataset's name, with which runs' names begin unless told otherwise, says nothing inside that dataset.
    """
    short = run_name.removeprefix(f"{dataset_name}-")
    field = re.sub(r"\W+", "_", short, flags=re.ASCII).strip("_").lower() or "run"
    if field[0].isdigit() or field in _RESERVED or field.startswith(GROUND_TRUTH):
        field = f"run_{field}"
    number, name = 2, field
    while name in taken:
        name, number = f"{field}_{number}", number + 1
    return name


def ground_truth_field(task: Task, tasks: Collection[Task]) -> str:
    """`ground_truth` for the dataset's first kind of ground truth, `ground_truth_<task>` for its others."""
    return GROUND_TRUTH if not tasks or task == next(iter(tasks)) else f"{GROUND_TRUTH}_{task}"


def evaluation_key(task: Task, field: str) -> str:
    """The evaluation of a run's field: `pq_<field>`, `ap_<field>` or `miou_<field>`."""
    return f"{METRIC[task]}_{field}"


def confusion_key(field: str) -> str:
    """The evaluation of a run's field that pairs objects of different classes."""
    return f"{CONFUSION}_{field}"
