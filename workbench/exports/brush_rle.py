"""Label Studio's run lengths of a brush: a stream of bits over the four channels of a picture.

32 bits: how many values (height x width x 4, row by row, red, green, blue, alpha of a pixel together); 5 bits: bits of
a value, less 1; four times 4 bits: the four widths in which a run's length is written, less 1. Then each run: a set
bit, 2 bits that choose the width, the length less 1, the value. A mask has 255 in all channels of its pixels, else 0.
Source: HumanSignal/label-studio-sdk, converter/brush.py (encode_rle, decode_rle), after thi.ng/rle-pack.
"""

import numpy as np
from numpy.typing import NDArray

from workbench.exports.annotation import run_lengths

_CHANNELS = 4
_WIDTHS = (3, 4, 8, 16)
_VALUE_BITS = 8
_LONGEST = 1 << _WIDTHS[-1]
_SET = 255


def encode(mask: NDArray[np.bool_]) -> list[int]:
    """The bytes, as Label Studio's JSON has them, of a mask of shape (height, width)."""
    bits = [f"{mask.size * _CHANNELS:032b}", f"{_VALUE_BITS - 1:05b}", *(f"{width - 1:04b}" for width in _WIDTHS)]
    value = 0
    for length in run_lengths(mask).tolist():
        bits += _run(length * _CHANNELS, value)
        value = _SET - value
    text = "".join(bits)
    text += "0" * (8 - len(text) % 8)  # the official writer adds a whole byte where none is needed
    return list(int(text, 2).to_bytes(len(text) // 8, "big"))


def _run(length: int, value: int) -> list[str]:
    """One run as bits; a long one in pieces, and one without length as none."""
    pieces = []
    while length > 0:
        piece = min(length, _LONGEST)
        choice = next(i for i, width in enumerate(_WIDTHS) if piece <= 1 << width)
        pieces.append(f"1{choice:02b}{piece - 1:0{_WIDTHS[choice]}b}{value:0{_VALUE_BITS}b}")
        length -= piece
    return pieces
