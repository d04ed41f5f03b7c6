"""Sizes and resampling: what size an image is brought to, and how its pixels get there, in torch and in Pillow.

All sizes are (height, width) in pixels. Torch's antialiased uint8 interpolation equals torchvision's bit for bit, so
torchvision is not needed; `integer_resize` gives these bits on other devices too.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from eomt.errors import ProcessorError
from eomt.integer_resize import resize_bilinear

Size = int | Mapping[str, int | None]
"""A processor's `size`: {"shortest_edge": pixels, "longest_edge": pixels or None}, or the shortest edge alone."""

TORCH_MODES = {
    Image.Resampling.NEAREST: "nearest-exact",
    Image.Resampling.BILINEAR: "bilinear",
    Image.Resampling.BICUBIC: "bicubic",
    Image.Resampling.LANCZOS: "lanczos",
}
"""Pillow's filters that torch has too."""


def canonical_size(size: Size) -> dict[str, int | None]:
    """`size` as a dictionary with the two keys `shortest_edge` and `longest_edge`; the latter may be None (unbounded).

    Raises ProcessorError for other keys and for values that are not positive whole numbers.
    """
    edges = size if isinstance(size, Mapping) else {"shortest_edge": size}
    unknown = set(edges) - {"shortest_edge", "longest_edge"}
    shortest, longest = edges.get("shortest_edge"), edges.get("longest_edge")
    if unknown or not _is_edge(shortest) or not (longest is None or _is_edge(longest)):
        raise ProcessorError(
            f'size {size!r} is not usable: EoMT needs {{"shortest_edge": pixels, "longest_edge": pixels or None}}, '
            'for example {"shortest_edge": 640, "longest_edge": 640}.'
        )
    return {"shortest_edge": shortest, "longest_edge": longest}


def canvas_size(size: Size) -> tuple[int, int]:
    """What images are padded to and masks first upsampled to: (shortest edge, longest edge or else shortest)."""
    edges = canonical_size(size)
    shortest = edges["shortest_edge"] or 0
    return shortest, edges["longest_edge"] or shortest


def resized_size(image_size: tuple[int, int], size: Size) -> tuple[int, int]:
    """The (height, width) that an image of `image_size` is resized to, its aspect ratio kept.

    The short side becomes `shortest_edge`, or less where the long side would exceed `longest_edge`. The short side is
    rounded and the long one truncated, as in transformers; the original code of EoMT rounds both, which differs by one
    pixel on half of the images at semantic 512. Where the short side rounds to what it is, transformers leaves the
    image alone although its long side exceeds `longest_edge` (641 x 300 at 640, which then fits no batch); here the
    long side is brought down.
    """
    edges = canonical_size(size)
    height, width = image_size
    shortest: float = edges["shortest_edge"] or 0
    longest = edges["longest_edge"]
    short = int(shortest)
    # The order of operations is that of transformers: the same product in another order can truncate differently.
    if longest is not None and float(max(image_size)) / float(min(image_size)) * shortest > longest:
        shortest = longest * float(min(image_size)) / float(max(image_size))
        short = round(shortest)
    if short == min(image_size) and max(image_size) <= (longest or max(image_size)):
        return height, width
    if width < height:
        return int(shortest * height / width), short
    return short, int(shortest * width / height)


