import threading
import weakref
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from servers.processes import wait_until
from shortage import no_threads

from sendooway.net.threads import Threads


class Conversation:
    """Of which it can be told where it was held, and whether anybody still knows of it."""

    def __init__(self, note: Callable[[int], None]) -> None:
        self._note = note

    def hold(self) -> None:
        self._note(threading.get_ident())


@pytest.fixture(autouse=True)
def before() -> Iterator[int]:
    """How many threads there are without those of the test, which end with it."""
    number = threading.active_count()
    yield number
    wait_until(lambda: threading.active_count() <= number, "the end of all threads of this test")


def idle(threads: Threads) -> int:
    return len(threads._idle)


def hold(threads: Threads, number: int) -> set[int]:
    """So many conversations at the same time. Returns their threads."""
    gate = threading.Barrier(number + 1)
    found: list[int] = []

    def act() -> None:
        found.append(threading.get_ident())
        gate.wait(60)

    for _ in range(number):
        threads.start(act)
    gate.wait(60)
    return set(found)


def wait_for(gate: threading.Event) -> None:
    gate.wait(60)


def test_a_thread_that_has_nothing_to_do_any_more_is_used_again() -> None:
    threads = Threads()
    first = hold(threads, 3)
    wait_until(lambda: idle(threads) == 3, "three idle threads")
    assert hold(threads, 3) == first
    threads.close()


def test_nothing_waits_for_a_thread_that_is_at_work() -> None:
    threads = Threads()
    assert len(hold(threads, 20)) == 20
    threads.close()


def test_no_more_threads_are_idle_than_is_said(before: int) -> None:
    threads = Threads(most_idle=2)
    hold(threads, 10)
    wait_until(lambda: threading.active_count() <= before + 2, "the end of all but two")
    assert idle(threads) == 2
    threads.close()


def test_a_thread_that_has_been_idle_for_long_ends(before: int) -> None:
    threads = Threads(idle_seconds=0.01)
    hold(threads, 3)
    wait_until(lambda: threading.active_count() <= before, "the end of all")
    assert not idle(threads)
    assert len(hold(threads, 2)) == 2
    threads.close()


def test_what_a_thread_is_given_while_it_ends_is_done() -> None:
    threads = Threads(idle_seconds=0)
    for _ in range(300):
        hold(threads, 1)
    threads.close()


def test_at_the_end_no_thread_is_left() -> None:
    threads = Threads()
    gate = threading.Event()
    hold(threads, 3)
    wait_until(lambda: idle(threads) == 3, "three idle threads")
    threads.start(partial(wait_for, gate))
    threads.close()
    gate.set()
    # Which is waited for above.


def test_an_idle_thread_keeps_nothing_of_what_it_has_done() -> None:
    threads = Threads()
    conversation = Conversation(lambda _: None)
    known = weakref.ref(conversation)
    threads.start(conversation.hold)
    del conversation
    wait_until(lambda: known() is None, "that nobody knows of the conversation any more")
    threads.close()


def test_where_there_is_no_room_for_a_thread_the_caller_hears_of_it() -> None:
    threads = Threads()
    with no_threads(), pytest.raises(RuntimeError, match="can't start new thread"):
        threads.start(lambda: None)
    threads.close()
