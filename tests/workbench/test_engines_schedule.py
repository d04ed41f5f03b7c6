"""What is given to which worker, and how much of a cluster each gets."""

from hypothesis import given
from hypothesis import strategies as st

from workbench.prediction.engines.schedule import MOST_DEATHS, InOrder, Schedule
from workbench.prediction.engines.shares import fitting, largest_share


def test_results_go_on_in_order_however_they_come() -> None:
    handed: list[str] = []
    order: InOrder[str] = InOrder(handed.append)
    for batch in (2, 0, 3, 1):
        order.add(batch, str(batch))
    assert handed == ["0", "1", "2", "3"]
    assert order.delivered == 4


def test_no_worker_is_given_more_than_it_may_hold_or_beyond_the_window() -> None:
    schedule = Schedule(100, window=3)
    assert [schedule.next_for(range(n), 0, most=2) for n in range(3)] == [0, 1, None]
    assert schedule.next_for([], 0, most=2) == 2
    assert schedule.next_for([], 0, most=2) is None
    assert schedule.next_for([], 1, most=2) == 3


def test_what_a_dead_worker_held_is_tried_again_alone_and_the_deadly_batch_is_named() -> None:
    schedule = Schedule(10, window=10)
    held = [schedule.next_for(range(n), 0, most=4) for n in range(4)]
    assert held == [0, 1, 2, 3]
    assert schedule.lost([0, 1, 2, 3]) is None
    assert schedule.next_for([7], 0, most=4) == 4  # a worker that holds others takes none of them
    for innocent in (0, 1):
        assert schedule.next_for([], 0, most=4) == innocent
        assert schedule.next_for([innocent], 0, most=4) is None
        schedule.done(innocent)
    for _ in range(MOST_DEATHS - 2):
        assert schedule.next_for([], 2, most=4) == 2
        assert schedule.lost([2]) is None
    assert schedule.next_for([], 2, most=4) == 2
    assert schedule.lost([2]) == 2


def test_nothing_behind_a_batch_that_failed_is_given_out() -> None:
    schedule = Schedule(10, window=10)
    schedule.end_before(1)
    assert [schedule.next_for([], 0, most=4) for _ in range(2)] == [0, None]


@given(st.lists(st.integers(1, 16), min_size=1, max_size=6), st.integers(1, 40), st.sampled_from([1.0, 64.0]))
def test_all_workers_fit_with_their_share_and_no_larger_one_would_do(
    amounts: list[int], workers: int, most: float
) -> None:
    share = largest_share(amounts, workers, most)
    if share is None:
        assert fitting(amounts, 1 / 16) < workers
        return
    assert share <= most and fitting(amounts, share) >= workers
    larger = share + 1 if share >= 1 else 1 / (round(1 / share) - 1)
    assert larger > most or fitting(amounts, larger) < workers


def test_two_workers_of_a_gpu_get_half_of_it_each() -> None:
    assert largest_share([1.0], 2, 1.0) == 0.5
    assert largest_share([2.0, 1.0], 3, 1.0) == 1.0
    assert largest_share([], 1, 1.0) is None
