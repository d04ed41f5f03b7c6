"""How the model does in similar cases: the same class, and the nearest in size or score.

A suspicion is worth as much as the model is reliable: where it misses every second person, a person that it misses says
little. Each case is judged by the others, never by itself, and classes with few cases lean on the rest.
"""

import numpy as np
from numpy.typing import NDArray

from workbench.auditing.evidence import Ids, Values

SIMILAR = 30
"""How many of the nearest cases of the same class a case is compared with."""
_CLASS_WEIGHT = 2.0  # cases that the rate of the class counts as, and that of all classes within it
_MEDIANS = 5  # the same for medians


def share_of_similar(group: Ids, key: Values, hit: NDArray[np.bool_], counted: NDArray[np.bool_]) -> Values:
    """For each case the share of hits among the counted ones of its group that are nearest by `key`, without itself.

    All (n,). Few cases are drawn towards the group's share, a small group's towards that of all groups.
    """
    overall = float(hit[counted].mean()) if counted.any() else 0.0
    shares = np.full(len(group), overall)
    for rows in _sorted_groups(group, key):
        hits, counts = (hit & counted)[rows].astype(np.float64), counted[rows].astype(np.float64)
        of_group = (hits.sum() - hits + _CLASS_WEIGHT * overall) / (counts.sum() - counts + _CLASS_WEIGHT)
        near = _windows(len(rows))
        near_hits, near_counts = (_between(values, near) - values for values in (hits, counts))
        shares[rows] = (near_hits + _CLASS_WEIGHT * of_group) / (near_counts + _CLASS_WEIGHT)
    return shares


def median_of_similar(group: Ids, key: Values, value: Values, counted: NDArray[np.bool_]) -> Values:
    """For each counted case the median `value` of the counted ones of its group nearest by `key`; NaN for the others.

    All (n,). A few cases of the median of all groups are added, so that small groups lean on it.
    """
    medians = np.full(len(group), np.nan)
    if not counted.any():
        return medians
    overall = np.full(_MEDIANS, np.median(value[counted]))
    places = np.flatnonzero(counted)
    for rows in _sorted_groups(group[places], key[places]):
        values, (begins, ends) = value[places[rows]], _windows(len(rows))
        views = np.lib.stride_tricks.sliding_window_view(values, int(ends[0] - begins[0]))[begins]
        padded = np.concatenate([views, np.broadcast_to(overall, (len(rows), _MEDIANS))], axis=1)
        medians[places[rows]] = np.median(padded, axis=1)
    return medians


def _sorted_groups(group: Ids, key: Values) -> list[NDArray[np.int64]]:
    """The rows of each group, ascending by key."""
    order = np.lexsort((key, group))
    starts = np.flatnonzero(np.diff(group[order])) + 1
    return [rows for rows in np.split(order, starts) if len(rows)]


def _windows(rows: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each position in a sorted group where its nearest cases begin and end, itself among them."""
    size = min(SIMILAR + 1, rows)
    begins = np.clip(np.arange(rows) - size // 2, 0, rows - size)
    return begins, begins + size


def _between(values: Values, windows: tuple[NDArray[np.int64], NDArray[np.int64]]) -> Values:
    sums = np.concatenate([[0.0], np.cumsum(values)])
    return np.asarray(sums[windows[1]] - sums[windows[0]])
