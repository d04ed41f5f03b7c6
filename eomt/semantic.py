"""From the model's outputs to semantic maps: the class of each pixel, crops merged, one image at a time.

Queries vote: each one's class probabilities, without "no object", are weighted by its mask probability at the pixel and
summed. Crops of one image are averaged where they overlap. Unlike transformers, which stretches the whole canvas over
the image, padding is cut away first; without padding the two agree. On a CPU maps come from a compiled kernel where it
can do them: see `compiled_semantic`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from eomt import compiled_semantic
from eomt.errors import ProcessorError
from eomt.frames import Frame, SegmentationOutputs, TargetSizes, bilinear, frames, logits_of
from eomt.host_copies import HostCopies
from eomt.resizing import Size, canvas_size


def semantic_scores(outputs: SegmentationOutputs, target_sizes: TargetSizes, size: Size) -> Iterator[Tensor]:
    """For each image the score of each class at each pixel, float32 (K, H, W); they do not sum to 1.

    `target_sizes` and `size` are as in `semantic_maps`.
    """
    for image in _images(outputs, target_sizes, size):
        yield bilinear(_class_scores(image), image.frame.target)


def semantic_maps(outputs: SegmentationOutputs, target_sizes: TargetSizes, size: Size) -> list[Tensor]:
    """For each image the class index of each pixel, int64 (H, W), on the outputs' device: the first of the best.

    `target_sizes` gives each image's (height, width), `size` is the processor's. With the outputs' `patch_offsets` (one
    row (image, start, end) a crop) there are more outputs than images. Raises ProcessorError where these do not fit
    together.
    """
    return [_class_map(image) for image in _images(outputs, target_sizes, size)]


def semantic_maps_on_host(
    outputs: SegmentationOutputs, target_sizes: TargetSizes, size: Size, copies: HostCopies
) -> list[Tensor]:
    """As `semantic_maps` by the operators of torch, the maps on the host: uint8 up to 256 classes, else int16.

    The host waits once for all of them. One crop is worked on after the other, so that what shares a batch with an
    image does not change a bit of its map: a product of another shape may add in another order.
    """
    images = _images(outputs, target_sizes, size)
    maps = [_argmax_upsampled(_class_scores(image), image.frame).to(_smallest(image)) for image in images]
    return [torch.from_numpy(array) for array in copies.fetch(maps)]


def _smallest(image: "_Image") -> torch.dtype:
    return torch.uint8 if image.weights.shape[-1] <= 256 else torch.int16


@dataclass(frozen=True)
class _Image:
    """The outputs of one image's crops, or of the image where it was not split."""

    mask_logits: Tensor  # (crops, Q, h, w)
    weights: Tensor  # (crops, Q, K): class probabilities without "no object"
    starts: list[tuple[int, int]]  # (y, x) of each crop on the filled canvas
    frame: Frame  # its `canvas` is the size of a crop


def _images(outputs: SegmentationOutputs, target_sizes: TargetSizes, size: Size) -> Iterator[_Image]:
    mask_logits, class_logits = logits_of(outputs)
    weights = class_logits.float().softmax(-1)[..., :-1]
    offsets = _offsets(outputs)
    if not offsets:
        for i, frame in enumerate(frames(target_sizes, size, len(mask_logits))):
            yield _Image(mask_logits[i : i + 1], weights[i : i + 1], [(0, 0)], frame)
        return
    _check_offsets(offsets, len(mask_logits), len(target_sizes))
    edge = canvas_size(size)[0]
    for i, frame in enumerate(frames(target_sizes, size)):
        rows = [row for row, (image, _, _) in enumerate(offsets) if image == i]
        upright = frame.filled[0] > frame.filled[1]
        starts = [(offsets[row][1], 0) if upright else (0, offsets[row][1]) for row in rows]
        together = rows == list(range(rows[0], rows[0] + len(rows)))
        chosen = slice(rows[0], rows[0] + len(rows)) if together else rows  # a GPU has to be told a list's indices
        yield _Image(mask_logits[chosen], weights[chosen], starts, replace(frame, canvas=(edge, edge)))


def _class_map(image: _Image) -> Tensor:
    decided = compiled_semantic.class_map(image.mask_logits, image.weights, image.starts, image.frame)
    return _argmax_upsampled(_class_scores(image), image.frame) if decided is None else decided


def _class_scores(image: _Image) -> Tensor:
    """The class scores (K, *filled) before the last upsampling."""
    crops = (
        (start, _scores_on_canvas(masks, weights, image.frame.canvas))
        for masks, weights, start in zip(image.mask_logits, image.weights, image.starts, strict=True)
    )
    total = torch.zeros((image.weights.shape[-1], *image.frame.filled), device=image.weights.device)
    return _add_crops(total, crops)


def _add_crops(total: Tensor, crops: Iterable[tuple[tuple[int, int], Tensor]]) -> Tensor:
    """Fill `total` (K, h, w) with the mean of crops: (where it starts, scores (K, *crop)) each."""
    count = torch.zeros_like(total[:1])
    for (top, left), scores in crops:
        region = total[:, top : top + scores.shape[1], left : left + scores.shape[2]]
        height, width = region.shape[1:]
        region += scores[:, :height, :width]
        count[:, top : top + height, left : left + width] += 1
    return total.div_(count.clamp_(min=1))


def _scores_on_canvas(mask_logits: Tensor, weights: Tensor, canvas: tuple[int, int]) -> Tensor:
    """Class scores (K, *canvas) of mask_logits (Q, h, w) and weights (Q, K)."""
    masks = bilinear(mask_logits.float(), canvas).sigmoid()  # (Q, *canvas)
    return torch.einsum("qc,qhw->chw", weights, masks)


def _argmax_upsampled(scores: Tensor, frame: Frame) -> Tensor:
    """(K, *filled) to the index (H, W) of the largest of the K after upsampling, a chunk of classes at a time."""
    best = torch.full(frame.target, -torch.inf, device=scores.device)
    winner = torch.zeros(frame.target, dtype=torch.int64, device=scores.device)
    for part in frame.chunks(len(scores)):
        value, first = bilinear(scores[part], frame.target).max(0)
        better = value > best  # strictly: an earlier chunk keeps a tie
        best = torch.where(better, value, best)
        winner = torch.where(better, first + part.start, winner)
    return winner


def _offsets(outputs: SegmentationOutputs) -> list[tuple[int, int, int]]:
    """Rows (image, start, end) of the outputs' `patch_offsets`; none where images were not split."""
    given = getattr(outputs, "patch_offsets", None)
    if given is None or len(given) == 0:
        return []
    rows = torch.stack(list(given)) if isinstance(given[0], Tensor) else torch.tensor(given)
    return [(int(image), int(start), int(end)) for image, start, end in rows.tolist()]


def _check_offsets(offsets: list[tuple[int, int, int]], rows: int, images: int) -> None:
    if len(offsets) != rows:
        raise ProcessorError(
            f"{rows} crops were predicted but patch_offsets has {len(offsets)} rows: pass those of the same batch."
        )
    wrong = sorted({image for image, _, _ in offsets} ^ set(range(images)))
    if wrong:
        raise ProcessorError(
            f"patch_offsets and target_sizes disagree about image {wrong[0]}: there are {images} target_sizes, and "
            f"crops of {len({image for image, _, _ in offsets})} images."
        )
