"""The push: ground truth and one run's segments as fields of a FiftyOne dataset, some images at a time."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pyarrow as pa

from workbench import ground_truth
from workbench.errors import FiftyOneError
from workbench.evaluation.evaluation import ground_truths
from workbench.formats.base import Dataset, Task
from workbench.runs import Run
from workbench.segments import concat
from workbench.store import SegmentStore
from workbench.voxel51 import names, push_maps, push_objects
from workbench.voxel51.push_maps import PixelTally
from workbench.voxel51.scoring import Scored, Tally
from workbench.voxel51.target import Target

IMAGES_PER_CHUNK = 256
Progress = Callable[[str, int, int], None]
"""Called with (what is under way, images done, images in all)."""


@dataclass(frozen=True)
class Truth:
    """Ground truth on its way into a field."""

    store: SegmentStore
    task: Task
    field: str
    stale: bool
    """Whether the annotations have changed since they were pushed, so that the field has to be written again."""


@dataclass(frozen=True)
class Predicted:
    """A run on its way into a field."""

    run: Run
    field: str


@dataclass(frozen=True)
class Push:
    """What goes into a dataset: ground truth, a run, or both, the run with its scores or without."""

    target: Target
    truth: Truth | None = None
    predicted: Predicted | None = None
    scored: Scored | None = None

    @property
    def is_semantic(self) -> bool:
        """Whether these are semantic maps, one an image, and not objects."""
        if self.truth is not None:
            return self.truth.task == "semantic"
        return self.predicted is not None and self.predicted.run.task == "semantic"


@dataclass
class Pushed:
    """What a push came to."""

    images: int = 0
    written: int = 0
    """Objects, or semantic maps."""
    tally: Tally = field(default_factory=Tally, repr=False)
    pixels: PixelTally = field(default_factory=PixelTally, repr=False)


def push_images(push: Push, images: pa.Table, progress: Progress) -> Pushed:
    """Push the segments of those images, rows of an image table."""
    what = "Pushing ground truth" if push.predicted is None else f"Pushing {push.predicted.run.path.name}"
    chunks = [images.slice(begin, IMAGES_PER_CHUNK) for begin in range(0, len(images), IMAGES_PER_CHUNK)]
    ids = [chunk["image_id"].to_pylist() for chunk in chunks]
    gt_tables = push.truth.store.chunks(ids) if push.truth else (concat([]) for _ in ids)
    pred_tables = push.predicted.run.store.chunks(ids) if push.predicted else (concat([]) for _ in ids)
    push_chunk = push_maps.push_chunk if push.is_semantic else push_objects.push_chunk
    pushed = Pushed()
    for chunk, gt, pred in zip(chunks, gt_tables, pred_tables, strict=True):
        push_chunk(push, pushed, chunk, gt, pred)
        pushed.images += len(chunk)
        progress(what, pushed.images, len(images))
    return pushed


def open_truth(target: Target, dataset: Dataset, task: Task, progress: Progress) -> Truth:
    """The ground truth of a task, converted on first use, and its field declared."""
    name = names.ground_truth_field(task, dataset.tasks)
    what = f"Converting {task} ground truth"
    store = ground_truth.load(dataset, task, lambda done, total: progress(what, done, total))
    if task == "semantic":
        target.declare_segmentation(name)
    else:
        target.declare_detections(name)
    known = target.info["ground_truth"].get(name)
    return Truth(store, task, name, stale=known is not None and known["fingerprint"] != dataset.fingerprint())


def truth_task(run: Run, dataset: Dataset) -> Task | None:
    """The kind of ground truth that a run is compared with; None where the dataset has none at all."""
    return ground_truths(run, dataset)[0] if dataset.tasks else None


def check_categories(target: Target, run: Run) -> None:
    """Raise FiftyOneError where a run's categories are not those of the dataset that it goes into."""
    known = target.labels
    strangers = sorted({category.category_id for category in run.categories} - set(known))
    if strangers:
        raise FiftyOneError(
            f"{run.path}: categories {strangers[:5]} are not among those of FiftyOne dataset {target.dataset.name!r}. "
            "Push the run under another --name."
        )
