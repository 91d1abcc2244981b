"""Conversations in a pause, which have no thread."""

import contextlib
import os
import select
import selectors
import threading
from collections.abc import Callable
from functools import partial

from sendooway.log import Log
from sendooway.net.pause import Pause

_SHORT = 200  # milliseconds to wait where there is no room for a thread


class Waiting:
    """Belongs to the thread that waits for its descriptor; only `accept` is for others, too."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._selector = selectors.EpollSelector()
        self._pauses: dict[int, tuple[Pause, Callable[[], None]]] = {}
        self._lock = threading.Lock()
        self._open = True
        self._arrived: list[tuple[Pause, Callable[[], None]]] = []
        self._bell, self._ring = os.pipe()
        os.set_blocking(self._ring, False)
        self._selector.register(self._bell, selectors.EVENT_READ, self._take_in)

    def fileno(self) -> int:
        """Readable when `look` has something to do."""
        return self._selector.fileno()

    def look(self) -> None:
        for key, _ in self._selector.select(0):
            key.data()

    def accept(self, pause: Pause, resume: Callable[[], None]) -> bool:
        """`resume` is called at the end of the pause. False: the server stops, and nobody will look after it here."""
        with self._lock:
            if self._open:
                self._arrived.append((pause, resume))
                self._call()
            return self._open

    def _call(self) -> None:
        with contextlib.suppress(BlockingIOError):  # then it rings already
            os.write(self._ring, b"!")

    def _take_in(self) -> None:
        os.read(self._bell, 4096)
        with self._lock:
            arrived, self._arrived = self._arrived, []
        for pause, resume in arrived:
            self._pauses[pause.descriptor] = (pause, resume)
            self._selector.register(pause.descriptor, selectors.EVENT_READ, partial(self._resume, pause.descriptor))

    def _resume(self, descriptor: int) -> None:
        try:
            self._pauses[descriptor][1]()
        except RuntimeError:
            # The system has no room for one more thread now: it is tried again.
            self._log.error("no-thread")
            select.poll().poll(_SHORT)
            return
        del self._pauses[descriptor]
        self._selector.unregister(descriptor)

    def seconds(self) -> float | None:
        """Until a pause ends by itself; None: there is none."""
        return min((pause.seconds() for pause, _ in self._pauses.values()), default=None)

    def keep_time(self) -> None:
        for descriptor in [number for number, (pause, _) in self._pauses.items() if not pause.seconds()]:
            self._resume(descriptor)

    def close(self) -> None:
        """All go on now, and wait by themselves."""
        with self._lock:
            self._open = False
            self._call()
        self._take_in()
        while self._pauses:
            self._resume(next(iter(self._pauses)))
        self._selector.close()
        os.close(self._bell)
        os.close(self._ring)
