"""Semantic maps of a CPU's outputs through the compiled kernel, with torch's own sums where two classes are close.

The kernel adds in another order than torch and so leaves out what rounding could turn: a few pixels in ten thousand.
Those get torch's sums over the queries, of the same logits and in torch's order, only for fewer pixels.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eomt import compiled_masks
from eomt.frames import Frame

UNSURE_SHARE = 8
"""One pixel in so many may be left to torch's sums; a map with more of them is torch's altogether."""
MOST_SCRATCH = 1 << 24
"""Numbers that the kernel may keep of one tile; a small map of a large canvas needs more and is left to torch."""
FEWEST_COLUMNS = 256
"""Narrower products are padded to it: matrix libraries add in another order where a matrix is almost a vector."""


def class_map(mask_logits: Tensor, weights: Tensor, starts: Sequence[tuple[int, int]], frame: Frame) -> Tensor | None:
    """The class of each pixel, int64 (H, W): the first of the best. None where this is better left to torch.

    Crop i of mask_logits (crops, Q, h, w), with class probabilities weights (crops, Q, K), begins at `starts[i]` (y, x)
    of the canvas that `frame.filled` describes; its own size is `frame.canvas`.
    """
    if not all(compiled_masks.usable(crop, frame) for crop in mask_logits) or not _covered(starts, frame):
        return None
    kernels = compiled_masks.kernels()
    up = compiled_masks.tables(mask_logits, frame, whole=False)
    if up.scratch2.size * mask_logits.shape[0] * mask_logits.shape[1] > MOST_SCRATCH:
        return None
    label_map = np.empty(frame.target, np.int64)
    unsure = np.empty(1024 + label_map.size // UNSURE_SHARE, np.int64)
    corners = np.array(starts, np.int64)
    masks, probabilities = compiled_masks.as_numpy(mask_logits), compiled_masks.as_numpy(weights)
    listed = kernels.vote(masks, probabilities, corners, frame.canvas, up, label_map, unsure)
    if listed < 0:
        return None
    if listed:
        pixels = unsure[:listed]
        label_map.reshape(-1)[pixels] = _scores_at(mask_logits, weights, starts, frame, pixels).argmax(1).numpy()
    return torch.from_numpy(label_map)


def _scores_at(
    mask_logits: Tensor,
    weights: Tensor,
    starts: Sequence[tuple[int, int]],
    frame: Frame,
    pixels: NDArray[np.int64],
) -> Tensor:
    """(m, K): the class scores of pixels (m,) of the image, y * width + x each."""
    y, x = np.divmod(pixels, frame.target[1])
    if frame.filled == frame.target:
        return _scores_on_canvas(mask_logits, weights, starts, frame, y, x)
    rows, row_weights = compiled_masks.axis_table(frame.filled[0], frame.target[0])
    columns, column_weights = compiled_masks.axis_table(frame.filled[1], frame.target[1])
    corners = [
        _scores_on_canvas(
            mask_logits, weights, starts, frame, rows[i, y].astype(np.int64), columns[j, x].astype(np.int64)
        )
        for i in range(2)
        for j in range(2)
    ]
    out = np.empty(corners[0].shape, np.float32)
    compiled_masks.kernels().blend(
        torch.stack(corners).numpy(),
        np.ascontiguousarray(row_weights[:, y]),
        np.ascontiguousarray(column_weights[:, x]),
        out,
    )
    return torch.from_numpy(out)


def _scores_on_canvas(
    mask_logits: Tensor,
    weights: Tensor,
    starts: Sequence[tuple[int, int]],
    frame: Frame,
    y: NDArray[np.int64],
    x: NDArray[np.int64],
) -> Tensor:
    """(m, K): the class scores of pixels y, x (m,) of the canvas, the mean of the crops that cover each."""
    total = torch.zeros(len(y), weights.shape[-1])
    count = torch.zeros(len(y), 1)
    height, width = frame.canvas
    alone = Frame(frame.canvas, frame.canvas, frame.canvas)
    for masks, classes, (top, left) in zip(mask_logits, weights, starts, strict=True):
        inside = np.flatnonzero((y >= top) & (y < top + height) & (x >= left) & (x < left + width))
        if not len(inside):
            continue
        pixels = (y[inside] - top) * width + x[inside] - left
        probabilities = torch.zeros(masks.shape[0], max(len(inside), FEWEST_COLUMNS))
        probabilities[:, : len(inside)] = compiled_masks.probabilities_at(masks, alone, pixels).T
        scores = torch.einsum("qc,qhw->chw", classes, probabilities[:, None])[:, 0, : len(inside)]
        chosen = torch.from_numpy(inside)
        total[chosen] += scores.T
        count[chosen] += 1
    return total.div_(count.clamp_(min=1))


def _covered(starts: Sequence[tuple[int, int]], frame: Frame) -> bool:
    """Whether crops along one side leave no gap in the canvas."""
    reach = [0, 0]
    for start in sorted(starts):
        for axis in range(2):
            if start[axis] > reach[axis] or min(start) > 0 or start[axis] < 0:
                return False
        reach = [max(reach[axis], start[axis] + frame.canvas[axis]) for axis in range(2)]
    return reach[0] >= frame.filled[0] and reach[1] >= frame.filled[1]
