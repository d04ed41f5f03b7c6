"""Segments drawn over their image: translucent fills, crisp outlines, encoded small enough to travel inside a page."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from workbench import rle
from workbench.formats.pictures import UNDECODABLE, open_picture

Color = tuple[int, int, int]
Window = tuple[int, int, int, int]
"""x, y, width, height in pixels of the image."""

_FILL, _FAINT = 0.38, 0.10
_NO_IMAGE: Color = (120, 120, 120)
_NO_SIZE = (96, 96)  # of an image that has neither a file nor a segment
_QUALITY = 72
_SMALLEST_SIDE = 48  # of a crop, in pixels of the image: smaller ones show nothing around the segment


@dataclass(frozen=True)
class Shape:
    """One segment as it is drawn: its mask (height, width), and whether it is what the picture is about."""

    mask: NDArray[np.bool_]
    color: Color
    focus: bool = True


def read_image(path: Path, size_hw: tuple[int, int] | None) -> Image.Image:
    """The image as RGB; an even grey where it cannot be read, or is not of the size that its segments have."""
    try:
        with open_picture(path) as image:
            if size_hw in (None, (image.height, image.width)):
                return image.convert("RGB")
    except UNDECODABLE:
        pass  # `datasets check` is there to say what is wrong with files
    return Image.new("RGB", (size_hw or _NO_SIZE)[::-1], _NO_IMAGE)


def mask_of(row: Mapping[str, Any]) -> NDArray[np.bool_]:
    """(height, width), of a row of a segment table."""
    return rle.decode(row["counts"], row["height"], row["width"])


def window_around(masks: Sequence[NDArray[np.bool_]], size_hw: tuple[int, int]) -> Window:
    """The part of an image that shows these masks with half as much again around them; all of it without any pixel."""
    height, width = size_hw
    pixels = np.argwhere(np.logical_or.reduce(masks)) if masks else np.empty((0, 2))
    if not len(pixels):
        return 0, 0, width, height
    (top, left), (bottom, right) = pixels.min(axis=0).tolist(), (pixels.max(axis=0) + 1).tolist()
    side = max(1.5 * (right - left), 2 * (bottom - top), _SMALLEST_SIDE)  # a window of 4 : 3
    w, h = min(round(side), width), min(round(0.75 * side), height)
    x = min(max((left + right - w) // 2, 0), width - w)
    y = min(max((top + bottom - h) // 2, 0), height - h)
    return x, y, w, h


def draw(image: Image.Image, shapes: Sequence[Shape], side: int, window: Window | None = None) -> Image.Image:
    """The image, or a window of it, with the shapes on it; its longer side has `side` pixels.

    Shapes that are the focus, where only some are, stand out: the others are faint and have no outline.
    """
    x, y, width, height = window or (0, 0, image.width, image.height)
    scale = side / max(width, height)
    size_wh = max(round(width * scale), 1), max(round(height * scale), 1)
    part = image.crop((x, y, x + width, y + height)).resize(size_wh, Image.Resampling.BICUBIC)
    pixels = np.asarray(part, dtype=np.float32).copy()
    for shape in sorted(shapes, key=lambda shape: shape.focus):
        mask = _resized(shape.mask[y : y + height, x : x + width], size_wh)
        color = np.array(shape.color, dtype=np.float32)
        fill = _FILL if shape.focus else _FAINT
        pixels[mask] += fill * (color - pixels[mask])
        if shape.focus:
            pixels[_outline(mask, 2)] = 255.0  # white below the colour: visible on any ground
            pixels[_outline(mask, 1)] = color
    return Image.fromarray(pixels.round().astype(np.uint8))


def data_uri(image: Image.Image) -> str:
    """The picture as WebP inside an address."""
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=_QUALITY, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _resized(mask: NDArray[np.bool_], size_wh: tuple[int, int]) -> NDArray[np.bool_]:
    """With smooth edges: enlarged pixels would look like stairs. At least one pixel stays of a mask that has any."""
    resized = Image.fromarray(mask.astype(np.uint8) * 255).resize(size_wh, Image.Resampling.BILINEAR)
    large = np.asarray(resized)
    return np.asarray(large >= min(128, max(int(large.max()), 1)), dtype=np.bool_)


def _outline(mask: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    """Pixels of the mask at most `width` from its border; the border of the picture is none."""
    padded = np.pad(mask, 1, mode="edge")
    inner = mask
    for _ in range(width):
        inner = padded[1:-1, 1:-1] & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        padded = np.pad(inner, 1, mode="edge")
    return np.asarray(mask & ~inner, dtype=np.bool_)
