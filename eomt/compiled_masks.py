"""Masks of a CPU's outputs through compiled kernels, where these are sure to give what torch gives.

They are trusted where numba is installed and their interpolation equals the installed torch's to the last bit, which is
tried on four kinds of sizes once a process. Then only the sigmoid is a matter of rounding: what it could turn is left
to torch, pixel by pixel. Where they are not trusted, `usable` says no and torch's operators do the same work.
"""

import logging
from dataclasses import replace
from functools import cache, lru_cache
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from eomt.frames import Frame

if TYPE_CHECKING:
    from eomt.mask_kernels import Upsampling

LOGGER = logging.getLogger(__name__)
SMALL_OUTPUT = 128
"""To an output whose height and width sum to no more, torch interpolates in another order of operations."""
VECTORS = 64
"""Numbers that torch handles together, or a multiple of it, on any processor."""
UNSURE_SHARE = 32
"""One pixel in so many may be left to torch; a map with more ties is torch's altogether."""
PROBES = (
    Frame((160, 120), (160, 120), (160, 120)),
    Frame((131, 128), (99, 128), (99, 128)),
    Frame((128, 128), (96, 128), (201, 267)),
    Frame((200, 150), (200, 113), (87, 49)),
)


def usable(mask_logits: Tensor, frame: Frame) -> bool:
    """Whether the kernels give what torch gives for mask_logits (n, h, w) and this frame."""
    return (
        mask_logits.device.type == "cpu"
        and len(mask_logits) > 0
        and min(mask_logits.shape[-2:]) > 1  # torch takes maps of one pixel for another memory layout
        and min(*frame.filled, *frame.target) > 0
        and min(sum(frame.canvas), sum(frame.target)) > SMALL_OUTPUT
        and trusted_kernels() is not None
        and bool(mask_logits.sum(dtype=torch.float32).isfinite())  # where a logit is not, neither is the sum
    )


def contest(mask_logits: Tensor, scores: Tensor, frame: Frame, mask_threshold: float) -> tuple[Tensor, Tensor] | None:
    """Give each pixel to one of n queries: mask_logits (n, h, w), scores (n,). None where too many pixels tie.

    Returns the owner of each pixel, (H, W) int32, 0..n-1 or -1 where the winner's own mask does not cover it, and areas
    (3, n) int64: pixels won, of the own mask, won and of the own mask.
    """
    if not mask_threshold < 0.999:  # towards 1 the sigmoid is flat: no margin of logits is wide enough
        return None
    count, pixels = len(mask_logits), frame.target[0] * frame.target[1]
    owner, areas = np.empty(frame.target, np.int32), np.zeros((3, count), np.int64)
    room = 1024 + pixels // UNSURE_SHARE
    unsure_pixels, unsure_masks = np.empty(room, np.int64), np.empty((room, 2), np.int64)
    listed_pixels, listed_masks = kernels().contest(
        as_numpy(mask_logits),
        as_numpy(scores),
        tables(mask_logits, frame),
        *_logit_with_margin(mask_threshold),
        owner,
        areas,
        unsure_pixels,
        unsure_masks,
    )
    if listed_pixels < 0:
        return None
    if listed_pixels:
        pixel = unsure_pixels[:listed_pixels]
        probabilities = probabilities_at(mask_logits, frame, pixel)
        winner = (probabilities * scores).argmax(1)
        covers = (probabilities.gather(1, winner[:, None])[:, 0] >= mask_threshold).numpy()
        owner.reshape(-1)[pixel] = np.where(covers, winner.numpy(), -1)
        areas[0] += np.bincount(winner.numpy(), minlength=count)
        areas[2] += np.bincount(winner.numpy()[covers], minlength=count)
    if listed_masks:
        query, pixel = unsure_masks[:listed_masks].T
        probabilities = probabilities_at(mask_logits, frame, pixel)[torch.arange(listed_masks), torch.from_numpy(query)]
        covers = (probabilities >= mask_threshold).numpy()
        areas[1] += np.bincount(query[covers], minlength=count)
    return torch.from_numpy(owner), torch.from_numpy(areas)


