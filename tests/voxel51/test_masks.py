"""Masks cut to their boxes and pasted back; arrays in FiftyOne's form; names."""

import io
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from workbench import crops, rle
from workbench.exports.values import class_labels
from workbench.formats.base import Category
from workbench.voxel51 import masks, names

MASKS = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(lambda shape: arrays.arrays(np.bool_, shape))


def crop_of(mask: np.ndarray) -> crops.Crop:
    return crops.crop(rle.parse_runs([rle.encode(mask)]).lengths, *mask.shape)


@given(MASKS)
def test_a_crop_is_the_mask_inside_its_box(mask):
    ys, xs = np.nonzero(mask)
    part = crop_of(mask)
    if not len(ys):
        assert part.box == (0, 0, 0, 0)
        return
    x, y, w, h = xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1
    assert part.box == (x, y, w, h)
    assert np.array_equal(part.mask, mask[y : y + h, x : x + w])
    assert part.mask.flags.c_contiguous


@given(MASKS)
def test_pasting_a_crop_gives_the_same_bytes(mask):
    part = crop_of(mask)
    box = masks.pixel_box(masks.relative_box(part.box, *mask.shape), *mask.shape)
    assert box == part.box
    assert crops.paste(crops.Crop(box, part.mask), *mask.shape) == rle.encode(mask)


@given(st.integers(1, 5000), st.integers(1, 5000), st.data())
def test_relative_boxes_come_back_to_the_pixel(height, width, data):
    x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    box = (x, y, data.draw(st.integers(1, width - x)), data.draw(st.integers(1, height - y)))
    assert masks.pixel_box(masks.relative_box(box, height, width), height, width) == box


def test_what_lies_outside_the_image_is_left_out():
    counts = crops.paste(crops.Crop((-1, 2, 3, 4), np.ones((4, 3), dtype=np.bool_)), 4, 5)
    expected = np.zeros((4, 5), dtype=np.bool_)
    expected[2:4, 0:2] = True
    assert counts == rle.encode(expected)


@given(MASKS, st.sampled_from([np.bool_, np.uint8, np.uint16]))
def test_arrays_are_packed_as_numpy_saves_them(mask, dtype):
    saved = io.BytesIO()
    np.save(saved, mask.astype(dtype))
    assert zlib.decompress(masks.pack(mask.astype(dtype))) == saved.getvalue()
    assert np.array_equal(masks.unpack(masks.pack(mask.astype(dtype))), mask)


@pytest.mark.parametrize(
    ("run", "field"),
    [
        ("pets-panoptic-eomt", "panoptic_eomt"),
        ("my run (2)", "my_run_2"),
        ("2024-best", "run_2024_best"),
        ("ground_truth", "run_ground_truth"),
        ("tags", "run_tags"),
        ("Größe", "gr_e"),
        ("---", "run"),
    ],
)
def test_fields_are_identifiers_that_nothing_else_uses(run, field):
    assert names.run_field(run, "pets") == field
    assert field.isidentifier()


def test_a_taken_field_gets_a_number():
    assert names.run_field("first", taken={"first", "first_2"}) == "first_3"


def test_categories_that_share_a_name_are_told_apart():
    categories = [
        Category(1, "cat", True, (0, 0, 0)),
        Category(2, "cat", True, (0, 0, 0)),
        Category(3, "dog", True, (0, 0, 0)),
    ]
    assert class_labels(categories) == {1: "cat (1)", 2: "cat (2)", 3: "dog"}
