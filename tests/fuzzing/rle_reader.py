"""RLE counts against three readers: NumPy's, the compiled one and pycocotools, which must agree on what is sound."""

import numpy as np
import pyarrow as pa
import pycocotools.mask as coco_mask

from workbench import rle, rle_kernels
from workbench.errors import SegmentTableError


def read_rle(data: bytes) -> None:
    """Decode (height, width) in two bytes, then counts. What is refused never reaches pycocotools."""
    height, width, counts = *(data + b"\1\1")[:2], data[2:]
    column, pixels = pa.array([counts], pa.binary()), np.array([height * width])
    try:
        mask = rle.decode(counts, height, width)
    except rle.RleError as error:
        _compare_refusal(counts, column, pixels)
        raise SegmentTableError(str(error)) from error
    official = coco_mask.decode({"size": [height, width], "counts": counts})
    if not np.array_equal(official, mask):
        raise AssertionError("pycocotools decodes it differently")
    area = np.array([mask.sum()])
    if not rle.fit(column, pixels, area) or not _compiled_fit(counts, pixels, area):
        raise AssertionError("sound counts do not fit")
    if rle.fit(column, pixels, area + 1) or _compiled_fit(counts, pixels, area + 1):
        raise AssertionError("a wrong area fits")


def _compare_refusal(counts: bytes, column: pa.Array, pixels: np.ndarray) -> None:
    for area in (0, int(pixels[0])):
        areas = np.array([area])
        if rle.fit(column, pixels, areas) or _compiled_fit(counts, pixels, areas):
            raise AssertionError("refused counts fit")


def _compiled_fit(counts: bytes, pixels: np.ndarray, areas: np.ndarray) -> bool:
    raw, starts = np.frombuffer(counts, np.uint8).copy(), np.array([0, len(counts)])
    lengths, _, valid = rle_kernels.parse(raw, starts, rle._LONGEST_CODE)
    if valid and not np.array_equal(lengths, rle.parse_runs([counts]).lengths):
        raise AssertionError("the compiled parser reads other runs")
    return bool(rle_kernels.fit(raw, starts, pixels, areas, rle._LONGEST_CODE, rle._MOST_PIXELS))
