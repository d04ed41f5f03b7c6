"""The sizes that one image's masks pass through on their way from the model's grid to the image.

Masks reach an image's size in two bilinear steps, both of which shape the result: from the model's grid to the canvas
that the processor's `size` describes, cut to the part of it that the image filled, then to the image's own size.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor
from torch.nn import functional

from eomt.errors import ProcessorError
from eomt.resizing import Size, canvas_size, resized_size

TargetSizes = Sequence[Sequence[int]] | Tensor
"""The images' own sizes, (height, width) each."""

CHUNK_PIXELS = 1 << 24
"""Mask pixels upsampled at once: 64 MiB a temporary array in float32."""


class SegmentationOutputs(Protocol):
    """What post-processing reads of the model's output: B images or crops, Q queries, K classes."""

    @property
    def masks_queries_logits(self) -> Tensor | None:
        """(B, Q, h, w) before the sigmoid; must be there."""

    @property
    def class_queries_logits(self) -> Tensor | None:
        """(B, Q, K + 1), the last class meaning "no object"; must be there."""

    @property
    def patch_offsets(self) -> Sequence[Tensor | Sequence[int]] | Tensor | None:
        """(B, 3): image, start, end of each crop; empty or None where images were not split."""


@dataclass(frozen=True)
class Frame:
    """The sizes, each (height, width), that one image's masks pass through."""

    canvas: tuple[int, int]
    filled: tuple[int, int]
    target: tuple[int, int]

    def upsample(self, mask_logits: Tensor) -> Tensor:
        """(n, h, w) of any floating type as (n, *target) in float32, by both steps."""
        on_canvas = bilinear(mask_logits.float(), self.canvas)
        return bilinear(on_canvas[:, : self.filled[0], : self.filled[1]], self.target)

    def chunks(self, count: int) -> Iterator[slice]:
        """Slices of 0..count that are small enough to upsample at once."""
        step = max(1, CHUNK_PIXELS // max(self.canvas[0] * self.canvas[1], self.target[0] * self.target[1]))
        return (slice(start, min(start + step, count)) for start in range(0, count, step))


def frames(target_sizes: TargetSizes, size: Size, count: int | None = None) -> list[Frame]:
    """One frame an image, from the images' own sizes and the processor's `size`.

    Raises ProcessorError where there are not `count` images.
    """
    if count is not None and len(target_sizes) != count:
        raise ProcessorError(
            f"{count} images were predicted but {len(target_sizes)} target_sizes given: one (height, width) an image."
        )
    canvas, result = canvas_size(size), []
    for target in target_sizes:
        height, width = (int(edge) for edge in target)
        result.append(Frame(canvas, resized_size((height, width), size), (height, width)))
    return result


def logits_of(outputs: SegmentationOutputs) -> tuple[Tensor, Tensor]:
    """The mask logits (B, Q, h, w) and class logits (B, Q, K + 1). Raises ProcessorError where one is missing.

    They are detached: a prediction needs no gradients.
    """
    masks, classes = outputs.masks_queries_logits, outputs.class_queries_logits
    if masks is None or classes is None:
        raise ProcessorError("the outputs lack masks_queries_logits or class_queries_logits: pass those of the model.")
    return masks.detach(), classes.detach()


def bilinear(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """(n, h, w) as (n, *size). Maps of that size are returned themselves: interpolation would not change a value."""
    if tuple(maps.shape[-2:]) == size:
        return maps
    if not len(maps):
        return maps.new_zeros((0, *size))
    # Three maps could be the colours of an image, which torch interpolates in another order on one thread of a CPU.
    batch = maps[:, None] if len(maps) == 3 else maps[None]
    return functional.interpolate(batch, size=size, mode="bilinear", align_corners=False).view(len(maps), *size)
