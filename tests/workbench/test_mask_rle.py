"""Masks are encoded as pycocotools encodes them, byte for byte, by compiled code and without."""

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pycocotools.mask as coco_mask
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from workbench import mask_rle
from workbench.mask_rle import MaskRle, encode_masks

Masks = NDArray[np.bool_]
Encode = Callable[[Masks], MaskRle]
SHAPES = st.tuples(st.integers(0, 3), st.integers(1, 40), st.integers(1, 140))
DRAWN = st.one_of(
    arrays.arrays(np.bool_, SHAPES),
    arrays.arrays(np.bool_, SHAPES, elements=st.booleans(), fill=st.just(True)),
    arrays.arrays(np.bool_, SHAPES, elements=st.booleans(), fill=st.just(False)),
)


def without_numba(masks: Masks) -> MaskRle:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mask_rle, "_kernels", lambda: None)
        return encode_masks(masks)


def assert_as_pycocotools(masks: Masks, found: MaskRle) -> None:
    official = [coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8)) for mask in masks]
    assert found.counts == [rle["counts"] for rle in official]
    assert found.areas.tolist() == [int(mask.sum()) for mask in masks] and found.areas.dtype == np.int64
    assert found.bboxes.tolist() == [coco_mask.toBbox(rle).tolist() for rle in official]


@pytest.mark.parametrize("encode", [encode_masks, without_numba])
@settings(deadline=None)
@given(masks=DRAWN)
def test_bytes_areas_and_boxes_are_those_of_pycocotools(encode: Encode, masks: Masks) -> None:
    assert_as_pycocotools(masks, encode(masks))


@pytest.mark.parametrize("encode", [encode_masks, without_numba])
@pytest.mark.parametrize(
    "masks",
    [
        np.zeros((2, 5, 7), bool),
        np.ones((2, 5, 7), bool),
        np.ones((1, 900, 1200), bool),  # a run of five characters
        np.eye(200, dtype=bool)[None],
        np.arange(2 * 6 * 130).reshape(2, 6, 130) % 2 == 0,  # more characters than there was room for at first
        np.random.default_rng(0).random((40, 90, 130)) < 0.5,
        (np.arange(120).reshape(2, 6, 10) % 3 == 0)[:, ::-1, ::2],  # not in one piece
        np.zeros((0, 5, 7), bool),
    ],
    ids=["empty", "full", "large", "diagonal", "stripes", "noise", "strided", "none"],
)
def test_corner_cases(encode: Encode, masks: Masks) -> None:
    assert_as_pycocotools(masks, encode(masks))


def test_masks_that_cannot_be_written_to_are_encoded() -> None:
    masks = np.eye(5, dtype=bool)[None]
    masks.setflags(write=False)
    assert_as_pycocotools(masks, encode_masks(masks))


@pytest.mark.parametrize("wrong", [np.zeros((4, 5), bool), np.zeros((2, 4, 5), np.uint8)])
def test_what_are_no_masks_is_refused(wrong: Masks) -> None:
    with pytest.raises(ValueError, match="bool of shape"):
        encode_masks(wrong)


def test_importing_the_module_does_not_import_numba() -> None:
    program = "import sys, workbench.mask_rle; print('numba' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_compiled_code_is_there_where_numba_is() -> None:
    pytest.importorskip("numba")
    assert mask_rle._kernels() is not None
