"""Candidates of panoptic predictions as rows of their own table, committed together with the segments."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from workbench import rle
from workbench.formats.base import Category
from workbench.label_map_rle import compress_runs
from workbench.prediction.encode import PredictedImage, PredictedMap
from workbench.segments import CANDIDATE_SCHEMA, candidate_table, concat

if TYPE_CHECKING:
    from eomt.candidates import PanopticCandidates


@dataclass
class CandidateBuilder:
    """Candidates of images that wait to be committed together."""

    categories: Sequence[Category]
    """The category of each class index in the predictions."""
    tables: list[pa.Table] = field(default_factory=list)

    def add(self, image: PredictedImage) -> None:
        """Add the candidates of an image; one that failed has none."""
        if isinstance(image.outcome, PredictedMap) and image.outcome.candidates is not None:
            self.tables.append(self._rows(image.record.image_id, image.outcome.candidates))

    def build(self) -> pa.Table:
        """What was added, as `segments.CANDIDATE_SCHEMA`; the builder is empty afterwards."""
        tables, self.tables = self.tables, []
        return concat(tables, CANDIDATE_SCHEMA)

    def _rows(self, image_id: str, found: "PanopticCandidates") -> pa.Table:
        n, (height, width) = len(found.query), found.size_hw
        categories = [self.categories[index] for index in found.class_index.tolist()]
        return candidate_table(
            {
                "image_id": pa.repeat(image_id, n),
                "query": found.query,
                "category_id": pa.array([category.category_id for category in categories], pa.int64()),
                "isthing": pa.array([category.isthing for category in categories], pa.bool_()),
                "score": found.scores.astype(np.float64),
                "area": rle.Runs(found.masks.lengths, found.masks.offsets).areas(),
                "height": np.full(n, height),
                "width": np.full(n, width),
                "counts": compress_runs(found.masks.lengths, found.masks.offsets),
                "gains": compress_runs(found.gains.lengths, found.gains.offsets),
            }
        )
