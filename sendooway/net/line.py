"""Which of the workers takes a new connection: of those that wait for one, the first in line.

The kernel wakes only that one (EPOLLEXCLUSIVE). So at low load one worker takes all, and a user's next mail finds the
connection to the smarthost that the last one has left there (`pool.py`); what comes while it is at work goes to the
next. Who has much to do goes to the end of the line by itself, and leaves what comes to the others, if they can.
"""

import select
from collections.abc import Callable, Iterable
from time import monotonic, process_time
from types import TracebackType

# The share of a core from which on a process has much to do. Its threads get no more than one core together; as long as
# they take less than half of it, they hardly wait for each other.
MUCH = 0.4
_SHORTEST = 0.05  # seconds; what a process does within less says nothing


class Line:
    """This process's place in the line for each of the listening sockets `shared`, and in the wait for its own
    descriptors. `clock` and `work`, the time of all processors that this process has taken, are in seconds.

    It is a context manager. Who leaves the line takes every connection that `wait` has told before, since nobody else
    was woken for it.
    """

    def __init__(
        self,
        shared: Iterable[int],
        own: Iterable[int],
        clock: Callable[[], float] = monotonic,
        work: Callable[[], float] = process_time,
    ) -> None:
        self._shared = tuple(shared)
        self._clock = clock
        self._work = work
        self._since, self._worked = clock(), work()
        self._busy = False
        self._poll = select.epoll()
        for descriptor in own:
            self._poll.register(descriptor, select.EPOLLIN)
        for descriptor in self._shared:
            self._enter(descriptor)

    def _enter(self, descriptor: int) -> None:
        self._poll.register(descriptor, select.EPOLLIN | select.EPOLLEXCLUSIVE)

    def wait(self, seconds: float | None) -> set[int]:
        """The descriptors that are readable; none after so many seconds, None being without end."""
        return {descriptor for descriptor, _ in self._poll.poll(seconds)}

    def is_busy(self) -> bool:
        """Whether this process has had much to do lately."""
        now, worked = self._clock(), self._work()
        if now - self._since >= _SHORTEST:
            self._busy = worked - self._worked > MUCH * (now - self._since)
            self._since, self._worked = now, worked
        return self._busy

    def go_to_the_end(self) -> None:
        for descriptor in self._shared:
            self._poll.unregister(descriptor)
            self._enter(descriptor)

    def __enter__(self) -> "Line":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._poll.close()
