"""Reading ahead changes neither the items, nor their order, nor where an error appears."""

import threading
from collections.abc import Iterator

import pytest

from workbench.evaluation.ahead import ahead


def numbers(until: int, made: list[int]) -> Iterator[int]:
    for number in range(until):
        made.append(number)
        yield number


def test_items_come_in_order_and_one_waits() -> None:
    made: list[int] = []
    for number in ahead(numbers(5, made)):
        if number == 2:
            assert len(made) <= 4
    assert made == [0, 1, 2, 3, 4]
    assert list(ahead(numbers(0, made))) == []


def test_an_error_comes_where_its_item_would_have_come() -> None:
    def failing() -> Iterator[int]:
        yield 1
        raise ValueError("the second cannot be read")

    items = ahead(failing())
    assert next(items) == 1
    with pytest.raises(ValueError, match="the second"):
        next(items)


def test_who_stops_early_leaves_no_thread() -> None:
    before = threading.active_count()
    items = ahead(numbers(100, []))
    next(items)
    items.close()
    assert threading.active_count() == before
