"""Whether scores mean what they say: how often predictions of a score are right, and how far the two are apart.

A prediction is right where it is a true positive at IoU 0.5; what a metric ignores is left out.
ECE, the expected calibration error: the gap between mean score and precision of each bin, weighted by its predictions.
Source: Guo et al. 2017, On Calibration of Modern Neural Networks, section 2, with precision in the place of accuracy.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 10


class Reliability:
    """Predictions counted by score, in bins of equal width over 0..1 that hold their upper end, the first also 0."""

    def __init__(self) -> None:
        self.n = np.zeros(BINS, dtype=np.int64)
        self.scores, self.hits = np.zeros(BINS), np.zeros(BINS)
        self.all_within = True
        """Whether all scores were from 0 to 1, none missing (NaN)."""

    def add(self, score: NDArray[np.float64], right: NDArray[np.bool_]) -> None:
        """Count more predictions (N,), one after another, so that it does not matter how many come at a time."""
        self.all_within &= bool(((score >= 0) & (score <= 1)).all())
        if not self.all_within:
            return
        position = np.searchsorted(np.arange(1, BINS + 1) / BINS, score, side="left")
        np.add.at(self.n, position, 1)
        np.add.at(self.scores, position, score)
        np.add.at(self.hits, position, right)


def calibration_json(counts: Reliability) -> dict[str, Any] | None:
    """ECE and the reliability bins, as metrics.json has them; None without scores from 0 to 1."""
    n, scores, hits = counts.n, counts.scores, counts.hits
    total = int(n.sum())
    if not total or not counts.all_within:
        return None
    gaps = np.abs(scores - hits)[n > 0] / n[n > 0]
    return {
        "ece": float((gaps * n[n > 0]).sum() / total),
        "max_gap": float(gaps.max()),
        "n": total,
        "bins": [
            {
                "low": b / BINS,
                "high": (b + 1) / BINS,
                "n": int(n[b]),
                "score": float(scores[b] / n[b]) if n[b] else None,
                "precision": float(hits[b] / n[b]) if n[b] else None,
            }
            for b in range(BINS)
        ],
    }
