"""From a label map to ids, classes and masks: `ignore_index` and `instance_id_to_semantic_id`, once, in numpy.

The image processors make training targets with it and dataset readers make ground truth with it, so that what is
trained on and what is scored against cannot differ.

The rule, as the published processors have it:

1. With `ignore_index`, value 0 is background and becomes `ignore_index`; every other value decreases by one.
2. Each value left in the map is one segment, except `ignore_index`.
3. Without `instance_id_to_semantic_id` a value is its own class. With it, values are instance ids, and the
   dictionary, keyed by the value as it was before step 1, gives the class; with `ignore_index` that class decreases
   by one too.

The trap: an id whose value minus one equals `ignore_index` becomes `ignore_index` in step 1 and vanishes with the
background in step 2, without an error. Relabel ids to 1..n and choose `ignore_index` outside 0..n-1 (say -1, or 255
for fewer than 256 ids) and it cannot happen.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eomt.errors import LabelMapError

_BINCOUNT_LIMIT = 1 << 16
"""Below this value counting is several times faster than sorting, and its table stays small."""


@dataclass(frozen=True)
class LabelMap:
    """A label map after step 1 of the rule, and the segments found in it."""

    values: NDArray[np.int64]
    """(H, W), reduced by one where `ignore_index` was given."""
    ids: NDArray[np.int64]
    """(n,), ascending: the values that are segments."""
    class_labels: NDArray[np.int64]
    """(n,): the class of each segment."""

    def masks(self) -> NDArray[np.float32]:
        """One binary mask a segment, float32 of shape (n, H, W), in the order of `ids`."""
        return np.equal(self.values, self.ids[:, None, None]).astype(np.float32)


def read_label_map(
    label_map: ArrayLike,
    instance_id_to_semantic_id: Mapping[int, int] | None = None,
    ignore_index: int | None = None,
    *,
    where: str = "the label map",
) -> LabelMap:
    """The segments of one label map: (H, W), any integer type.

    `where` names the map in error messages. Raises LabelMapError for a map that is not two-dimensional or not
    of whole numbers, and for an id that `instance_id_to_semantic_id` lacks.
    """
    values = _checked(label_map, where)
    if ignore_index is not None:
        values = np.where(values == 0, ignore_index, values - 1)
    ids = _present(values)
    if ignore_index is not None:
        ids = ids[ids != ignore_index]
    if instance_id_to_semantic_id is None:
        return LabelMap(values, ids, ids.copy())
    shift = 0 if ignore_index is None else 1
    classes = [_class_of(int(i) + shift, instance_id_to_semantic_id, where) - shift for i in ids]
    return LabelMap(values, ids, np.array(classes, dtype=np.int64))


def masks_and_labels(
    label_map: ArrayLike,
    instance_id_to_semantic_id: Mapping[int, int] | None = None,
    ignore_index: int | None = None,
    *,
    where: str = "the label map",
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Binary masks (n, H, W) float32 and class labels (n,) int64 of one label map: a model's training
    targets.

    Arguments and errors are those of `read_label_map`.
    """
    read = read_label_map(label_map, instance_id_to_semantic_id, ignore_index, where=where)
    return read.masks(), read.class_labels


def _checked(label_map: ArrayLike, where: str) -> NDArray[np.int64]:
    array = np.asarray(label_map)
    if array.ndim != 2:
        raise LabelMapError(f"{where} has shape {array.shape}; a label map is (height, width), one id a pixel.")
    if array.dtype.kind not in "iub":
        raise LabelMapError(f"{where} holds {array.dtype} values; ids are whole numbers: cast it to an integer type.")
    return array.astype(np.int64)


def _present(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """The distinct values, ascending."""
    if values.size and values.min() >= 0 and values.max() < _BINCOUNT_LIMIT:
        return np.flatnonzero(np.bincount(values.ravel())).astype(np.int64, copy=False)
    return np.unique(values)


def _class_of(instance_id: int, classes: Mapping[int, int], where: str) -> int:
    try:
        return int(classes[instance_id])
    except KeyError:
        known = ", ".join(str(key) for key in sorted(classes, key=str)[:12]) + (", ..." if len(classes) > 12 else "")
        raise LabelMapError(
            f"{where} holds id {instance_id}, which instance_id_to_semantic_id lacks; its ids are {known or 'none'}. "
            "Add it; keys are whole numbers, the ids as they are in the map before ignore_index."
        ) from None
