"""The evidence of a whole run, gathered a few images at a time; what is kept is some hundred bytes an object."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from workbench.auditing.evidence import Labels, Predictions, labels_of, predictions_of
from workbench.errors import EvaluationError
from workbench.evaluation.columns import Segments, join
from workbench.evaluation.evaluation import Progress, comparison_with
from workbench.evaluation.keeping import MATCHES
from workbench.evaluation.overlaps import intersect
from workbench.evaluation.passes import Comparison
from workbench.formats.base import Dataset, Task
from workbench.runs import Run


@dataclass(frozen=True)
class Evidence:
    """What is known of the images that were compared."""

    image_ids: tuple[str, ...]
    """What `image` of labels and predictions counts."""
    labels: Labels
    predictions: Predictions
    says_all: bool
    """A pixel without prediction is background, as in an instance run; a panoptic run leaves out what it does not know.
    """
    left_out: int
    """How many images with ground truth the run lacks, or could not read."""
    lacking: tuple[str, ...]
    """What an evaluation notes of these, which it scores as images without predictions."""


def gather(run: Run, dataset: Dataset, task: Task, progress: Progress) -> Evidence:
    """The evidence of an evaluated run; `task` is the ground truth that it was matched with.

    Images that the run lacks, or could not read, are left out: nothing is known of their labels. Raises EvaluationError
    where no image is left.
    """
    every, scored = comparison_with(run, dataset, task, progress)
    comparison = _read_images(every)
    isthing = {category.category_id: category.isthing for category in dataset.categories}
    status = _Status(run, task, comparison.image_ids)
    says_all = run.task == "instance"
    labels, predictions = [], []
    for gt, pred in comparison.chunks():
        overlaps = intersect(gt, pred)
        labels.append(labels_of(gt, pred, overlaps, says_all))
        predictions.append(predictions_of(gt, pred, overlaps, isthing, status.of(pred)))
    left_out = scored.failed + scored.missing
    return Evidence(tuple(comparison.image_ids), join(labels), join(predictions), says_all, left_out, scored.lacking)


def _read_images(comparison: Comparison) -> Comparison:
    """Without those of which the run says nothing."""
    images = comparison.run.images()
    read = set(images.filter(pc.equal(images["status"], "ok"))["image_id"].to_pylist())
    kept = np.array([image_id in read for image_id in comparison.image_ids], dtype=np.bool_)
    if not kept.any():
        raise EvaluationError(f"{comparison.run.path}: none of its images could be read, so no label can be doubted.")
    ids = tuple(image_id for image_id in comparison.image_ids if image_id in read)
    return replace(comparison, image_ids=ids, file_order=comparison.file_order[kept])


class _Status:
    """What the match table says of each prediction."""

    def __init__(self, run: Run, task: Task, image_ids: Sequence[str]) -> None:
        rows = pq.read_table(
            run.path / MATCHES,
            columns=["image_id", "segment_id", "status"],
            filters=[("task", "=", task), ("kind", "=", "prediction")],
            read_dictionary=["image_id", "status"],
        )
        position = {image_id: index for index, image_id in enumerate(image_ids)}
        images = np.array([position.get(i, -1) for i in rows["image_id"].to_pylist()], dtype=np.int64)
        keys = (images << 32) + rows["segment_id"].to_numpy()
        order = np.argsort(keys, kind="stable")
        self._keys = keys[order]
        self._status = np.array(rows["status"].to_pylist(), dtype=object)[order]

    def of(self, pred: Segments) -> NDArray[Any]:
        """(rows,) of words, "" for a segment that the matching left out."""
        wanted = (pred.image << 32) + pred.segment_id
        if not len(self._keys):
            return np.full(len(wanted), "", dtype=object)
        place = np.minimum(np.searchsorted(self._keys, wanted), len(self._keys) - 1)
        return np.where(self._keys[place] == wanted, self._status[place], "")