def measure(mask_logits: Tensor, frame: Frame, with_masks: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Binary masks (n, H, W), or (0, H, W) without, areas (n,) int64 and mean probabilities (n,), of (n, h, w)."""
    count = len(mask_logits)
    areas, sums = np.zeros(count, np.int64), np.zeros(count, np.float64)
    binary = np.zeros((count if with_masks else 0, *frame.target), np.uint8)
    kernels().measure(as_numpy(mask_logits), tables(mask_logits, frame), areas, sums, binary)
    means = (sums / (areas + 1e-6)).astype(np.float32)
    return torch.from_numpy(binary).view(torch.bool), torch.from_numpy(areas), torch.from_numpy(means)


def paint(mask_logits: Tensor, labels: NDArray[np.int32], frame: Frame) -> Tensor:
    """(H, W) int32: the label of the last of the masks (n, h, w) that covers a pixel; masks labelled -1 cover none."""
    label_map = np.full(frame.target, -1, np.int32)
    kernels().paint(as_numpy(mask_logits), tables(mask_logits, frame), labels, label_map)
    return torch.from_numpy(label_map)


def relabel(labels: Tensor, lookup: NDArray[np.int32]) -> bool:
    """Replace each label of (H, W) int32 by its entry of `lookup`, in place; False where that cannot be done here."""
    if trusted_kernels() is None or labels.device.type != "cpu":
        return False
    kernels().relabel(labels.numpy(), lookup)
    return True


@cache
def trusted_kernels() -> ModuleType | None:
    """The compiled functions, if numba is there and they interpolate as the installed torch does."""
    try:
        from eomt import mask_kernels
    except ImportError:
        return None
    if not all(_interpolates_like_torch(mask_kernels, frame) for frame in PROBES):
        LOGGER.info("torch %s interpolates in another order than the kernels, which are not used", torch.__version__)
        return None
    return mask_kernels


def _interpolates_like_torch(tried: ModuleType, frame: Frame) -> bool:
    masks = np.random.default_rng(0).normal(0, 8, (4, 40, 32)).astype(np.float32)
    height, width = frame.target
    ours = np.empty((height * width, len(masks)), np.float32)
    tried.logits_at(masks, _tables(tried, 40, 32, frame), np.arange(height * width), ours)
    theirs = frame.upsample(torch.from_numpy(masks)).flatten(1).numpy()
    return np.array_equal(ours.T, theirs)


def kernels() -> ModuleType:
    """The compiled functions. Raises RuntimeError where they are not trusted: ask `usable` first."""
    trusted = trusted_kernels()
    if trusted is None:
        raise RuntimeError("the compiled kernels are not trusted here: ask `usable` first.")
    return trusted


def probabilities_at(mask_logits: Tensor, frame: Frame, pixels: NDArray[np.int64]) -> Tensor:
    """(m, n): what torch's sigmoid makes of the logits of masks (n, h, w) at pixels (m,) of the image."""
    logits = logits_at(mask_logits, frame, pixels)
    # The last numbers of an array, too few for a vector instruction, go through another exponential: none may be last.
    padded = functional.pad(logits.flatten(), (0, VECTORS - logits.numel() % VECTORS))
    return padded.sigmoid_()[: logits.numel()].view_as(logits)


def logits_at(mask_logits: Tensor, frame: Frame, pixels: NDArray[np.int64]) -> Tensor:
    """(m, n): the logits of masks (n, h, w) at pixels (m,) of the image."""
    logits = np.empty((len(pixels), len(mask_logits)), np.float32)
    up = tables(mask_logits, frame)
    kernels().logits_at(as_numpy(mask_logits), up, np.ascontiguousarray(pixels), logits)
    return torch.from_numpy(logits)


def _logit_with_margin(probability: float) -> tuple[np.float32, np.float32]:
    """The logit of a probability, and how far from it a logit must be for its side to be beyond doubt.

    A sigmoid in float32 is right to a relative 4e-7, and a step of the logit changes it by (1 - probability) times as
    much.
    """
    if probability <= 0:
        return np.float32(-np.inf), np.float32(0)
    logit = np.log(probability) - np.log1p(-probability)
    return np.float32(logit), np.float32((1e-6 + 1e-6 * abs(logit)) / (1 - probability))


def as_numpy(values: Tensor) -> NDArray[np.float32]:
    """The same numbers in float32, in one piece."""
    array: NDArray[np.float32] = values.float().contiguous().numpy()
    return array


def tables(mask_logits: Tensor, frame: Frame, whole: bool = True) -> "Upsampling":
    """What the kernels need to know to upsample mask_logits (..., h, w).

    `whole` says that they show all of the image, of which only what lies on the canvas counts; a crop shows a part.
    """
    height, width = mask_logits.shape[-2:]
    if whole:
        frame = replace(frame, filled=(min(frame.filled[0], frame.canvas[0]), min(frame.filled[1], frame.canvas[1])))
    return _tables(kernels(), height, width, frame)


def _tables(compiled: ModuleType, height: int, width: int, frame: Frame) -> "Upsampling":
    rows1, columns1 = axis_table(height, frame.canvas[0]), axis_table(width, frame.canvas[1])
    tile = compiled.TILE_ROWS, compiled.TILE_COLUMNS
    canvas_tile, rows2, columns2 = tile, rows1, columns1
    two_steps = frame.filled != frame.target
    if two_steps:
        rows2, columns2 = axis_table(frame.filled[0], frame.target[0]), axis_table(frame.filled[1], frame.target[1])
        canvas_tile = _reach(rows2, tile[0], frame.target[0]), _reach(columns2, tile[1], frame.target[1])
    lines = max(canvas_tile[0], _reach(rows1, canvas_tile[0], frame.filled[0]) + 2)
    scratch1 = np.empty((lines, max(canvas_tile[1], tile[1])), np.float32)
    axes = *rows1, *columns1, *rows2, *columns2
    result: Upsampling = compiled.Upsampling(
        *frame.target, two_steps, *axes, scratch1, np.empty(canvas_tile, np.float32)
    )
    return result


def _reach(table: tuple[NDArray[np.uint32], NDArray[np.float32]], tile: int, length: int) -> int:
    """How many source positions `tile` neighbours of the first `length` positions of an axis need at most."""
    index = table[0].astype(np.int64)
    length = min(length, index.shape[1])  # a crop may be shorter than the canvas that it is part of
    firsts = np.arange(max(1, length - tile + 1))
    return int((index[1, np.minimum(firsts + tile, length) - 1] - index[0, firsts] + 1).max())


@lru_cache(maxsize=256)
def axis_table(length: int, new_length: int) -> tuple[NDArray[np.uint32], NDArray[np.float32]]:
    """The two source positions (2, new_length) of bilinear interpolation along an axis, and their float32 weights.

    As torch has them with align_corners=False: scale x (position + 0.5) - 0.5 in float32, rounded once.
    """
    # In float64 the product of two float32 is exact, so that only the conversion at the end rounds.
    scale = np.float64(np.float32(length) / np.float32(new_length))
    positions = np.maximum((scale * (np.arange(new_length) + 0.5) - 0.5).astype(np.float32), np.float32(0))
    first = np.minimum(positions.astype(np.int64), length - 1)
    weight = np.clip(positions - first.astype(np.float32), 0, 1).astype(np.float32)
    index = np.stack([first, np.minimum(first + 1, length - 1)]).astype(np.uint32)
    return index, np.stack([np.float32(1) - weight, weight])
