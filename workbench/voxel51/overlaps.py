"""Edited outlines cross those of their neighbours: finding where, and letting the edited ones win."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from workbench import rle
from workbench.voxel51.edits import TRIMMED, Label


def find(labels: Sequence[Label], size_hw: tuple[int, int], same_class_may: bool) -> list[tuple[int, int]]:
    """Pairs of labels that share a pixel; those of one class do not count where `same_class_may`."""
    height, width = size_hw
    owner = np.full((height, width), -1, dtype=np.int64)
    pairs: set[tuple[int, int]] = set()
    for index, label in enumerate(labels):
        mask = rle.decode(label.counts, height, width)
        for other in np.unique(owner[mask]).tolist():
            if other >= 0 and not (same_class_may and labels[other].category_id == label.category_id):
                pairs.add((other, index))
        owner[mask] = index
    return sorted(pairs)


def edited_win(labels: Sequence[Label], size_hw: tuple[int, int]) -> list[Label]:
    """The same labels without overlaps: edited ones take the pixels, of two alike the later one.

    A label that loses pixels gets the edit `trimmed`; one that loses all of them is left out.
    """
    height, width = size_hw
    order = sorted(range(len(labels)), key=lambda index: (labels[index].is_edited, index))
    owner = np.full((height, width), -1, dtype=np.int64)
    for index in order:
        owner[rle.decode(labels[index].counts, height, width)] = index
    found = []
    for index, label in enumerate(labels):
        mask = owner == index
        before = int(rle.parse_runs([label.counts]).areas()[0])
        if before == 0 or int(mask.sum()) == before:
            found.append(label)
        elif mask.any():
            edits = (*(edit for edit in label.edits if edit != "kept"), TRIMMED)
            found.append(replace(label, counts=rle.encode(mask), edits=edits))
    return found
