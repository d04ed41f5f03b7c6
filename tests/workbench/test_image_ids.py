"""Ids of images behave as a tuple of strings, and are ordered as pycocotools orders them."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.evaluation.image_ids import ImageIds, ranks_of_ids

IDS = ("10", "9", "a", "")


def test_they_read_as_a_tuple() -> None:
    ids = ImageIds(pa.array(IDS))
    assert tuple(ids) == IDS
    assert len(ids) == 4
    assert ids[1] == "9"
    assert ids[1:3] == ("9", "a")
    assert "a" in ids
    with pytest.raises(IndexError):
        ids[4]


def test_many_are_read_in_order() -> None:
    texts = [str(number) for number in range(20_000)]
    assert list(ImageIds.of(texts)) == texts


@given(st.lists(st.one_of(st.integers(0, 10**20).map(str), st.just("007"), st.text(max_size=3)), unique=True))
def test_ranks_are_those_of_sorting(ids: list[str]) -> None:
    numeric = all(each.isdecimal() for each in ids)
    ordered = sorted(ids, key=int) if numeric else sorted(ids)
    ranks = ranks_of_ids(ids)
    assert ranks.tolist() == [ordered.index(each) for each in ids]
    assert ranks.dtype == np.int64
