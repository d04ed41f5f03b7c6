"""Augmentation: labels go where their pixels go, the size is the model's, and equal generators give equal pictures."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from eomt.image_processing import EomtImageProcessor
from workbench.training import augmentation
from workbench.training.augmentation import NONE, Augmentation, augment, original_augmentation, vary_colors

SHADE = 60  # grey levels between labels


def blocks(height: int, width: int) -> tuple[Tensor, NDArray[np.int32]]:
    """A picture whose grey tells the label of each pixel, and the label map: four blocks, 1 to 4."""
    labels = np.ones((1, height, width), dtype=np.int32)
    labels[:, height // 3 :] += 2
    labels[:, :, width // 4 :] += 1
    return torch.from_numpy(labels * SHADE).to(torch.uint8).expand(3, -1, -1).clone(), labels


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("size_hw", [(48, 48), (36, 64)])
def test_labels_stay_with_their_pixels(seed: int, size_hw: tuple[int, int]) -> None:
    image, labels = blocks(90, 120)
    pixels, maps = augment(image, labels, size_hw, Augmentation(), np.random.default_rng(seed))
    assert pixels.shape == (3, *size_hw) and maps.shape == (1, *size_hw)
    told = pixels[0].numpy() / SHADE
    sharp = np.abs(told - told.round()) < 0.02  # resampling blurs the edges
    assert sharp.mean() > 0.5
    blurred_alike = np.abs(told.round() - maps[0])[sharp] > 0  # a blur may hit the grey of a third label
    assert blurred_alike.mean() < 0.03


def test_padding_is_zero_and_void_at_the_bottom_and_on_the_right() -> None:
    image, labels = blocks(90, 120)
    small = Augmentation(scale=(0.5, 0.5), flip=False)
    pixels, maps = augment(image, labels, (48, 48), small, np.random.default_rng(0))
    assert maps[0, :18, :24].all() and pixels[:, :18, :24].min() > 0
    assert not maps[0, 18:].any() and not maps[0, :, 24:].any()
    assert not pixels[:, 18:].any() and not pixels[:, :, 24:].any()


def test_none_shows_an_image_as_inference_does() -> None:
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 90, 120), dtype=np.uint8))
    pixels, _ = augment(image, np.ones((1, 90, 120), np.int32), (64, 64), NONE, np.random.default_rng(0))
    processor = EomtImageProcessor(size={"shortest_edge": 64, "longest_edge": 64}, do_pad=True)
    raw = processor.preprocess([image], return_tensors="pt", do_rescale=False, do_normalize=False).pixel_values[0]
    assert torch.equal(pixels, raw.to(torch.uint8))


def test_half_of_the_images_are_mirrored() -> None:
    image, labels = blocks(48, 48)
    flip = Augmentation(scale=(1, 1))
    mirrored = [
        np.array_equal(augment(image, labels, (48, 48), flip, np.random.default_rng(seed))[1], labels[..., ::-1])
        for seed in range(200)
    ]
    assert 80 <= sum(mirrored) <= 120


def test_scales_cover_their_range() -> None:
    image, labels = blocks(40, 40)
    visible = [
        int((augment(image, labels, (40, 40), Augmentation(), np.random.default_rng(seed))[1][0, 0] > 0).sum())
        for seed in range(200)
    ]
    assert min(visible) < 8  # a scale near 0.1 leaves 4 pixels of 40
    assert 80 <= visible.count(40) <= 130  # 1.0 to 2.0 of 0.1 to 2.0 fill the width: 105 expected


def test_a_crop_without_segments_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    image = torch.zeros(3, 64, 64, dtype=torch.uint8)
    corner = np.zeros((1, 64, 64), np.int32)
    corner[0, :4, :4] = 1
    twice = Augmentation(scale=(2, 2), flip=False)

    def hits() -> int:
        return sum(bool(augment(image, corner, (64, 64), twice, np.random.default_rng(s))[1].any()) for s in range(100))

    often = hits()
    monkeypatch.setattr(augmentation, "_ATTEMPTS", 1)
    assert hits() < often / 3


def test_equal_generators_give_equal_pictures() -> None:
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 50, 70), dtype=np.uint8))
    labels = np.ones((1, 50, 70), np.int32)
    how = original_augmentation("semantic")
    first, again, other = (augment(image, labels, (48, 48), how, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(first[0], again[0]) and np.array_equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_brightness_and_contrast_vary_within_bounds() -> None:
    grey = torch.full((3, 8, 8), 100, dtype=torch.uint8)
    random = np.random.default_rng(0)
    levels = [float(vary_colors(grey, random).float().mean()) for _ in range(1000)]
    assert min(levels) >= 0.5 * (100 - 32) - 1 and max(levels) <= 1.5 * (100 + 32) + 1
    assert min(levels) < 55 and max(levels) > 165
    assert 200 <= levels.count(100) <= 320  # neither of the two in a quarter of the cases


def test_saturation_and_hue_vary() -> None:
    red = torch.zeros(3, 8, 8, dtype=torch.uint8)
    red[0], red[1:] = 150, 100
    varied = [vary_colors(red, np.random.default_rng(seed)) for seed in range(100)]
    assert all(v.shape == red.shape and v.dtype == torch.uint8 for v in varied)
    assert all(v[0, 0, 0] >= v[1:, 0, 0].max() for v in varied)  # 18 degrees do not make red another primary
    assert len({tuple(v[:, 0, 0].tolist()) for v in varied}) > 80
    assert 1 <= sum(torch.equal(v, red) for v in varied) <= 15  # one in sixteen expected


def test_only_semantic_segmentation_varies_colors_and_shrinks_less() -> None:
    assert (
        original_augmentation("panoptic") == original_augmentation("instance") == Augmentation((0.1, 2.0), True, False)
    )
    assert original_augmentation("semantic") == Augmentation((0.5, 2.0), True, True)
