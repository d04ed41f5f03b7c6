"""Whether scores mean what they say: how often predictions of a score are right, and how far the two are apart.

A prediction is right where it is a true positive at IoU 0.5; what a metric ignores is left out.
ECE, the expected calibration error: the gap between mean score and precision of each bin, weighted by its predictions.
Source: Guo et al. 2017, On Calibration of Modern Neural Networks, section 2, with precision in the place of accuracy.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 10


def calibration_json(score: NDArray[np.float64], right: NDArray[np.bool_]) -> dict[str, Any] | None:
    """ECE and the reliability bins of predictions (N,), as metrics.json has them.

    Bins of equal width over 0..1 hold their upper end, the first also 0. None where a score lies outside 0..1 or is
    missing (NaN), and without predictions.
    """
    if not len(score) or not ((score >= 0) & (score <= 1)).all():
        return None
    position = np.searchsorted(np.arange(1, BINS + 1) / BINS, score, side="left")
    n = np.bincount(position, minlength=BINS)
    scores = np.bincount(position, weights=score, minlength=BINS)
    hits = np.bincount(position, weights=right, minlength=BINS)
    gaps = np.abs(scores - hits)[n > 0] / n[n > 0]
    return {
        "ece": float((gaps * n[n > 0]).sum() / len(score)),
        "max_gap": float(gaps.max()),
        "n": len(score),
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
