"""The one-pass encoder must write what pycocotools writes for each label's mask, byte for byte."""

import subprocess
import sys

import numpy as np
import pycocotools.mask as coco_mask
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from workbench import label_map_rle, rle
from workbench.label_map_rle import LabelMapRle, compress_runs, encode_label_map, encode_runs, label_runs

SHAPES = st.tuples(st.integers(1, 40), st.integers(1, 40))
LABEL_MAPS = st.one_of(
    arrays.arrays(np.int64, SHAPES, elements=st.sampled_from([-1, 0, 1, 2, 16_777_215])),
    arrays.arrays(np.uint8, SHAPES, elements=st.integers(0, 3), fill=st.just(2)),
)


def with_numpy(label_map: np.ndarray) -> LabelMapRle:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(label_map_rle, "_kernels", lambda: None)
        return encode_label_map(label_map)


def assert_as_pycocotools(label_map: np.ndarray, encoded: LabelMapRle) -> None:
    assert encoded.ids.tolist() == np.unique(label_map).tolist()
    official = [coco_mask.encode(np.asfortranarray(label_map == i, dtype=np.uint8)) for i in encoded.ids.tolist()]
    assert encoded.counts == [rle["counts"] for rle in official]
    assert encoded.areas.tolist() == [int((label_map == i).sum()) for i in encoded.ids.tolist()]
    assert encoded.bboxes.tolist() == [coco_mask.toBbox(rle).tolist() for rle in official]


@pytest.mark.parametrize("encode", [encode_label_map, with_numpy])
@settings(deadline=None)
@given(label_map=LABEL_MAPS)
def test_bytes_areas_and_boxes_are_those_of_pycocotools(encode, label_map):
    assert_as_pycocotools(label_map, encode(label_map))


@pytest.mark.parametrize("encode", [encode_label_map, with_numpy])
@pytest.mark.parametrize(
    "label_map",
    [
        np.array([[7]]),
        np.array([[0, 0, 1]]),
        np.array([[1], [0], [1]], np.uint8),
        np.zeros((300, 200), np.int32),  # runs of more than four characters
        np.arange(35).reshape(5, 7),
        np.array([[True, False], [False, True]]),
        np.asfortranarray(np.arange(6).reshape(2, 3) // 2),
        np.arange(24).reshape(4, 6)[::2, ::-1] % 5,
        np.array([[np.iinfo(np.int64).min, np.iinfo(np.int64).max]]),
    ],
    ids=["pixel", "row", "column", "large", "all different", "bool", "fortran", "strided", "extreme ids"],
)
def test_corner_cases(encode, label_map):
    assert_as_pycocotools(label_map, encode(label_map))


def test_large_map_with_many_ragged_segments():
    rng = np.random.default_rng(0)
    coarse = np.kron(rng.integers(1, 1 << 24, (6, 8)), np.ones((80, 80), np.int64))
    ragged = np.where(rng.random(coarse.shape) < 0.02, 0, coarse)
    assert_as_pycocotools(ragged, encode_label_map(ragged))
    assert_as_pycocotools(ragged, with_numpy(ragged))


@given(label_map=LABEL_MAPS)
def test_relabelled_runs_are_those_of_the_relabelled_map(label_map):
    runs = label_runs(label_map)
    joined = encode_runs(runs.relabelled(runs.ids[runs.owners] // 2))
    assert_as_pycocotools(label_map.astype(np.int64) // 2, joined)


@pytest.mark.parametrize(
    "wrong", [np.zeros((0, 4), int), np.zeros((2, 2, 3), int), np.zeros((2, 2)), np.array([[2**63]], np.uint64)]
)
def test_what_is_no_label_map_is_refused(wrong):
    with pytest.raises(ValueError, match=r"label"):
        encode_label_map(wrong)


@given(lengths=st.lists(st.lists(st.integers(0, 2**31), max_size=12), max_size=6))
def test_compress_runs_is_the_inverse_of_parse_runs(lengths):
    offsets = np.cumsum([0, *map(len, lengths)])
    flat = np.array([run for mask in lengths for run in mask], dtype=np.int64)
    parsed = rle.parse_runs(compress_runs(flat, offsets))
    assert parsed.lengths.tolist() == flat.tolist()
    assert parsed.offsets.tolist() == offsets.tolist()


@pytest.mark.parametrize(
    "obstacle",
    [
        "import numba.core.caching as c; c.CacheImpl._locator_classes = []",  # no folder that can be written
        "import sys; sys.modules['numba'] = None",  # numba cannot be imported
    ],
)
def test_works_without_a_cache_folder_and_without_numba(obstacle):
    program = (
        f"{obstacle}\nimport numpy as np\nfrom workbench.label_map_rle import encode_label_map, _kernels\n"
        "print(encode_label_map(np.eye(3, dtype=int)).counts)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == str(encode_label_map(np.eye(3, dtype=int)).counts)


def test_importing_the_module_does_not_import_numba():
    program = "import sys, workbench.label_map_rle; print('numba' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
