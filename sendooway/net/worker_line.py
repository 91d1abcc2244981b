"""Which of the workers takes a new connection: of those that wait for one, the first in line.

The kernel wakes only that one (EPOLLEXCLUSIVE). So at low load one worker takes all, and a user's next mail finds the
connection to the smarthost that the last one has left there (`pool.py`); what comes while it is at work goes to the
next. A worker that has much to do goes to the end of the line by itself, and so leaves new connections to the others.
"""

import select
from collections.abc import Callable, Iterable
from time import monotonic, process_time
from types import TracebackType

# The share of a core from which on a process has much to do. Its threads get no more than one core together; as long as
# they take less than half of it, they hardly wait for each other.
MUCH = 0.4
_SHORTEST = 0.05  # seconds; what a process does within less says nothing


class WorkerLine:
    """This process's place in the line at each of the listening sockets `shared`. It also waits for the descriptors
    `own`, which are of no other process.

    `clock` is monotonic, `work` is the CPU time that this process has taken; both are in seconds. It is a context
    manager. Before leaving it, accept all connections that `wait` has told of: no other process was woken for them.
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
        """The descriptors that are readable; none after `seconds` (None: wait without end)."""
        return {descriptor for descriptor, _ in self._poll.poll(seconds)}

    def is_busy(self) -> bool:
        """Whether this process has had much to do lately."""
        now, worked = self._clock(), self._work()
        if now - self._since >= _SHORTEST:
            self._busy = worked - self._worked > MUCH * (now - self._since)
            self._since, self._worked = now, worked
        return self._busy

    def go_to_the_end(self) -> None:
        """Let every other worker that waits come first."""
        for descriptor in self._shared:
            self._poll.unregister(descriptor)
            self._enter(descriptor)

    def __enter__(self) -> "WorkerLine":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._poll.close()
