"""Rows gathered chunk by chunk are those of the chunks joined."""

from dataclasses import dataclass, fields

import numpy as np
import pytest
from numpy.typing import NDArray

from workbench.evaluation.columns import Gathered, join


@dataclass(frozen=True)
class Record:
    image: NDArray[np.int32]
    bits: NDArray[np.uint8]
    gt_score: NDArray[np.float64]


def record(rng: np.random.Generator, rows: int, gts: int) -> Record:
    return Record(
        rng.integers(100, size=rows, dtype=np.int32),
        np.asfortranarray(rng.integers(256, size=(rows, 5), dtype=np.uint8)),
        rng.random(gts),
    )


def test_rows_gathered_are_those_of_the_parts_joined():
    rng = np.random.default_rng(0)
    parts = [record(rng, rows, gts) for rows, gts in ((3, 0), (0, 2), (4, 5))]
    gathered: Gathered[Record] = Gathered(7)
    for part in parts:
        gathered.add(part)
    found, expected = gathered.record(), join(parts)
    for field in fields(Record):
        ours, theirs = getattr(found, field.name), getattr(expected, field.name)
        assert np.array_equal(ours, theirs) and ours.dtype == theirs.dtype
        assert ours.flags.c_contiguous


def test_more_rows_than_announced_are_refused():
    rng = np.random.default_rng(0)
    gathered: Gathered[Record] = Gathered(2)
    with pytest.raises(ValueError, match="could not broadcast"):
        gathered.add(record(rng, 3, 0))


def test_nothing_gathered_is_no_record():
    with pytest.raises(ValueError, match="no record has been added"):
        Gathered(2).record()
