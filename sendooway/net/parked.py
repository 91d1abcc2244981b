"""Conversations that are parked: in a pause, and without a thread."""

import contextlib
import os
import selectors
import threading
import time
from collections.abc import Callable
from functools import partial

from sendooway.log import Log
from sendooway.net.pause import Pause

_SHORT_SECONDS = 0.2  # to wait where there is no room for a thread


class Parked:
    """All parked conversations of a process.

    It belongs to the thread that polls its descriptor; other threads may call `accept` only.
    """

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
        """Resume those whose pause has ended, as its descriptor is readable."""
        for key, _ in self._selector.select(0):
            key.data()

    def accept(self, pause: Pause, resume: Callable[[], None]) -> bool:
        """Park a conversation; `resume`, which may raise RuntimeError where there is no room for a thread, is called at
        the end of its pause. False: the server stops, and the caller has to wait by itself."""
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
            time.sleep(_SHORT_SECONDS)
            return
        del self._pauses[descriptor]
        self._selector.unregister(descriptor)

    def seconds(self) -> float | None:
        """How long until the first deadline of a pause; None: nothing is parked."""
        return min((pause.seconds() for pause, _ in self._pauses.values()), default=None)

    def keep_time(self) -> None:
        """Resume those whose deadline has come."""
        for descriptor in [number for number, (pause, _) in self._pauses.items() if not pause.seconds()]:
            self._resume(descriptor)

    def close(self) -> None:
        """Resume all now, to wait by themselves, and park no more."""
        with self._lock:
            self._open = False
            self._call()
        self._take_in()
        while self._pauses:
            self._resume(next(iter(self._pauses)))
        self._selector.close()
        os.close(self._bell)
        os.close(self._ring)