def resize_with_torch(image: Tensor, size: tuple[int, int], resample: int) -> Tensor:
    """`image` (3, h, w), of any type, as (3, *size) of the same type, antialiased.

    Raises ProcessorError for a filter that torch does not have.
    """
    if tuple(image.shape[-2:]) == size:
        return image
    mode = TORCH_MODES.get(Image.Resampling(resample))
    if mode is None:
        known = ", ".join(f"{item.name} ({item.value})" for item in TORCH_MODES)
        raise ProcessorError(f"resample {resample!r}: torch has only {known}. Choose one, or EomtImageProcessorPil.")
    # On a CPU torch resamples uint8 in integer arithmetic; elsewhere it has to pass through float32.
    dtype, on_cpu = image.dtype, image.device.type == "cpu"
    if dtype == torch.uint8 and mode == "bilinear" and not on_cpu:
        return resize_bilinear(image, size)
    direct = dtype in (torch.float32, torch.float64) or (dtype == torch.uint8 and on_cpu)
    pixels = image[None] if direct else image[None].float()
    if mode == "nearest-exact":
        pixels = functional.interpolate(pixels, size=size, mode=mode)
    else:
        pixels = functional.interpolate(pixels, size=size, mode=mode, align_corners=False, antialias=True)
    if not direct and not dtype.is_floating_point:
        pixels = (pixels.clamp_(0, 255) if dtype == torch.uint8 else pixels).round_()
    return pixels[0].to(dtype)


def resize_with_pillow(image: Tensor, size: tuple[int, int], resample: int) -> Tensor:
    """`image` (3, h, w) as (3, *size), resampled by Pillow, which knows 8 bits a channel only.

    Other types than uint8 pass through it: whole numbers 0..255 come back as uint8, fractions 0..1 as float32 in 256
    steps. Raises ProcessorError for other values.
    """
    if image.dtype == torch.uint8:
        return _pillow_resized(image, size, resample)
    if bool((image == image.trunc()).all()):
        _check_range(image, 255)
        return _pillow_resized(image.to(torch.uint8), size, resample)
    _check_range(image, 1)
    resized = _pillow_resized((image.double() * 255).float().to(torch.uint8), size, resample)
    return (resized.double() / 255).float()


def resize_labels_like_torch(label_map: NDArray[np.int64], size: tuple[int, int]) -> NDArray[np.int64]:
    """`label_map` (h, w) at `size`, the nearest pixel by torch's "nearest-exact". Ids of any magnitude survive."""
    return label_map[_grid(nearest_with_torch, label_map.shape, size)]


def resize_labels_like_pillow(label_map: NDArray[np.int64], size: tuple[int, int]) -> NDArray[np.int64]:
    """`label_map` (h, w) at `size`, the nearest pixel by Pillow's rule. Ids of any magnitude survive."""
    return label_map[_grid(nearest_with_pillow, label_map.shape, size)]


def nearest_with_torch(length: int, new_length: int) -> NDArray[np.int64]:
    """(new_length,) source positions of torch's "nearest-exact" along one axis: torch resizes the positions."""
    positions = torch.arange(length, dtype=torch.float32).view(1, 1, -1)
    return functional.interpolate(positions, size=new_length, mode="nearest-exact").view(-1).long().numpy()


def nearest_with_pillow(length: int, new_length: int) -> NDArray[np.int64]:
    """(new_length,) source positions of Pillow's NEAREST along one axis: Pillow resizes the positions."""
    positions = Image.fromarray(np.arange(length, dtype=np.int32)[None])
    return np.asarray(positions.resize((new_length, 1), Image.Resampling.NEAREST)).reshape(-1).astype(np.int64)


def _grid(
    nearest: Callable[[int, int], NDArray[np.int64]], shape: tuple[int, ...], size: tuple[int, int]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The index that picks, out of an array of `shape` (h, w), the source pixel of each pixel of `size`."""
    return nearest(shape[0], size[0])[:, None], nearest(shape[1], size[1])[None, :]


def _pillow_resized(image: Tensor, size: tuple[int, int], resample: int) -> Tensor:
    height, width = size
    pixels = Image.fromarray(image.permute(1, 2, 0).numpy())
    resized = np.array(pixels.resize((width, height), resample=Image.Resampling(resample)))
    return torch.from_numpy(resized).permute(2, 0, 1)


def _check_range(image: Tensor, most: int) -> None:
    low, high = float(image.min()), float(image.max())
    if low < 0 or high > most:
        raise ProcessorError(
            f"an image has values from {low:g} to {high:g}; Pillow needs whole numbers 0..255 or fractions 0..1. "
            "Rescale it, or use EomtImageProcessor."
        )


def _is_edge(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
