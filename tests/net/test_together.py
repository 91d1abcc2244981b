"""Several waits at the same time."""

import threading

import pytest

from sendooway.net.together import MAX_AT_ONCE, together


def test_results_come_in_the_order_of_the_calls() -> None:
    second_is_done = threading.Event()

    def first() -> int:
        assert second_is_done.wait(30)
        return 1

    def second() -> int:
        second_is_done.set()
        return 2

    assert together([first, second]) == [1, 2]
    assert together([]) == []


def test_the_first_failure_ends_the_wait() -> None:
    never = threading.Event()

    def fail() -> bool:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        together([never.wait, fail])
    never.set()


def test_many_calls_share_the_places() -> None:
    lock, running, most = threading.Lock(), set[int](), list[int]()

    def call(number: int) -> int:
        with lock:
            running.add(number)
            most.append(len(running))
        with lock:
            running.remove(number)
        return number

    numbers = range(3 * MAX_AT_ONCE)
    assert together([lambda number=number: call(number) for number in numbers]) == list(numbers)  # type: ignore[misc]
    assert max(most) <= MAX_AT_ONCE
