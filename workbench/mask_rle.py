"""Masks that may overlap to COCO RLE, areas and boxes, from the rows as they lie in memory, without a turned copy.

The bytes are those that pycocotools writes. Compiled code does the work, in about a tenth of the time; where numba
cannot be imported, pycocotools does.
"""

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from types import ModuleType

import numpy as np
import pycocotools.mask as coco_mask
from numpy.typing import NDArray


@dataclass(frozen=True)
class MaskRle:
    """n masks of one size."""

    counts: list[bytes]
    """COCO compressed RLE of each, column-major."""
    areas: NDArray[np.int64]
    """(n,), pixels."""
    bboxes: NDArray[np.float64]
    """(n, 4): x, y, w, h in pixels, the smallest box around the mask; zeros where it is empty."""


def encode_masks(masks: NDArray[np.bool_]) -> MaskRle:
    """RLE, area and box of each of (n, height, width). Raises ValueError for another shape or type."""
    if masks.ndim != 3 or masks.dtype != np.bool_:
        raise ValueError(f"masks are bool of shape (n, height, width), not {masks.dtype} of {masks.shape}")
    kernels = _kernels()
    return _encode_with_pycocotools(masks) if kernels is None or not masks.size else _encode_compiled(masks, kernels)


@cache
def _kernels() -> ModuleType | None:
    """The compiled functions. Imported on first use: numba takes half a second, which `--help` must not pay."""
    try:
        from workbench import mask_rle_kernels
    except ImportError:
        return None
    return mask_rle_kernels


def _encode_compiled(masks: NDArray[np.bool_], kernels: ModuleType) -> MaskRle:
    whole = np.require(
        masks, requirements=("C", "W")
    )  # the kernel takes no array that is read-only, as shared ones are
    characters, ends, areas, extents = kernels.encode(whole.view(np.uint8))
    text = characters.tobytes()
    x, last_x, y, last_y = extents.T
    bboxes = np.stack([x, y, last_x - x + 1, last_y - y + 1], axis=1).astype(np.float64)
    return MaskRle([text[begin:end] for begin, end in pairwise([0, *ends.tolist()])], areas, bboxes)


def _encode_with_pycocotools(masks: NDArray[np.bool_]) -> MaskRle:
    encoded = coco_mask.encode(np.asfortranarray(masks.transpose(1, 2, 0), dtype=np.uint8))
    bboxes = np.asarray(coco_mask.toBbox(encoded), dtype=np.float64).reshape(-1, 4)
    return MaskRle([rle["counts"] for rle in encoded], np.count_nonzero(masks, axis=(1, 2)).astype(np.int64), bboxes)
