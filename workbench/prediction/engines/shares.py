"""How much of a cluster's processors each worker gets."""

from collections.abc import Sequence

_MOST_ON_ONE = 16
_TINY = 1e-9


def fitting(amounts: Sequence[float], share: float) -> int:
    """How many workers with that share fit on nodes that have these amounts."""
    return sum(int(amount / share + _TINY) for amount in amounts)


def largest_share(amounts: Sequence[float], workers: int, most: float) -> float | None:
    """The most of a resource that each worker can have so that all of them fit: at most `most`, a whole number or 1/n.

    `amounts` are the nodes' own. None where they do not fit even as a 16th each.
    """
    whole = range(int(min(most, max(amounts, default=0))), 0, -1)
    for share in (*map(float, whole), *(1 / n for n in range(2, _MOST_ON_ONE + 1))):
        if share <= most and fitting(amounts, share) >= workers:
            return share
    return None
