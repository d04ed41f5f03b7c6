"""Images drawn with replacement, and intervals from what the draws give: the percentile bootstrap.

Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapters 6 and 13.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workbench.errors import OptionError

_BYTES_PER_BLOCK = 64 << 20


_FEW_IMAGES = 30


def notes_on(images: int) -> list[str]:
    """What the reader of intervals from that many images must know."""
    few = f"intervals from {images} images are too narrow: resamples show only what these few hold"
    return [few] if images < _FEW_IMAGES else []


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are made. Raises OptionError for values that make no interval."""

    confidence: float = 0.95
    resamples: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.confidence < 1:
            raise OptionError(f"confidence is {self.confidence}; it lies between 0 and 1, for instance 0.95.")
        if self.resamples < 2:
            raise OptionError(f"{self.resamples} resamples give no interval. Use 1000.")
        if self.seed < 0:
            raise OptionError(f"seed is {self.seed}; it is 0 or more.")

    def draws(self, images: int) -> Iterator[NDArray[np.int32]]:
        """How often each resample has each image, a few resamples at a time: int32 of shape (some, images).

        Resample r of a seed is the same however many are drawn and whoever draws them: so runs are compared in pairs.
        """
        block = max(1, _BYTES_PER_BLOCK // (4 * max(images, 1)))
        for start in range(0, self.resamples, block):
            numbers = range(start, min(start + block, self.resamples))
            yield np.stack([self._draw(number, images) for number in numbers])

    def _draw(self, number: int, images: int) -> NDArray[np.int32]:
        drawn = np.random.default_rng([self.seed, number]).integers(images, size=images)
        return np.bincount(drawn, minlength=images).astype(np.int32)

    def interval(self, samples: NDArray[np.float64]) -> tuple[float, float] | None:
        """Both ends of the percentile interval of (resamples,) values, those that do not exist (NaN) left out.

        None where fewer than half of them exist: what remains would not be a sample of anything.
        """
        known = samples[~np.isnan(samples)]
        if 2 * len(known) < len(samples) or not len(known):
            return None
        tail = (1 - self.confidence) / 2
        low, high = np.quantile(known, [tail, 1 - tail])
        return float(low), float(high)
