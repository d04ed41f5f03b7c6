"""Corrected mode: what the official tools get wrong about data, put right before it is scored.

What is wrong in their rules is mended where the rule stands (`corrected` of `panoptic.match` and `instance.match`);
docs/parity.md lists both.
"""

from dataclasses import replace

import numpy as np

from workbench.evaluation.columns import Segments


def counted(segments: Segments) -> Segments:
    """Areas as counted instead of declared, and no annotation id of 0, which pycocotools takes for "not matched"."""
    return replace(
        segments,
        declared_area=segments.area.astype(np.float64),
        source_id=segments.segment_id.astype(np.int64),
    )


def by_box(segments: Segments) -> Segments:
    """Sizes by the area of the box, on both sides alike: for AP of boxes."""
    return replace(segments, declared_area=segments.bbox[:, 2] * segments.bbox[:, 3])
