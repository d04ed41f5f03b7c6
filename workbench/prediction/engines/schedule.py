"""Which batch a worker gets next: none is lost, few results wait for others, and a batch that kills is found."""

from collections import Counter, deque
from collections.abc import Callable, Collection
from typing import Generic, TypeVar

MOST_DEATHS = 3
"""Workers that may die of one batch."""
_Result = TypeVar("_Result")


class Schedule:
    """Gives out the batches 0..count-1, in order, at most `window` ahead of the first that is not delivered.

    What a dead worker held is given out again, one batch at a time to a worker that holds nothing else: the next death
    is then that batch's own.
    """

    def __init__(self, count: int, window: int) -> None:
        self._count, self._window = count, window
        self._fresh = 0
        self._again: deque[int] = deque()
        self._deaths: Counter[int] = Counter()
        self._alone: set[int] = set()

    def next_for(self, held: Collection[int], delivered: int, most: int) -> int | None:
        """The next batch for a worker that holds the batches `held`; None: nothing for it now.

        `delivered` is the number of batches that went on in order, `most` how many a worker holds at once.
        """
        if self._alone & set(held) or len(held) >= most:
            return None
        if self._again and not held:
            batch = self._again.popleft()
            self._alone.add(batch)
            return batch
        if self._fresh < min(self._count, delivered + self._window):
            self._fresh += 1
            return self._fresh - 1
        return None

    def lost(self, held: Collection[int]) -> int | None:
        """A worker died that held these. The batch of which too many workers have died by now, or None."""
        for batch in sorted(held):
            self._deaths[batch] += 1
            if self._deaths[batch] >= MOST_DEATHS:
                return batch
        self.returned(held)
        return None

    def returned(self, held: Collection[int]) -> None:
        """A worker held these and had no part in them: they are given out again."""
        self._alone -= set(held)
        self._again = deque(sorted([*self._again, *held]))

    def done(self, batch: int) -> None:
        """The batch's result is in."""
        self._alone.discard(batch)

    def end_before(self, batch: int) -> None:
        """Give out none from this one on: it cannot be predicted, which ends the run when its turn comes."""
        self._count = min(self._count, batch)
        self._again = deque(number for number in self._again if number < batch)


class InOrder(Generic[_Result]):
    """Takes results as they come and hands them on in the order of their batches."""

    def __init__(self, hand_on: Callable[[_Result], None]) -> None:
        self._hand_on = hand_on
        self._early: dict[int, _Result] = {}
        self.delivered = 0
        """How many went on."""

    def add(self, batch: int, result: _Result) -> None:
        """Take a result, and hand on all that have become due."""
        self._early[batch] = result
        while self.delivered in self._early:
            due = self._early.pop(self.delivered)
            self.delivered += 1
            self._hand_on(due)
