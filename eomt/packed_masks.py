"""Binary masks with eight pixels a byte: an eighth of what is copied from a device."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional


def pack(masks: Tensor) -> Tensor:
    """(..., H, W) bool as (..., ceil(H * W / 8)) uint8, row by row, the first pixel in the highest bit."""
    pixels = masks.flatten(-2).to(torch.uint8)
    pixels = functional.pad(pixels, (0, -pixels.shape[-1] % 8))
    pixels = pixels.view(*pixels.shape[:-1], -1, 8)
    packed: Tensor = pixels[..., 0]
    for bit in range(1, 8):
        packed = packed * 2 + pixels[..., bit]
    return packed


def unpack(packed: NDArray[np.uint8], size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """(..., H, W) bool of what `pack` made of it."""
    height, width = size_hw
    pixels = np.unpackbits(packed, axis=-1, count=height * width)
    return pixels.view(np.bool_).reshape(*packed.shape[:-1], height, width)
