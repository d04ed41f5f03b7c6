"""The compiled loops of scoring stay within their arrays: run as plain Python, where NumPy refuses what lies outside.

Masks are tiny, so that a run takes a single character and arrays have no room to spare.
"""

from types import ModuleType

import numpy as np
import pycocotools.mask as coco_mask
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from workbench import rle
from workbench.evaluation import instance_kernels, kernels, map_kernels

Masks = list[NDArray[np.bool_]]
SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 5))
SIDES = SHAPES.flatmap(lambda shape: st.tuples(*[st.lists(arrays.arrays(np.bool_, shape), min_size=1, max_size=4)] * 2))
interpreted_once = settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (instance_kernels, kernels, map_kernels):
        run_as_python(module, monkeypatch)


def run_as_python(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, kernel in vars(module).copy().items():
        if hasattr(kernel, "py_func"):
            monkeypatch.setattr(module, name, kernel.py_func)


def characters_of(masks: Masks) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    counts = [rle.encode(mask) for mask in masks]
    starts = np.cumsum([0, *map(len, counts)]).astype(np.int64)
    return np.frombuffer(b"".join(counts), np.uint8), starts


def one_image(masks: Masks) -> NDArray[np.int64]:
    return np.array([[0, len(masks)]])


@interpreted_once
@given(SIDES)
def test_ious_of_tiny_masks_stay_within_their_arrays(sides):
    dets, gts = sides
    crowds = np.arange(len(gts)) % 2 == 0
    spans = [each for masks in sides for each in (*characters_of(masks), np.arange(len(masks)), one_image(masks))]
    found = instance_kernels.mask_ious(*spans, crowds)
    encoded = [[coco_mask.encode(np.asfortranarray(mask, np.uint8)) for mask in masks] for masks in (dets, gts)]
    assert found.tolist() == coco_mask.iou(*encoded, crowds.tolist()).ravel().tolist()


@interpreted_once
@given(SIDES)
def test_pairs_of_tiny_masks_stay_within_their_arrays(sides):
    runs = [kernels.decode_runs(*characters_of(masks)) for masks in sides]
    pairs = kernels.intersect_runs(*runs[0], one_image(sides[0]), *runs[1], one_image(sides[1]))
    expected = [
        [i, j, int((a & b).sum())] for i, a in enumerate(sides[0]) for j, b in enumerate(sides[1]) if (a & b).any()
    ]
    assert pairs.tolist() == expected


@interpreted_once
@given(SIDES)
def test_tiny_maps_stay_within_their_arrays_overlapping_or_not(sides):
    given_masks = [each for masks in sides for each in (*characters_of(masks), one_image(masks))]
    pairs, overlapping = map_kernels.intersect_maps(*given_masks, np.array([sides[0][0].size]))
    twice = [i for i, masks in enumerate(sides) if (np.sum(masks, axis=0) > 1).any()]
    assert overlapping == (twice[0] if twice else -1)
    shared = [[int((a & b).sum()) for b in sides[1]] for a in sides[0]]
    expected = [] if twice else [[i, j, n] for i, row in enumerate(shared) for j, n in enumerate(row) if n]
    assert pairs.tolist() == expected
