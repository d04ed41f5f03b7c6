"""The resizing that GPUs use gives the bits of the CPU's, here run on a CPU."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from eomt import EomtImageProcessor
from eomt.integer_resize import resize_bilinear, taps


def on_a_cpu(images: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return functional.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=True)


def noise(seed: int, *shape: int, contrast: bool = False) -> torch.Tensor:
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    return (pixels > 127).to(torch.uint8) * 255 if contrast else pixels


@settings(max_examples=60)
@given(
    # torch itself stops with an internal error where the result is a single pixel
    st.tuples(st.integers(1, 400), st.integers(1, 400), st.integers(2, 400), st.integers(2, 400)),
    st.integers(0, 10),
    st.booleans(),
)
def test_every_bit_is_that_of_torch_on_a_cpu(sizes: tuple[int, int, int, int], seed: int, contrast: bool) -> None:
    height, width, new_height, new_width = sizes
    images = noise(seed, 2, 3, height, width, contrast=contrast)
    resized = resize_bilinear(images, (new_height, new_width))
    assert resized.dtype == torch.uint8
    assert torch.equal(resized, on_a_cpu(images, (new_height, new_width)))


@pytest.mark.parametrize(
    ("size", "new"),
    [((480, 640), (640, 853)), ((427, 640), (427, 640)), ((3000, 20), (200, 20)), ((16, 5000), (16, 64))],
)
def test_sizes_of_photographs_and_of_strips(size: tuple[int, int], new: tuple[int, int]) -> None:
    images = noise(1, 1, 3, *size)
    assert torch.equal(resize_bilinear(images, new), on_a_cpu(images, new) if size != new else images)


def test_a_channels_last_image_is_resized_alike() -> None:
    image = noise(2, 1, 3, 33, 47).contiguous(memory_format=torch.channels_last)
    assert torch.equal(resize_bilinear(image, (40, 20)), on_a_cpu(image.contiguous(), (40, 20)))


def test_products_are_taken_in_a_type_that_holds_them() -> None:
    assert taps(640, 853).fit_float32 and taps(1280, 640).fit_float32
    strong = taps(10_000, 64)
    assert not strong.fit_float32
    assert int(strong.weights.sum(1).max()) * 255 > 1 << 24


def tf32_by(way: str) -> None:
    """What a program may do to allow it: in torch's first, second and newest way."""
    if way == "precision":
        torch.set_float32_matmul_precision("high")
    elif way == "flag":
        torch.backends.cuda.matmul.allow_tf32 = True
    else:
        torch.backends.cuda.matmul.fp32_precision = "tf32"


@pytest.mark.parametrize("way", ["precision", "flag", "newest"])
def test_where_products_are_rounded_the_wider_type_is_taken(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """TF32 has ten bits: with it allowed a GPU's float32 products would not be exact."""
    seen = []

    def product(self: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        seen.append(self.dtype)
        return torch.matmul(self, other)

    monkeypatch.setattr("eomt.integer_resize._on_gpu", lambda device: True)
    monkeypatch.setattr(torch.Tensor, "__matmul__", product)
    images = noise(0, 1, 3, 20, 30)
    assert torch.equal(resize_bilinear(images, (24, 36)), on_a_cpu(images, (24, 36)))
    try:
        tf32_by(way)
        assert torch.equal(resize_bilinear(images, (24, 36)), on_a_cpu(images, (24, 36)))
    finally:
        torch.backends.cuda.matmul.fp32_precision = "none"
        torch.set_float32_matmul_precision("highest")
    assert seen == [torch.float32, torch.float32, torch.float64, torch.float64]


@pytest.mark.parametrize("split", [False, True])
def test_a_processor_makes_the_same_shapes_on_another_device(split: bool) -> None:
    """On "meta" nothing can be asked of a tensor, as little as a GPU should be."""
    size = {"shortest_edge": 64, "longest_edge": None if split else 64}
    processor = EomtImageProcessor(size=size, do_split_image=split, do_pad=not split)
    images = [noise(0, 3, 50, 80), noise(0, 3, 90, 70), noise(0, 3, 64, 64)]
    here = processor(images, return_tensors="pt").pixel_values
    there = processor([image.to("meta") for image in images], return_tensors="pt").pixel_values
    assert there.device.type == "meta"
    assert (there.shape, there.dtype) == (here.shape, here.dtype)


def test_a_processor_that_resizes_as_a_gpu_does_gives_the_same_pixel_values(monkeypatch: pytest.MonkeyPatch) -> None:
    processor = EomtImageProcessor(size={"shortest_edge": 64, "longest_edge": 64}, do_pad=True)
    images = [noise(i, 3, *size) for i, size in enumerate([(50, 80), (90, 70), (64, 64), (640, 427)])]
    expected = processor(images, return_tensors="pt").pixel_values
    monkeypatch.setattr("eomt.resizing.resize_with_torch", lambda image, size, resample: resize_bilinear(image, size))
    assert np.array_equal(processor(images, return_tensors="pt").pixel_values.numpy(), expected.numpy())
