"""What a prediction is asked to be: the options that decide its rows, checked once."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workbench.errors import OptionError, did_you_mean
from workbench.formats.base import TASKS, Task
from workbench.prediction.classes import MATCHINGS, Matching

TOP_K = 100
CANDIDATE_FLOOR = 0.05
"""The class score above which candidates are kept where nothing else is said."""
# What each task reads, with the value where none is given: the published evaluation's.
_TASK_OPTIONS: dict[Task, dict[str, float]] = {
    "panoptic": {"threshold": 0.8, "mask_threshold": 0.5, "overlap_threshold": 0.8},
    "instance": {"threshold": 0.0, "top_k": TOP_K},
    "semantic": {},
}


@dataclass(frozen=True)
class TaskOptions:
    """The options of one task; it reads only those of `_TASK_OPTIONS`."""

    task: Task
    threshold: float = 0.0
    """Panoptic: class scores must exceed it. Instance: candidates whose score is below it are left out."""
    mask_threshold: float = 0.5
    """Panoptic: a pixel belongs to its query where the mask probability is at least this."""
    overlap_threshold: float = 0.8
    """Panoptic: a segment keeps more than this share of its mask, or it is dropped."""
    top_k: int = TOP_K
    """Instance: query x class candidates of an image, best first."""
    classes: Matching = "exact"
    candidate_floor: float | None = None
    """Panoptic: keep every query that scores above it, for `workbench sweep`; None keeps none."""

    def identity(self) -> dict[str, Any]:
        """The options that decide the rows, as JSON values."""
        kept = () if self.candidate_floor is None else ("candidate_floor",)
        return {name: getattr(self, name) for name in ("task", "classes", *_TASK_OPTIONS[self.task], *kept)}


def task_options(task: str, given: Mapping[str, float | int | None], classes: str = "exact") -> TaskOptions:
    """The options of `task`: what was given (None means not), and the task's own defaults for the rest.

    A given `candidate_floor` keeps candidates, of panoptic runs alone.
    Raises OptionError for an unknown task, an option that the task does not read, and a value out of range.
    """
    if task not in _TASK_OPTIONS:
        raise OptionError(f"no task {task!r}. {did_you_mean(task, TASKS)}")
    if classes not in MATCHINGS:
        raise OptionError(f"no way {classes!r} to match classes. {did_you_mean(classes, MATCHINGS)}")
    chosen: dict[str, Any] = dict(_TASK_OPTIONS[task])
    floor = given.get("candidate_floor")
    for name, value in given.items():
        if value is None or name == "candidate_floor":
            continue
        flag = "--" + name.replace("_", "-")
        if name not in chosen:
            readers = " and ".join(t for t, names in _TASK_OPTIONS.items() if name in names)
            raise OptionError(f"{flag} {value} has no meaning for {task} segmentation: it is an option of {readers}.")
        low, high = (1, 100_000) if name == "top_k" else (0, 1)
        if not low <= value <= high:
            raise OptionError(f"{flag} is {value}; it must be from {low} to {high}.")
        chosen[name] = value
    options = TaskOptions(task=task, classes=classes, candidate_floor=floor, **chosen)
    if floor is not None:
        _check_candidates(options, floor)
    return options


def _check_candidates(options: TaskOptions, floor: float) -> None:
    if options.task == "instance":
        raise OptionError(
            "--keep-candidates has no meaning for instance segmentation: without --threshold such a run holds every "
            "candidate, and `workbench sweep` reads them as they are."
        )
    if options.task == "semantic":
        raise OptionError(
            "--keep-candidates has no meaning for semantic segmentation: each pixel gets its best class, without a "
            "threshold."
        )
    if not 0 <= floor <= options.threshold:
        raise OptionError(
            f"--candidate-floor is {floor}; it must be from 0 to the threshold, {options.threshold}: the run's own "
            "segments are among its candidates."
        )
