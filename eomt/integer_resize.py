"""uint8 images resized on any device to the bits that torch gives on a CPU: bilinear, antialiased.

There torch works in integers, as Pillow does: weights become whole numbers of 2^-precision, each axis, the width first,
is summed, rounded and cut to 0..255 by itself. Here the sums are matrix products of whole numbers that the floating
type holds exactly, so that they come out the same in any order and on any hardware.

Source: ATen/native/cpu/UpSampleKernel.cpp, `compute_index_ranges_int16_weights`.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eomt.host_copies import HostCopies

_MOST_PRECISION = 22
_MOST_WEIGHT = 1 << 15
_EXACT_IN_FLOAT32 = 1 << 24


@dataclass(frozen=True)
class Taps:
    """How an axis is resampled, in units of 2^-precision."""

    index: NDArray[np.int64]
    """(new_length, k): source positions; `length`, which is none, where there are fewer than k."""
    weights: NDArray[np.int64]
    """(new_length, k), 0 there."""
    precision: int

    @property
    def fit_float32(self) -> bool:
        """Whether float32 holds every sum of weighted pixels exactly."""
        return int(self.weights.sum(1).max()) * 255 + (1 << (self.precision - 1)) <= _EXACT_IN_FLOAT32


@lru_cache(maxsize=1024)
def taps(length: int, new_length: int) -> Taps:
    """Those of an axis of `length` pixels that becomes `new_length`."""
    scale = length / new_length
    support = max(scale, 1.0)  # half the width of the filter, a triangle
    centres = scale * (np.arange(new_length) + 0.5)
    first = np.maximum((centres - support + 0.5).astype(np.int64), 0)
    end = np.minimum((centres + support + 0.5).astype(np.int64), length)
    positions = first[:, None] + np.arange((end - first).max())
    away = np.abs((positions - centres[:, None] + 0.5) * (1.0 / support))
    weights = np.where((positions < end[:, None]) & (away < 1.0), 1.0 - away, 0.0)
    weights /= weights.cumsum(1)[:, -1:]  # added from left to right, as there
    precision, largest = 0, weights.max()
    while precision < _MOST_PRECISION and int(0.5 + largest * (1 << (precision + 1))) < _MOST_WEIGHT:
        precision += 1
    whole = (0.5 + weights * (1 << precision)).astype(np.int64)
    return Taps(np.where(positions < end[:, None], positions, length), whole, precision)


def resize_bilinear(images: Tensor, size: tuple[int, int]) -> Tensor:
    """uint8 (..., h, w) as (..., *size), on the device where they are.

    Equal to `functional.interpolate(mode="bilinear", antialias=True)` of a uint8 tensor on a CPU, bit for bit.
    """
    height, width = images.shape[-2:]
    if width != size[1]:
        along = taps(width, size[1])
        weights = _matrix(along, width, images.device)
        images = _rounded(images.to(weights.dtype) @ weights.T, along.precision)
    if height != size[0]:
        along = taps(height, size[0])
        weights = _matrix(along, height, images.device)
        images = _rounded(weights @ images.to(weights.dtype), along.precision)
    return images.to(torch.uint8)


def _rounded(sums: Tensor, precision: int) -> Tensor:
    """Whole numbers 0..255 of sums in units of 2^-precision; a product with a power of two is exact."""
    return sums.add_(1 << (precision - 1)).mul_(2.0**-precision).floor_().clamp_(0, 255)


def _matrix(along: Taps, length: int, device: torch.device) -> Tensor:
    """(new_length, length) weights on the device, in a type whose sums there are exact."""
    # Asked in torch's newer way, whose answer is right for all ways of setting it; the older one may raise.
    exact = not _on_gpu(device) or torch.backends.cuda.matmul.fp32_precision in ("none", "ieee")
    dtype = torch.float32 if along.fit_float32 and exact else torch.float64
    index, weights = HostCopies().upload(np.stack([along.index, along.weights]), device)
    matrix = torch.zeros(len(index), length + 1, dtype=dtype, device=device)
    return matrix.scatter_(1, index, weights.to(dtype))[:, :length]


def _on_gpu(device: torch.device) -> bool:
    return device.type == "cuda"
