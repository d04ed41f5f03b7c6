"""What a person did to the labels of one image: each stored object against the one that was offered.

An object that was not touched keeps its original run lengths, byte for byte. The App's brush resamples a mask to the
screen, so that an edited outline has the screen's precision; an edited polygon has that of its points.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workbench import rle
from workbench.polygons import PolygonError
from workbench.voxel51 import shapes
from workbench.voxel51.documents import Document

KEPT, MOVED, RELABELLED, DELETED, ADDED, TRIMMED = "kept", "moved", "relabelled", "deleted", "added", "trimmed"
"""`moved` is any change of the mask; `trimmed` lost pixels to an edited neighbour. One object may be both moved and
relabelled."""


@dataclass
class Label:
    """One object of an image as it comes home."""

    category_id: int
    iscrowd: bool
    counts: bytes
    edits: tuple[str, ...]
    original: Mapping[str, Any] | None
    """The row of the segment table that was offered; None for an added object."""
    was: str | None = None
    """The label that was offered, where it is another one now."""

    @property
    def is_edited(self) -> bool:
        """Whether its place or its class was chosen by a person."""
        return any(edit in self.edits for edit in (MOVED, RELABELLED, ADDED))


@dataclass(frozen=True)
class Problem:
    """A label that cannot be taken home as it is."""

    code: str
    image_id: str
    detail: str


def compare(
    stored: Sequence[Document],
    offered: Sequence[tuple[Document, Mapping[str, Any]]],
    size_hw: tuple[int, int],
    categories: Mapping[str, int],
    image_id: str,
) -> tuple[list[Label], list[Mapping[str, Any]], list[Problem]]:
    """An image's labels, the rows that were deleted, and what is wrong.

    `offered` pairs each document with its row of the segment table; `categories` maps labels to category ids. Labels
    come in the order of the offered rows, added ones behind.
    """
    known = {document["_id"]: (document, row) for document, row in offered}
    found: dict[Any, Label] = {}
    problems: list[Problem] = []
    for document in stored:
        before = known.get(document["_id"])
        if document["_id"] in found:
            problems.append(Problem("duplicate", image_id, f"object {document['_id']} is there twice"))
            continue
        if (category_id := categories.get(document.get("label") or "")) is None:
            problems.append(Problem("unknown_class", image_id, f"{_name(document)}: no class of the dataset"))
            continue
        try:
            label = _label(document, before, category_id, size_hw)
        except PolygonError as error:
            problems.append(Problem("bad_polygon", image_id, f"{_name(document)}: {error}"))
            continue
        if label is None:
            problems.append(Problem("no_mask", image_id, f"{_name(document)}: a box without a mask, or an open line"))
        elif not _has_pixels(label) and (before is None or MOVED in label.edits):
            problems.append(Problem("empty_mask", image_id, f"{_name(document)}: its mask has no pixel in the image"))
        else:
            found[document["_id"]] = label
    ordered = [found[i] for i in known if i in found] + [label for i, label in found.items() if i not in known]
    seen = {document["_id"] for document in stored}
    return ordered, [row for i, (_, row) in known.items() if i not in seen], problems


def _label(
    document: Document, before: tuple[Document, Mapping[str, Any]] | None, category_id: int, size_hw: tuple[int, int]
) -> Label | None:
    iscrowd = bool(document.get("iscrowd"))
    if before is not None and shapes.is_untouched(document, before[0]):
        offered, row = before
        relabelled = document["label"] != offered["label"] or iscrowd != row["iscrowd"]
        was = offered["label"] if relabelled else None
        return Label(category_id, iscrowd, row["counts"], (RELABELLED,) if relabelled else (KEPT,), row, was)
    counts = shapes.counts(document, size_hw)
    if counts is None:
        return None
    if before is None:
        return Label(category_id, iscrowd, counts, (ADDED,), None)
    offered, row = before
    relabelled = document["label"] != offered["label"] or iscrowd != row["iscrowd"]
    # A polygon has fewer points than the mask that it stands for: what it says is compared with what it said.
    moved = counts != shapes.counts(offered, size_hw)
    edits = tuple(edit for edit, is_so in ((MOVED, moved), (RELABELLED, relabelled)) if is_so) or (KEPT,)
    kept_counts = counts if moved else row["counts"]
    return Label(category_id, iscrowd, kept_counts, edits, row, offered["label"] if relabelled else None)


def _has_pixels(label: Label) -> bool:
    return bool(rle.parse_runs([label.counts]).areas()[0])


def _name(document: Document) -> str:
    return f"object {document['_id']} ({document.get('label')!r})"
