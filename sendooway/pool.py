"""Connections to smarthosts that are logged in and idle: the next mail of the same user through the same account takes
one instead of dialling, securing and logging in again.

A connection is given only to a session whose account has the same fingerprint. The agent makes this of the user, the
account, its credentials and the user's settings, with a key that no proxy knows. The pool is for all threads; a
connection is either in it or owned by one thread.
"""

import os
import select
import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from sendooway.smarthost import Smarthost

MAX_KEPT = 100  # in one proxy: each is a descriptor, and a place that somebody else's server holds for us
MAX_OF_AN_ACCOUNT = 8  # smarthosts allow one login some ten connections at a time
# Smarthosts end connections that have gone on for too long. A new one now and then costs next to nothing.
MAX_MAILS = 100
LONGEST_LIFE = 600.0  # seconds


@dataclass(eq=False)
class _Kept:
    fingerprint: bytes
    smarthost: Smarthost
    until: float


class Pool:
    """Keeps connections idle for at most `seconds`; 0: none at all. `clock` is monotonic, in seconds."""

    def __init__(self, seconds: float, clock: Callable[[], float] = monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: list[_Kept] = []  # the one that waits longest first
        self._closed = seconds <= 0
        self._readable = select.epoll()  # takes note of connections while a thread waits with it
        self._stop = os.eventfd(0)
        self._readable.register(self._stop, select.EPOLLIN)
        self._thread: threading.Thread | None = None

    def take(self, fingerprint: bytes) -> Smarthost | None:
        """A connection of this account on which nothing has come since it was idle; None if there is none."""
        if not fingerprint:
            return None
        with self._lock:
            kept = self._newest(fingerprint)
            if kept is None:
                return None
            self._kept.remove(kept)
            self._readable.unregister(_descriptor(kept))
            return kept.smarthost

    def holds(self, fingerprint: bytes) -> bool:
        """Whether `take` would have a connection of this account now."""
        with self._lock:
            return self._newest(fingerprint) is not None

    def keep(self, fingerprint: bytes, smarthost: Smarthost) -> bool:
        """Take over a connection on which no reply is expected any more. False: it is not wanted, and stays the
        caller's."""
        now = self._clock()
        too_old = smarthost.mails >= MAX_MAILS or now - smarthost.born >= LONGEST_LIFE
        with self._lock:
            if self._closed or not fingerprint or too_old or not self._begin_to_watch():
                return False
            if sum(kept.fingerprint == fingerprint for kept in self._kept) >= MAX_OF_AN_ACCOUNT:
                return False
            if len(self._kept) >= MAX_KEPT:
                self._kept.pop(0).smarthost.quit()
            kept = _Kept(fingerprint, smarthost, now + self._seconds)
            self._kept.append(kept)
            self._readable.register(_descriptor(kept), select.EPOLLIN)
        return True

    def _begin_to_watch(self) -> bool:
        """Start the thread that ends what is kept, if there is none. False: the system has no room for it now."""
        if self._thread is None:
            # Only now: most tests, and a proxy that nobody uses, do without it.
            thread = threading.Thread(target=self._watch, name="pool", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                return False
            self._thread = thread
        return True

    def close(self) -> None:
        """Quit all connections, and keep none any more."""
        with self._lock:
            self._closed = True
            for kept in self._kept:
                kept.smarthost.quit()
            self._kept.clear()
        os.eventfd_write(self._stop, 1)
        if self._thread is not None:
            self._thread.join()
        self._readable.close()
        os.close(self._stop)

    def _watch(self) -> None:
        """Ends connections whose time is over, and those that the smarthost ends."""
        while True:
            with self._lock:
                if self._closed:
                    return
                self._drop_old()
                for kept in list(self._kept):
                    self._drop_if_useless(kept)
                # What is kept from now on is over later than this, so that it need not wake this thread.
                wait = self._kept[0].until - self._clock() if self._kept else self._seconds
            self._readable.poll(max(wait, 0))

    def _newest(self, fingerprint: bytes) -> _Kept | None:
        """The one that was used last: it is the least likely to be found closed."""
        self._drop_old()
        for kept in reversed(self._kept):
            if kept.fingerprint == fingerprint and not self._drop_if_useless(kept):
                return kept
        return None

    def _drop_old(self) -> None:
        now = self._clock()
        while self._kept and self._kept[0].until <= now:
            self._kept.pop(0).smarthost.quit()

    def _drop_if_useless(self, kept: _Kept) -> bool:
        useless = not kept.smarthost.is_silent()
        if useless:
            self._kept.remove(kept)
            kept.smarthost.cut()
        return useless


def _descriptor(kept: _Kept) -> int:
    return kept.smarthost.stream.transport.descriptors()[0]
