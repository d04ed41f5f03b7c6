import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from eomt import resizing
from eomt.errors import ProcessorError
from tests.reference.oracles import transformers_processors

transformers_processors()  # makes the next import possible

from transformers.image_transforms import get_size_with_aspect_ratio  # noqa: E402

EDGES = st.integers(1, 3000)


@settings(deadline=None, max_examples=300)
@given(EDGES, EDGES, st.integers(1, 1500), st.one_of(st.none(), st.integers(1, 2000)))
def test_the_resized_size_is_that_of_transformers(height, width, shortest, longest):
    ours = resizing.resized_size((height, width), {"shortest_edge": shortest, "longest_edge": longest})
    theirs = get_size_with_aspect_ratio((height, width), shortest, longest)
    left_too_long = longest is not None and theirs == (height, width) and max(theirs) > longest
    assert left_too_long or ours == theirs


@pytest.mark.parametrize(
    ("size", "edge", "expected"),
    [((300, 641), 640, (300, 640)), ((641, 300), 640, (640, 300)), ((70, 161), 160, (70, 160))],
)
def test_a_side_that_is_too_long_is_brought_down_where_transformers_leaves_it(size, edge, expected):
    assert get_size_with_aspect_ratio(size, edge, edge) == size
    assert resizing.resized_size(size, {"shortest_edge": edge, "longest_edge": edge}) == expected


def test_the_short_side_is_rounded_and_the_long_one_truncated():
    assert resizing.resized_size((427, 640), {"shortest_edge": 640, "longest_edge": 640}) == (427, 640)
    assert resizing.resized_size((483, 643), {"shortest_edge": 640, "longest_edge": 640}) == (481, 640)  # 480.7
    assert resizing.resized_size((590, 1000), {"shortest_edge": 512, "longest_edge": None}) == (512, 867)  # 867.8
    assert resizing.resized_size((1000, 590), 512) == (867, 512)


@pytest.mark.parametrize(
    "wrong",
    [
        {"height": 640, "width": 640},
        {"longest_edge": 640},
        {},
        0,
        -5,
        "640",
        None,
        (640, 640),
        {"shortest_edge": 1.5},
        True,
    ],
)
def test_an_unusable_size_is_refused_with_an_example(wrong):
    with pytest.raises(ProcessorError, match=r'for example \{"shortest_edge": 640'):
        resizing.canonical_size(wrong)


def test_a_missing_longest_edge_makes_a_square_canvas():
    assert resizing.canvas_size({"shortest_edge": 512, "longest_edge": None}) == (512, 512)
    assert resizing.canvas_size({"shortest_edge": 512}) == (512, 512)
    assert resizing.canvas_size(512) == (512, 512)
    assert resizing.canvas_size({"shortest_edge": 480, "longest_edge": 640}) == (480, 640)


@settings(deadline=None, max_examples=100)
@given(EDGES, EDGES)
def test_nearest_positions_are_those_that_torch_and_pillow_use(length, new_length):
    values = np.arange(length, dtype=np.float32)
    with_torch = torch.nn.functional.interpolate(
        torch.from_numpy(values)[None, None], size=new_length, mode="nearest-exact"
    )
    with_pillow = Image.fromarray(values[None]).resize((new_length, 1), Image.Resampling.NEAREST)
    np.testing.assert_array_equal(resizing.nearest_with_torch(length, new_length), with_torch[0, 0].numpy())
    np.testing.assert_array_equal(resizing.nearest_with_pillow(length, new_length), np.asarray(with_pillow)[0])


def test_resized_labels_keep_ids_beyond_float32():
    label_map = np.array([[2**24 + 1, 5], [2**40 + 1, 0]])
    for resize in (resizing.resize_labels_like_torch, resizing.resize_labels_like_pillow):
        assert set(np.unique(resize(label_map, (4, 6)))) == {0, 5, 2**24 + 1, 2**40 + 1}


def test_a_filter_that_torch_lacks_is_refused():
    image = torch.zeros(3, 4, 4, dtype=torch.uint8)
    with pytest.raises(ProcessorError, match="torch has only NEAREST"):
        resizing.resize_with_torch(image, (2, 2), Image.Resampling.HAMMING)


def test_pillow_refuses_values_that_it_would_clip():
    with pytest.raises(ProcessorError, match="values from -1 to 300"):
        resizing.resize_with_pillow(torch.tensor([-1.0, 300.0]).expand(3, 2, 2), (4, 4), 2)
