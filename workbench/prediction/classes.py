"""Classes of a checkpoint and categories of a dataset, matched by name; a mismatch is an error, never a silent zero.

Names are compared in four rounds, and a pair counts when it is the only one of its round for both sides:

1. the whole name ("traffic light", "Traffic_Light"),
2. the first of several names ("door" and ADE20K's "door;double door"),
3. any of several names ("mountain, mount" and "mount"),
4. the names that `ALIASES` and COCO's endings (`-merged`, `-stuff`) make equal.

Letter case, underscores, hyphens and runs of spaces never matter.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from workbench.errors import ModelError
from workbench.formats.base import Category, Task

Matching = Literal["exact", "common"]
MATCHINGS: tuple[Matching, ...] = get_args(Matching)

# What files in circulation write: what COCO, ADE20K or Cityscapes call it.
ALIASES = {
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "doughnut": "donut",
    "hair dryer": "hair drier",
    "motorbike": "motorcycle",
    "pavement": "sidewalk",
    "pedestrian": "person",
    "pottedplant": "potted plant",
    "signsymbol": "traffic sign",
    "sofa": "couch",
    "television": "tv",
    "tree": "vegetation",
    "tvmonitor": "tv",
}

_SEPARATORS = re.compile(r"[\s_\-]+")
_ENDING = re.compile(r" (merged|stuff)$")
_UNNAMED = re.compile(r"LABEL_\d+")
_LISTED = 8


@dataclass(frozen=True)
class ClassMap:
    """Which category each class index of a model stands for."""

    categories: tuple[Category, ...]
    """Of the dataset, all of them, ascending by id."""
    of_class: tuple[Category | None, ...]
    """The category of class index 0, 1, ...; None where predictions of the class are left out."""

    @property
    def used(self) -> tuple[int, ...]:
        """The class indices that have a category, ascending."""
        return tuple(index for index, category in enumerate(self.of_class) if category is not None)


def match_classes(
    names: Mapping[int, str], categories: Sequence[Category], task: Task, matching: Matching = "exact"
) -> ClassMap:
    """The category of each class of `names` (class index -> name).

    Instance segmentation needs a class for every thing of the dataset and leaves out all other classes: a checkpoint
    does not say which of its classes are stuff. The other tasks need a category for every class too. "exact" raises
    ModelError naming what has no partner on either side; "common" goes on with the pairs that there are, and raises
    where there is none.
    """
    pairs = _pairs([names[index] for index in range(len(names))], [category.name for category in categories])
    wanted = [c for c in categories if c.isthing or task != "instance"]
    if not wanted:
        raise ModelError("the dataset has no things, so there are no instances to find; use --task semantic.")
    found = {categories[position].category_id for position in pairs.values()}
    lonely_classes = [names[index] for index in range(len(names)) if index not in pairs]
    lonely_categories = [category.name for category in wanted if category.category_id not in found]
    mismatch = lonely_categories or (lonely_classes and task != "instance")
    if (matching == "exact" and mismatch) or not pairs:
        raise ModelError(_mismatch(names, lonely_classes, lonely_categories, len(wanted), len(pairs)))
    of_class = tuple(categories[pairs[index]] if index in pairs else None for index in range(len(names)))
    return ClassMap(tuple(categories), tuple(c if c in wanted else None for c in of_class))


def _pairs(classes: Sequence[str], categories: Sequence[str]) -> dict[int, int]:
    """Position in `classes` -> position in `categories`, each at most once."""
    pairs: dict[int, int] = {}
    for keys_of in (_whole, _first, _each, _aliased):
        taken = set(pairs.values())
        left = _by_key(classes, keys_of, set(pairs))
        right = _by_key(categories, keys_of, taken)
        for key in sorted(left.keys() & right.keys()):
            if len(left[key]) == len(right[key]) == 1 and right[key][0] not in taken:
                pairs.setdefault(left[key][0], right[key][0])
                taken = set(pairs.values())
    return pairs


def _by_key(names: Sequence[str], keys_of: Callable[[str], set[str]], leave_out: set[int]) -> dict[str, list[int]]:
    positions: dict[str, list[int]] = {}
    for position, name in enumerate(names):
        for key in keys_of(name) if position not in leave_out else ():
            positions.setdefault(key, []).append(position)
    return positions


def _whole(name: str) -> set[str]:
    return {_plain(name)}


def _first(name: str) -> set[str]:
    return {_plain(_split(name)[0])}


def _each(name: str) -> set[str]:
    return {_plain(part) for part in _split(name)}


def _aliased(name: str) -> set[str]:
    without_ending = {_ENDING.sub("", key) for key in _each(name)}
    return {ALIASES.get(key, key) for key in without_ending}


def _split(name: str) -> list[str]:
    return [part for part in re.split("[,;]", name) if part.strip()] or [name]


def _plain(name: str) -> str:
    return _SEPARATORS.sub(" ", name.casefold()).strip()


def _mismatch(
    names: Mapping[int, str], lonely_classes: list[str], lonely_categories: list[str], wanted: int, matched: int
) -> str:
    if all(_UNNAMED.fullmatch(name) for name in names.values()):
        return (
            f"the checkpoint does not name its {len(names)} classes (LABEL_0, ...), so they cannot be matched to the "
            "dataset's categories. Write the names into id2label of its config.json, in class order."
        )
    remedy = "Name them alike (id2label in the checkpoint's config.json, the names in the dataset's files)"
    if matched:
        remedy += f", or go on with the {matched} that match: --classes common"
    lonely = (
        ("classes without a category", lonely_classes, len(names)),
        ("categories without a class", lonely_categories, wanted),
    )
    lines = [f"  {what} ({len(those)} of {total}): {_listed(those)}\n" for what, those, total in lonely if those]
    return f"the checkpoint's classes are not the dataset's categories.\n{''.join(lines)}{remedy}."


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")
