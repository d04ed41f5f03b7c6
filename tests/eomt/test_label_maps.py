import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from eomt.errors import LabelMapError
from eomt.label_maps import masks_and_labels, read_label_map

MAPS = hnp.arrays(np.int64, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=st.integers(0, 7))


def slow_masks_and_labels(label_map, instance_classes, ignore_index):
    """The rule pixel by pixel, in plain Python."""
    height, width = label_map.shape
    reduced = {}
    for y in range(height):
        for x in range(width):
            value = int(label_map[y, x])
            if ignore_index is not None:
                value = ignore_index if value == 0 else value - 1
            if value != ignore_index:
                reduced.setdefault(value, []).append((y, x))
    masks = np.zeros((len(reduced), height, width), dtype=np.float32)
    labels = []
    for row, value in enumerate(sorted(reduced)):
        for y, x in reduced[value]:
            masks[row, y, x] = 1
        if instance_classes is None:
            labels.append(value)
        elif ignore_index is None:
            labels.append(instance_classes[value])
        else:
            labels.append(instance_classes[value + 1] - 1)
    return masks, np.array(labels, dtype=np.int64)


@settings(deadline=None, max_examples=200)
@given(
    MAPS,
    st.one_of(st.none(), st.just({i: (i * 5) % 7 for i in range(8)})),
    st.sampled_from([None, 255, -1, 0, 3]),
)
def test_equals_the_rule_applied_pixel_by_pixel(label_map, instance_classes, ignore_index):
    masks, labels = masks_and_labels(label_map, instance_classes, ignore_index)
    slow_masks, slow_labels = slow_masks_and_labels(label_map, instance_classes, ignore_index)
    assert masks.dtype == np.float32
    assert labels.dtype == np.int64
    np.testing.assert_array_equal(masks, slow_masks)
    np.testing.assert_array_equal(labels, slow_labels)


def test_ignore_index_makes_zero_background_and_lowers_the_rest_by_one():
    read = read_label_map(np.array([[0, 1], [2, 2]], dtype=np.uint8), ignore_index=255)
    assert read.values.tolist() == [[255, 0], [1, 1]]
    assert read.ids.tolist() == [0, 1]
    assert read.class_labels.tolist() == [0, 1]
    assert read.masks().tolist() == [[[0, 1], [0, 0]], [[0, 0], [1, 1]]]


def test_without_ignore_index_zero_is_a_class_of_its_own():
    read = read_label_map(np.array([[0, 1], [2, 2]]))
    assert read.ids.tolist() == [0, 1, 2]


def test_instance_classes_are_keyed_by_the_id_in_the_file():
    label_map = np.array([[0, 7, 9]])
    read = read_label_map(label_map, {7: 3, 9: 3}, ignore_index=255)
    assert read.ids.tolist() == [6, 8]
    assert read.class_labels.tolist() == [2, 2]
    assert read_label_map(label_map, {0: 0, 7: 3, 9: 3}).class_labels.tolist() == [0, 3, 3]


def test_an_id_one_above_ignore_index_vanishes():
    """The documented trap; a reader avoids it with `ignore_index` outside 0..n-1."""
    label_map = np.array([[1, 2, 3]])
    assert read_label_map(label_map, ignore_index=1).ids.tolist() == [0, 2]
    assert read_label_map(label_map, ignore_index=-1).ids.tolist() == [0, 1, 2]


def test_relabelled_ids_all_survive_with_ignore_index_outside():
    ids = np.arange(1, 301).reshape(10, 30)
    read = read_label_map(ids, {i: i % 7 + 1 for i in range(1, 301)}, ignore_index=-1)
    assert len(read.ids) == 300
    assert read.class_labels.tolist() == [i % 7 for i in range(1, 301)]


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, bool])
def test_any_integer_type_gives_the_same(dtype):
    read = read_label_map(np.array([[0, 1]], dtype=dtype), ignore_index=255)
    assert read.values.tolist() == [[255, 0]]


def test_large_and_negative_ids_are_found():
    label_map = np.array([[16_777_215, -5], [70_000, 70_000]])
    assert read_label_map(label_map).ids.tolist() == [-5, 70_000, 16_777_215]


def test_a_map_of_background_only_has_no_segments():
    masks, labels = masks_and_labels(np.zeros((2, 3), dtype=np.uint8), {1: 1}, ignore_index=255)
    assert masks.shape == (0, 2, 3)
    assert labels.shape == (0,)


def test_a_missing_id_is_named_with_its_place_and_the_known_ids():
    with pytest.raises(LabelMapError, match=r"map of image 4 holds id 9, which .* lacks; its ids are 7\. Add it"):
        read_label_map(np.array([[0, 7, 9]]), {7: 3}, ignore_index=255, where="the map of image 4")


@pytest.mark.parametrize("wrong", [np.zeros((2, 2, 3), dtype=np.uint8), np.zeros(4, dtype=np.uint8), np.zeros((2, 2))])
def test_maps_that_are_no_label_maps_are_refused(wrong):
    with pytest.raises(LabelMapError, match=r"the label map (has shape|holds float64)"):
        read_label_map(wrong)


def test_importing_costs_no_torch():
    """Dataset readers use this module, and `workbench --help` must not wait for torch."""
    code = "import sys, eomt.label_maps; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
