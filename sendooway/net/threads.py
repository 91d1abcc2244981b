"""Threads that are used again: it would cost more to start one for each session, and for each pause of it."""

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue

MAX_IDLE = 16
IDLE_SECONDS = 10.0

_Act = Callable[[], None]


class Threads:
    """A thread for each act, and up to `most_idle` that wait `idle_seconds` for another act before they end."""

    def __init__(self, most_idle: int = MAX_IDLE, idle_seconds: float = IDLE_SECONDS) -> None:
        self._most_idle = most_idle
        self._idle_seconds = idle_seconds
        self._lock = threading.Lock()
        self._idle: list[SimpleQueue[_Act | None]] = []  # the one that was used last at the end
        self._open = True

    def start(self, act: _Act) -> None:
        """Call `act`, which must not raise, in a thread. Raises RuntimeError if there is no room for one more."""
        with self._lock:
            inbox = self._idle.pop() if self._idle else None
        if inbox is None:
            inbox = SimpleQueue()
            threading.Thread(target=self._work, args=(inbox,)).start()
        inbox.put(act)

    def _work(self, inbox: "SimpleQueue[_Act | None]") -> None:
        act = inbox.get()
        while act is not None:
            act()
            act = None  # whatever belongs to it must not stay for as long as nothing else comes
            act = self._next(inbox)

    def _next(self, inbox: "SimpleQueue[_Act | None]") -> _Act | None:
        with self._lock:
            if not self._open or len(self._idle) >= self._most_idle:
                return None
            self._idle.append(inbox)
        try:
            return inbox.get(timeout=self._idle_seconds)
        except Empty:
            with self._lock:
                if inbox in self._idle:
                    self._idle.remove(inbox)
                    return None
            return inbox.get()  # it was chosen in that moment

    def close(self) -> None:
        """Idle threads end now, the others after their act."""
        with self._lock:
            self._open = False
            idle, self._idle = self._idle, []
        for inbox in idle:
            inbox.put(None)
