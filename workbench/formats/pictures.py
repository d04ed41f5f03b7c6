"""Opening images and label maps: arrays and sizes, or what is wrong with the file."""

import errno
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from eomt.image_modes import FILE_FORMATS
from workbench.errors import MissingObjectError
from workbench.formats.problems import Problem
from workbench.storage import readable

UNDECODABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)
"""What Pillow raises for files that are no image, or a broken one."""

_INDEX_MODES = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L")
_ORIENTATION = 0x0112  # EXIF tag; 1 means upright


class PictureError(Exception):
    """A picture that cannot be used. `problem` says why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"{problem.where}: {problem.detail}")
        self.problem = problem


def open_picture(path: Path) -> Image.Image:
    """An image, its pixels not yet read; a remote one comes over the network.

    Raises one of `UNDECODABLE` (FileNotFoundError for a missing object too), PassingStorageError or StorageError.
    """
    try:
        return Image.open(readable(path), formats=FILE_FORMATS)
    except MissingObjectError as error:
        raise FileNotFoundError(errno.ENOENT, str(error)) from error


def read_panoptic_png(path: Path, where: str) -> NDArray[np.int32]:
    """Segment ids R + 256 G + 65536 B of an RGB PNG, int32 of shape (height, width).

    Source: panopticapi/utils.py, rgb2id. Raises PictureError for a missing, broken or otherwise coloured file.
    """
    pixels = _pixels(path, where, ("RGB", "RGBA"))
    ids = pixels[:, :, 0].astype(np.int32)
    ids += pixels[:, :, 1].astype(np.int32) << 8
    ids += pixels[:, :, 2].astype(np.int32) << 16
    return ids


def read_label_png(path: Path, where: str) -> NDArray[np.integer]:
    """The values of a one-channel image (palette indices too), integers of shape (height, width).

    Raises PictureError for a missing or broken file, and for one with several channels.
    """
    pixels = _pixels(path, where, _INDEX_MODES)
    return pixels.astype(np.uint8) if pixels.dtype == np.bool_ else pixels


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) from the file's header. Raises one of `UNDECODABLE`, and StorageError."""
    with open_picture(path) as image:
        return image.height, image.width


def decode_fully(path: Path) -> tuple[tuple[int, int], bool, str]:
    """(height, width), whether EXIF asks for a rotation, and Pillow's mode, after reading the file to its end.

    JPEGs are decoded at an eighth of their size: enough to notice damage. Raises one of `UNDECODABLE`.
    """
    with open_picture(path) as image:
        size_hw = image.height, image.width
        rotated = image.getexif().get(_ORIENTATION, 1) != 1
        image.draft(None, (max(image.width // 8, 1), max(image.height // 8, 1)))
        image.load()
        return size_hw, rotated, image.mode


def _pixels(path: Path, where: str, modes: tuple[str, ...]) -> NDArray[np.integer]:
    try:
        with Image.open(path, formats=FILE_FORMATS) as image:
            if image.mode not in modes:
                detail = f"{path.name} has the mode {image.mode}, not {' or '.join(modes[:2])}"
                raise PictureError(Problem("map_mode", where, detail))
            return np.asarray(image)
    except FileNotFoundError:
        raise PictureError(Problem("map_missing", where, f"{path} does not exist")) from None
    except UNDECODABLE as error:
        raise PictureError(Problem("map_undecodable", where, f"{path} cannot be decoded ({error})")) from error
