"""The queries of a batch that count, in groups of images that are small enough to be upsampled together.

Images of one frame make a group, each filled up to the most queries that count in one of them. What fills up is marked,
and wins nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from eomt.frames import Frame
from eomt.host_copies import HostCopies

MASK_PIXELS = 1 << 26
"""Mask pixels upsampled at once: 256 MiB a temporary array in float32."""


@dataclass(frozen=True)
class QueryGroup:
    """Images of one frame, few enough to be worked on together; G of them."""

    images: list[int]
    frame: Frame
    queries: int
    """The most that count in one of them, at least 1: n."""

    @property
    def step(self) -> int:
        """Queries of each image to upsample at once."""
        return max(1, MASK_PIXELS // (len(self.images) * _pixels(self.frame)))

    def parts(self) -> Iterator[slice]:
        """Slices of the n queries."""
        return (slice(start, min(start + self.step, self.queries)) for start in range(0, self.queries, self.step))

    def upsampled(self, masks: Tensor, part: slice) -> Tensor:
        """(G, m, H, W) logits of those queries, of masks (G, n, h, w)."""
        whole = self.frame.upsample(masks[:, part].flatten(0, 1))
        return whole.view(len(self.images), -1, *self.frame.target)


class ChosenQueries:
    """The queries that count, as `chosen` (B, Q) tells, in groups of images; this waits for their number."""

    def __init__(self, masks: Tensor, chosen: Tensor, image_frames: list[Frame], copies: HostCopies) -> None:
        self._masks = masks
        (counts,) = copies.fetch([chosen.sum(1)])
        self.counts: list[int] = counts.tolist()
        self._order = chosen.to(torch.uint8).sort(dim=1, descending=True, stable=True).indices
        self._chosen = chosen
        self.groups = list(_grouped(image_frames, self.counts))

    def masks(self, group: QueryGroup) -> Tensor:
        """(G, n, h, w), those past an image's own count being any."""
        order = self._order
        return torch.stack([self._masks[i].index_select(0, order[i, : group.queries]) for i in group.images])

    def of(self, values: Tensor, group: QueryGroup) -> Tensor:
        """The chosen queries' entries of `values` (B, Q), (G, n)."""
        return torch.stack([values[i].gather(0, self._order[i, : group.queries]) for i in group.images])

    def valid(self, group: QueryGroup) -> Tensor:
        """(G, n) bool: the queries that are not there to fill up."""
        return self.of(self._chosen, group)


def _grouped(image_frames: list[Frame], counts: list[int]) -> Iterator[QueryGroup]:
    """Images of one frame together, those with about as many queries first of all."""

    def key(i: int) -> tuple[Any, int]:
        frame = image_frames[i]
        return (frame.canvas, frame.filled, frame.target), -counts[i]

    for _, alike in groupby(sorted(range(len(counts)), key=key), key=lambda i: key(i)[0]):
        images = list(alike)
        while images:
            most = max(1, counts[images[0]])
            together = max(1, MASK_PIXELS // (most * _pixels(image_frames[images[0]])))
            yield QueryGroup(images[:together], image_frames[images[0]], most)
            images = images[together:]


def _pixels(frame: Frame) -> int:
    return max(frame.canvas[0] * frame.canvas[1], frame.target[0] * frame.target[1], 1)
