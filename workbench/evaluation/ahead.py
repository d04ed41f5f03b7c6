"""Reading ahead: the next chunk is read and checked by a second thread while this one is scored."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")


def ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same items in the same order, each made by another thread while its predecessor is used.

    An error is raised where its item would have come. At most one item waits.
    """
    with ThreadPoolExecutor(1) as reader:
        following = reader.submit(_next, items)
        while taken := following.result():
            following = reader.submit(_next, items)
            yield taken[0]


def _next(items: Iterator[Item]) -> tuple[Item, ...]:
    """The next item; nothing at the end."""
    return tuple(islice(items, 1))
