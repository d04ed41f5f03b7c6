"""Where the labels of a field came from: the run, or the ground truth, that every object is compared with."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from workbench import ground_truth
from workbench.errors import FiftyOneError, did_you_mean
from workbench.formats.base import Dataset, Task
from workbench.runs import Run
from workbench.store import SegmentStore
from workbench.voxel51 import names
from workbench.voxel51.target import Target

REVIEWED = "reviewed"
"""The sample tag of images that somebody has looked at."""


@dataclass(frozen=True)
class Source:
    """Where the labels of some images came from."""

    store: SegmentStore
    task: Task
    by: str
    """What object ids are made from."""
    min_score: float = 0.0
    """Segments that score less were not offered."""
    polygons: float | None = None
    """The tolerance of pre-labels that were offered as polygons."""
    is_map: bool = False
    """Whether these are semantic maps, one an image, and not objects."""


Sources = list[tuple[Source, pa.Table]]
"""Each with the rows of the image table that it gave labels to, by `ordinal`."""


def find(target: Target, dataset: Dataset, field: str, reviewed: bool) -> Sources:
    """What a field's labels are compared with. With `reviewed`, only of the samples with that tag.

    Raises FiftyOneError for a field without labels of ours, and for ground truth that has changed since it was pushed.
    """
    samples = target.dataset.match_tags(REVIEWED) if reviewed else target.dataset
    if field in names.PRELABELLED_BY:
        return _prelabels(target, field, samples, reviewed)
    return [_ground_truth(target, dataset, field, samples)]


def default_field(target: Target) -> str:
    """The one field of pre-labels. Raises FiftyOneError where there are two."""
    there = [field for field in names.PRELABELLED_BY if target.dataset.has_sample_field(field)]
    if len(there) > 1:
        raise FiftyOneError(
            f"FiftyOne dataset {target.dataset.name!r} has pre-labels in {' and in '.join(there)}. Name one with "
            "--field."
        )
    return there[0] if there else names.LABEL_EDITS


def only_task(sources: Sequence[tuple[Source, pa.Table]], field: str) -> Task:
    """The task of all sources. Raises FiftyOneError where there are several."""
    tasks = sorted({source.task for source, _ in sources})
    if len(tasks) > 1:
        raise FiftyOneError(
            f"field {field!r} holds pre-labels of {' and '.join(tasks)} runs, and one file holds one kind. Pre-label "
            "all images with runs of one task."
        )
    return tasks[0]


def _prelabels(target: Target, field: str, samples: Any, reviewed: bool) -> Sources:
    by_field = names.PRELABELLED_BY[field]
    if not target.dataset.has_sample_field(by_field):
        raise FiftyOneError(
            f"FiftyOne dataset {target.dataset.name!r} has no pre-labels in {field!r}. Make some with `workbench "
            "prelabel`, or name another field with --field."
        )
    ids_of: dict[str, list[str]] = {}
    for image_id, by in zip(*samples.values([names.IMAGE_ID, by_field]), strict=True):
        if by is not None:
            ids_of.setdefault(by, []).append(image_id)
    found = []
    for by, about in target.info["prelabels"].items():
        if by in ids_of:
            run = Run.open(about["path"])
            run.check_whole()
            source = Source(run.store, run.task, by, about["min_score"], about.get("polygons"))
            found.append((source, _in_order(run.images(), ids_of[by])))
    if not found:
        tag = f" with the tag {REVIEWED!r}" if reviewed else ""
        raise FiftyOneError(f"FiftyOne dataset {target.dataset.name!r} has no pre-labelled images{tag}.")
    return found


def _ground_truth(target: Target, dataset: Dataset, field: str, samples: Any) -> tuple[Source, pa.Table]:
    known = target.info["ground_truth"]
    if field not in known:
        raise FiftyOneError(
            f"field {field!r} holds no labels to pull. {did_you_mean(field, [*names.PRELABELLED_BY, *known])}"
        )
    if known[field]["fingerprint"] != dataset.fingerprint():
        raise FiftyOneError(
            f"the annotations of {dataset.definition.name} have changed since field {field!r} was pushed, so nobody "
            "can tell edits from that. Push again with `workbench browse` first."
        )
    task: Task = known[field]["task"]
    store = ground_truth.load(dataset, task)
    ids = samples.exists(field).values(names.IMAGE_ID)
    return Source(store, task, field, is_map=task == "semantic"), _in_order(store.images(), ids)


def _in_order(images: pa.Table, ids: Sequence[str]) -> pa.Table:
    wanted = images.filter(pc.is_in(images["image_id"], pa.array(ids, pa.string())))
    return wanted.filter(pc.is_valid(wanted["height"])).sort_by("ordinal")
