"""Connections to smarthosts that are logged in and idle: the next mail of the same user through the same account takes
one instead of dialling, securing and logging in again.

To whom a connection may be given says the account's fingerprint, which the agent makes of the user, the account, its
credentials and the user's settings, with a key that no proxy knows: only the same fingerprint gets it. For all threads;
a connection is either in the pool or owned by one thread.
"""

import os
import select
import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from sendooway.smarthost import Smarthost

MOST_KEPT = 100  # in one proxy: each is a descriptor, and a place that somebody else's server holds for us
MOST_OF_AN_ACCOUNT = 8  # smarthosts allow one login some ten connections at a time
# Smarthosts end connections that have gone on for too long; one in a while costs next to nothing.
MOST_MAILS = 100
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
        self._watched, self._wake = os.pipe()
        self._thread: threading.Thread | None = None

    def take(self, fingerprint: bytes) -> Smarthost | None:
        """A connection of this account on which nothing has come since it was idle; None if there is none."""
        if not fingerprint:
            return None
        with self._lock:
            self._drop_useless()
            # The one that was used last is the least likely to be found closed.
            for kept in reversed(self._kept):
                if kept.fingerprint == fingerprint:
                    self._kept.remove(kept)
                    return kept.smarthost
        return None

    def holds(self, fingerprint: bytes) -> bool:
        """Whether `take` would have a connection of this account now."""
        with self._lock:
            self._drop_useless()
            return any(kept.fingerprint == fingerprint for kept in self._kept)

    def keep(self, fingerprint: bytes, smarthost: Smarthost) -> bool:
        """Take over a connection on which nothing is expected any more; False if it is not wanted and stays yours."""
        now = self._clock()
        too_old = smarthost.mails >= MOST_MAILS or now - smarthost.born >= LONGEST_LIFE
        with self._lock:
            if self._closed or not fingerprint or too_old:
                return False
            if sum(kept.fingerprint == fingerprint for kept in self._kept) >= MOST_OF_AN_ACCOUNT:
                return False
            if len(self._kept) >= MOST_KEPT:
                self._kept.pop(0).smarthost.quit()
            self._kept.append(_Kept(fingerprint, smarthost, now + self._seconds))
            if self._thread is None:
                # Only now: most tests, and a proxy that nobody uses, do without it.
                self._thread = threading.Thread(target=self._watch, name="pool", daemon=True)
                self._thread.start()
        self._look_again()
        return True

    def close(self) -> None:
        """Quit all connections, and keep none any more."""
        with self._lock:
            self._closed = True
            for kept in self._kept:
                kept.smarthost.quit()
            self._kept.clear()
        if self._thread is not None:
            self._look_again()
            self._thread.join()
        os.close(self._watched)
        os.close(self._wake)

    def _look_again(self) -> None:
        os.write(self._wake, b"!")

    def _watch(self) -> None:
        """Ends connections whose time is over, and those that the smarthost ends."""
        while True:
            poll = select.poll()
            poll.register(self._watched, select.POLLIN)
            with self._lock:
                if self._closed:
                    return
                self._drop_useless()
                for kept in self._kept:
                    poll.register(kept.smarthost.stream.transport.descriptors()[0], select.POLLIN)
                wait = self._kept[0].until - self._clock() if self._kept else None
            if any(descriptor == self._watched for descriptor, _ in poll.poll(wait and max(wait, 0) * 1000)):
                os.read(self._watched, 4096)

    def _drop_useless(self) -> None:
        now = self._clock()
        for kept in list(self._kept):
            if kept.until <= now:
                kept.smarthost.quit()
                self._kept.remove(kept)
            elif not kept.smarthost.is_silent():
                kept.smarthost.cut()
                self._kept.remove(kept)
