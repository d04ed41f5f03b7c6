"""What a sweep measured: one number to judge settings by, and how far the best of them can be trusted.

The best of many settings looks better on the images that it was chosen on than on others. Cross-validation says how
much: each fifth of the images is scored with the setting that is best on the other four fifths.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from workbench.evaluation.bootstrap import METHOD, low_high
from workbench.evaluation.resampling import Bootstrap, notes_on

FOLDS = 5
_FEWEST = 2 * FOLDS  # images: fewer leave folds of one
OPTIMISTIC = (
    "the best setting is chosen on the images that it is scored on, so its number is optimistic: set thresholds on one "
    "set of images and report another"
)


@dataclass(frozen=True)
class Setting:
    """Thresholds of one point of a sweep."""

    threshold: float
    overlap_threshold: float | None = None
    """None where the task has none."""

    def __str__(self) -> str:
        overlap = "" if self.overlap_threshold is None else f", overlap {self.overlap_threshold:g}"
        return f"threshold {self.threshold:g}{overlap}"


class Curve(Protocol):
    """The points of a sweep with their raw counts."""

    @property
    def main(self) -> str:
        """The number that settings are judged by."""

    @property
    def settings(self) -> Sequence[Setting]:
        """Of each point."""

    @property
    def images(self) -> int:
        """How many were scored."""

    def value(self, point: int, images: NDArray[np.bool_] | None = None) -> float | None:
        """The main number of a point: of all images, or of those (images,)."""

    def joined(self, points: Sequence[int], images: Sequence[NDArray[np.bool_]]) -> float | None:
        """The main number where each part of the images has the setting of its own point."""

    def samples(self, points: Sequence[int], bootstrap: Bootstrap) -> list[NDArray[np.float64]]:
        """The main number of each resample, (resamples,) for each point, of the same draws."""

    def numbers(self, point: int) -> Mapping[str, float | int | None]:
        """All numbers of a point."""

    def category_rows(self, point: int) -> pa.Table:
        """`category_id`, `name`, `isthing` and the numbers of each category that occurs."""


def best_of(curve: Curve, current: int | None, images: NDArray[np.bool_] | None = None) -> int:
    """The point with the largest main number; of equals the current one, else the first."""
    values = [curve.value(point, images) for point in range(len(curve.settings))]
    known = [-1.0 if value is None else value for value in values]
    if current is not None and known[current] == max(known):
        return current
    return int(np.argmax(known))


def gain_json(curve: Curve, best: int, current: int, bootstrap: Bootstrap) -> dict[str, Any]:
    """The best point's main number less the current one's, with the interval of a paired bootstrap."""
    now, then = curve.value(current), curve.value(best)
    samples = curve.samples([current, best], bootstrap)
    return {
        "difference": None if now is None or then is None else then - now,
        "interval": low_high(bootstrap, samples[1] - samples[0]),
        "confidence": bootstrap.confidence,
        "resamples": bootstrap.resamples,
        "seed": bootstrap.seed,
        "method": f"{METHOD}, paired",
    }


def held_out_json(curve: Curve, current: int | None, seed: int) -> dict[str, Any] | None:
    """What choosing the best setting is worth on other images: None for fewer than two images a fold."""
    if curve.images < _FEWEST:
        return None
    fold = np.random.default_rng(seed).permutation(curve.images) % FOLDS
    parts = [fold == number for number in range(FOLDS)]
    chosen = [best_of(curve, current, ~part) for part in parts]
    return {
        "folds": FOLDS,
        "seed": seed,
        curve.main: curve.joined(chosen, parts),
        "chosen": [_json(curve.settings[point]) for point in chosen],
    }


def curve_json(curve: Curve, current: int | None, bootstrap: Bootstrap) -> dict[str, Any]:
    """The part of sweep.json that the points give."""
    best = best_of(curve, current)
    points = [{**_json(setting), **curve.numbers(point)} for point, setting in enumerate(curve.settings)]
    return {
        "main": curve.main,
        "current": None if current is None else points[current],
        "best": points[best],
        "gain": None if current is None else gain_json(curve, best, current, bootstrap),
        "held_out": held_out_json(curve, current, bootstrap.seed),
        "points": points,
        "notes": [OPTIMISTIC, *notes_on(curve.images)],
    }


def _json(setting: Setting) -> dict[str, float]:
    found = {"threshold": setting.threshold, "overlap_threshold": setting.overlap_threshold}
    return {name: value for name, value in found.items() if value is not None}
