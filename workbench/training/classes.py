"""The class head for a dataset's categories: what a checkpoint knows by name is kept, the rest starts anew."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from workbench.errors import DatasetError, ModelError
from workbench.formats.base import Category, Task
from workbench.prediction.classes import match_classes

_LISTED = 8
_HEAD = ("class_predictor.weight", "class_predictor.bias")


@dataclass(frozen=True)
class ClassHead:
    """The classes to train: class index i is `categories[i]`."""

    categories: tuple[Category, ...]
    source: tuple[int | None, ...]
    """The class index of the starting checkpoint that each begins as; None for a class that is new."""
    dropped: tuple[str, ...] = ()
    """Classes of the starting checkpoint that the dataset does not have."""

    @property
    def id2label(self) -> dict[int, str]:
        """Class index -> name."""
        return {index: category.name for index, category in enumerate(self.categories)}

    @property
    def class_of(self) -> dict[int, int]:
        """category_id -> class index."""
        return {category.category_id: index for index, category in enumerate(self.categories)}

    def describe(self) -> str:
        """Which classes are kept, which are new, and which are dropped."""
        kept = [c.name for c, source in zip(self.categories, self.source, strict=True) if source is not None]
        new = [c.name for c, source in zip(self.categories, self.source, strict=True) if source is None]
        parts = {"kept": kept, "new": new, "dropped": list(self.dropped)}
        listed = [f"{len(names)} {kind} ({_some(names)})" for kind, names in parts.items() if names]
        return f"{len(self.categories)} classes: {', '.join(listed)}"

    def transplant(self, old: Mapping[str, Tensor], fresh: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The head's parameters: rows of `old` for known classes and for "no object", rows of `fresh` for new ones."""
        head = {}
        for key in _HEAD:
            rows = fresh[key].clone()
            for index, source in enumerate(self.source):
                if source is not None:
                    rows[index] = old[key][source]
            rows[-1] = old[key][-1]
            head[key] = rows
        return head


def class_head(categories: Sequence[Category], task: Task, known: Mapping[int, str] | None = None) -> ClassHead:
    """The classes of a task on a dataset: its categories ascending by id, for instance segmentation its things.

    `known` names a starting checkpoint's classes (class index -> name), which are found by the rules of prediction.
    Raises DatasetError where there is no category to learn, or two that cannot be told apart by their names.
    """
    wanted = tuple(category for category in categories if category.isthing or task != "instance")
    if not wanted:
        kind = "things" if categories else "categories"
        raise DatasetError(f"the dataset has no {kind} to learn for {task} segmentation. Choose another --task.")
    _check_distinct(wanted, task)
    if known is None:
        return ClassHead(wanted, (None,) * len(wanted))
    old_class = _found(known, wanted)
    source = tuple(old_class.get(category.category_id) for category in wanted)
    dropped = tuple(name for index, name in known.items() if index not in source)
    return ClassHead(wanted, source, dropped)


def _found(known: Mapping[int, str], wanted: Sequence[Category]) -> dict[int, int]:
    """category_id -> class index among `known`."""
    try:
        matched = match_classes(known, wanted, "semantic", "common")
    except ModelError:  # none of them matches, or none has a name
        return {}
    return {category.category_id: index for index, category in enumerate(matched.of_class) if category is not None}


def _check_distinct(wanted: Sequence[Category], task: Task) -> None:
    try:
        match_classes({index: category.name for index, category in enumerate(wanted)}, wanted, task, "exact")
    except ModelError as error:
        raise DatasetError(
            f"the dataset's categories cannot be told apart by name, as predictions must be later: {error}"
        ) from error


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")
