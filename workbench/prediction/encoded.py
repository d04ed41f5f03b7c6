"""A predicted batch as the rows that will be written: what travels from a worker to the process that commits."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from workbench.formats.base import Category
from workbench.prediction.candidates import CandidateBuilder
from workbench.prediction.encode import PredictedImage, ShardBuilder
from workbench.prediction.profiling import ENCODE, Profile


@dataclass(frozen=True)
class EncodedBatch:
    """Rows of the images of one batch, in the batch's order; a few kilobytes an image."""

    segments: pa.Table
    images: pa.Table
    candidates: pa.Table | None
    """None where the run keeps none."""


class BatchEncoder:
    """Turns predictions into rows."""

    def __init__(
        self, categories: Sequence[Category], keep_candidates: bool = False, profile: Profile | None = None
    ) -> None:
        self._categories, self._keep_candidates = categories, keep_candidates
        self._profile = profile or Profile()

    def encode(self, batch: Sequence[PredictedImage]) -> EncodedBatch:
        """The batch's rows; an image that failed has one in the image table alone."""
        with self._profile.stage(ENCODE):
            segments, candidates = ShardBuilder(self._categories), CandidateBuilder(self._categories)
            for image in batch:
                segments.add(image)
                if self._keep_candidates:
                    candidates.add(image)
            return EncodedBatch(*segments.build(), candidates.build() if self._keep_candidates else None)
