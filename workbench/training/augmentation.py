"""Large-scale jitter: an image and its label maps flipped, resized at random, and cut or padded to the model's input.

The original recipe's: horizontal flip, a scale from 0.1 to 2 of the size that just fits (0.5 to 2 and colours changed
for semantic segmentation), a random crop, and padding at the bottom and on the right with zeros, which label maps read
as void. Sources: tue-mps/eomt, datasets/transforms.py; Ghiasi et al. 2021 (large-scale jitter); Liu et al. 2016 (SSD)
for the colours.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from eomt.resizing import resize_labels_like_torch, resize_with_torch
from workbench.formats.base import Task

_ATTEMPTS = 10
"""Crops that are tried for one in which a segment is visible, before an empty one is taken."""

_BRIGHTNESS = 32.0  # grey levels, either way
_CONTRAST = _SATURATION = (0.5, 1.5)  # factors
_HUE = 18 / 360  # of a turn, either way


@dataclass(frozen=True)
class Augmentation:
    """How images are varied. `scale` (1, 1) with neither flip nor colours shows each image as inference does."""

    scale: tuple[float, float] = (0.1, 2.0)
    """Range of factors on the size at which the whole image just fits into the input."""
    flip: bool = True
    """Mirror every other image, left to right."""
    color: bool = False
    """Change brightness, contrast, saturation and hue, each with probability one half."""


NONE = Augmentation(scale=(1.0, 1.0), flip=False)


def original_augmentation(task: Task) -> Augmentation:
    """What the original recipe does for a task."""
    return Augmentation(scale=(0.5, 2.0), color=True) if task == "semantic" else Augmentation()


def augment(
    image: Tensor,
    label_maps: NDArray[np.int32],
    size_hw: tuple[int, int],
    how: Augmentation,
    random: np.random.Generator,
) -> tuple[Tensor, NDArray[np.int32]]:
    """An image (3, h, w) uint8 and its label maps (L, h, w), 0 being void, varied and brought to `size_hw`.

    All random numbers come from `random`, so equal generators give equal results. Where no segment is left in the crop,
    another one is drawn, at most ten times.
    """
    if how.flip and random.random() < 0.5:
        image, label_maps = image.flip(-1), label_maps[..., ::-1]
    if how.color:
        image = vary_colors(image, random)
    for _ in range(_ATTEMPTS):
        resized_hw, corner = _draw_crop((image.shape[1], image.shape[2]), size_hw, how.scale, random)
        maps = np.stack([_cut_map(label_map, resized_hw, corner, size_hw) for label_map in label_maps])
        if maps.any():
            break
    resized = resize_with_torch(image, resized_hw, Image.Resampling.BILINEAR)
    crop = resized[:, corner[0] : corner[0] + size_hw[0], corner[1] : corner[1] + size_hw[1]]
    pixels = torch.zeros(3, *size_hw, dtype=torch.uint8)
    pixels[:, : crop.shape[1], : crop.shape[2]] = crop
    return pixels, maps


def vary_colors(image: Tensor, random: np.random.Generator) -> Tensor:
    """`image` (3, h, w) uint8 with brightness, contrast, saturation and hue changed, each in half of the cases."""
    pixels = image.float()
    if random.random() < 0.5:
        pixels = (pixels + random.uniform(-_BRIGHTNESS, _BRIGHTNESS)).clamp_(0, 255)
    if random.random() < 0.5:
        pixels = (pixels * random.uniform(*_CONTRAST)).clamp_(0, 255)
    saturation = random.uniform(*_SATURATION) if random.random() < 0.5 else 1.0
    turn = random.uniform(-_HUE, _HUE) if random.random() < 0.5 else 0.0
    changed = pixels.round_().to(torch.uint8)
    return changed if saturation == 1.0 and turn == 0.0 else _turn_hue(changed, saturation, turn)


def _turn_hue(image: Tensor, saturation: float, turn: float) -> Tensor:
    picture = Image.fromarray(image.permute(1, 2, 0).numpy()).convert("HSV")
    hsv = np.array(picture).astype(np.float32)
    hsv[..., 0] = (hsv[..., 0] + 256 * turn) % 256  # hue is a circle of 256 steps
    hsv[..., 1] = np.clip(hsv[..., 1] * saturation, 0, 255)
    rgb = Image.fromarray(hsv.astype(np.uint8), mode="HSV").convert("RGB")
    return torch.from_numpy(np.array(rgb)).permute(2, 0, 1)


def _draw_crop(
    image_hw: tuple[int, int], size_hw: tuple[int, int], scale: tuple[float, float], random: np.random.Generator
) -> tuple[tuple[int, int], tuple[int, int]]:
    """The size to resize to, and the top left corner of the crop in it."""
    fit = min(size_hw[0] / image_hw[0], size_hw[1] / image_hw[1])
    ratio = fit * random.uniform(*scale)
    height, width = (max(1, round(length * ratio)) for length in image_hw)
    top = int(random.integers(0, max(0, height - size_hw[0]) + 1))
    left = int(random.integers(0, max(0, width - size_hw[1]) + 1))
    return (height, width), (top, left)


def _cut_map(
    label_map: NDArray[np.int32], resized_hw: tuple[int, int], corner: tuple[int, int], size_hw: tuple[int, int]
) -> NDArray[np.int32]:
    resized = resize_labels_like_torch(label_map, resized_hw)  # type: ignore[arg-type]  # any integers will do
    crop = resized[corner[0] : corner[0] + size_hw[0], corner[1] : corner[1] + size_hw[1]]
    cut = np.zeros(size_hw, dtype=np.int32)
    cut[: crop.shape[0], : crop.shape[1]] = crop
    return cut
