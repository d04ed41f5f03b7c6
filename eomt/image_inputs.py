"""Whatever a caller calls an image, as an RGB tensor: paths, Pillow images, arrays, tensors, and lists of them.

This is the one place where images become RGB. Greyscale is repeated over three channels, palettes and CMYK are
converted by Pillow, transparency is laid on white. EXIF orientation is NOT applied: COCO's and ADE20K's annotations are
drawn on the pixels as they are stored, and their tools do not apply it either.
"""

import struct
import zlib
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from eomt.errors import ImageInputError
from eomt.image_modes import FILE_FORMATS, mode_problem

ImageLike = Image.Image | NDArray[Any] | Tensor | str | Path | BytesIO
"""A path, or the content of a file in memory, is opened by Pillow."""
ImageInput = ImageLike | Sequence[ImageLike]

_WHITE = (255, 255, 255, 255)


def list_images(images: ImageInput, ndim: int = 3) -> list[ImageLike]:
    """A flat list of single images of `ndim` axes, out of one, a sequence of them, or a batch with one axis more."""
    if isinstance(images, str | Path | BytesIO | Image.Image):
        return [images]
    if isinstance(images, np.ndarray | Tensor):
        # A greyscale image has one axis less, and is never a batch of rows.
        return list(images) if images.ndim == ndim + 1 else [images]
    if isinstance(images, Sequence):
        return [single for item in images for single in list_images(item, ndim)]
    raise ImageInputError(
        f"an image cannot be a {type(images).__name__}: pass a PIL image, an array, a tensor, a path or a list of them."
    )


def rgb_tensor(image: ImageLike, data_format: str | None = None, where: str = "image") -> Tensor:
    """One image as a tensor (3, h, w), uint8 from a file or Pillow, else of the type and on the device that it has.

    `data_format` ("channels_first" or "channels_last") says where an array's channels are; None looks for an axis of
    length 1, 3 or 4, the first axis before the last. `where` names the image in errors. Raises ImageInputError.

    The result is a view where it can be, and keeps the memory order: both resamplers are fastest on (h, w, 3).
    """
    if isinstance(image, str | Path | BytesIO):
        image = _open(image, where)
    if isinstance(image, Image.Image):
        return torch.from_numpy(_rgb_array(image, where)).permute(2, 0, 1)
    pixels = torch.from_numpy(np.ascontiguousarray(image)) if isinstance(image, np.ndarray) else image
    if not isinstance(pixels, Tensor):
        raise ImageInputError(f"{where} is a {type(image).__name__}: pass a PIL image, an array, a tensor or a path.")
    return _three_channels(_channels_first(pixels, data_format, where))


def label_array(label_map: ImageLike, where: str = "segmentation map") -> NDArray[np.int64]:
    """One label map as an int64 array (h, w). A palette image gives its indices. Raises ImageInputError."""
    if isinstance(label_map, str | Path | BytesIO):
        label_map = _open(label_map, where)
    array = label_map.cpu().numpy() if isinstance(label_map, Tensor) else np.asarray(label_map)
    if array.ndim != 2:
        raise ImageInputError(f"{where} has shape {array.shape}; it must be (height, width), one id a pixel.")
    if array.dtype.kind == "f" and not np.array_equal(array, np.trunc(array)):
        raise ImageInputError(f"{where} holds fractions; ids are whole numbers.")
    return array.astype(np.int64)


def _open(file: str | Path | BytesIO, where: str) -> Image.Image:
    path = where if isinstance(file, BytesIO) else str(file)
    if path.startswith(("http://", "https://")):
        raise ImageInputError(f"{path}: addresses are not fetched here; download the image and pass it, or its path.")
    try:
        with Image.open(file, formats=FILE_FORMATS) as image:
            image.load()
            return image
    except Image.DecompressionBombError as error:
        raise ImageInputError(
            f"{path}: too many pixels to be opened unasked ({error}). Scale it down or, if you trust it, allow more: "
            "WORKBENCH_MAX_PIXELS=400000000 for a workbench command, PIL.Image.MAX_IMAGE_PIXELS in Python."
        ) from error
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error) as error:  # as Pillow's readers do
        raise ImageInputError(f"{path}: cannot be read as an image ({error}).") from error


def _rgb_array(image: Image.Image, where: str) -> NDArray[np.uint8]:
    """Pixels (h, w, 3) of a Pillow image."""
    if problem := mode_problem(image.mode):
        raise ImageInputError(f"{where} {problem}: scale it to 0..255 first.")
    if "A" in image.getbands() or image.info.get("transparency") is not None:
        image = Image.alpha_composite(Image.new("RGBA", image.size, _WHITE), image.convert("RGBA"))
    return np.array(image.convert("RGB"))


def _channels_first(pixels: Tensor, data_format: str | None, where: str) -> Tensor:
    if pixels.ndim == 2:
        return pixels[None]
    if pixels.ndim != 3:
        raise ImageInputError(f"{where} has shape {tuple(pixels.shape)}; an image has two or three axes.")
    if data_format is None:
        axes = [axis for axis in (0, 2) if pixels.shape[axis] in (1, 3, 4)]
        if not axes:
            raise ImageInputError(
                f"{where} has shape {tuple(pixels.shape)}: neither its first nor its last axis is 1, 3 or 4 channels."
            )
        data_format = "channels_first" if axes[0] == 0 else "channels_last"
    if data_format not in ("channels_first", "channels_last"):
        raise ImageInputError(f'input_data_format {data_format!r}: use "channels_first", "channels_last" or None.')
    return pixels if data_format == "channels_first" else pixels.permute(2, 0, 1)


def _three_channels(pixels: Tensor) -> Tensor:
    """(1 or 3 or 4, h, w) as (3, h, w)."""
    if pixels.shape[0] == 1:
        return pixels.expand(3, -1, -1)
    if pixels.shape[0] == 4:
        return _on_white(pixels)
    return pixels


def _on_white(pixels: Tensor) -> Tensor:
    """(4, h, w) RGBA laid on white, (3, h, w) of the same type: as transformers does with its torchvision backend."""
    dtype = pixels.dtype
    scaled = pixels if dtype.is_floating_point else pixels.float() / 255
    alpha = scaled[3:]
    blended = scaled[:3] * alpha + (1 - alpha)
    # 255.999 before truncation spreads 0..1 evenly over the 256 levels.
    return blended if dtype.is_floating_point else (blended * 255.999).to(dtype)
