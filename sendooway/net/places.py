"""Who is served now: bounded in all, for each source, and for those who have not logged in."""

import os
import threading
from collections import Counter

from sendooway.config import Configuration


class Full(Exception):
    """There is no place. The text is the keyword of the limit that is reached."""


class Place:
    """The place of one connection, which has to leave it once. `newcomer`: nobody has logged in there yet."""

    def __init__(self, places: "Places", source: str) -> None:
        self._places = places
        self.source = source
        self.newcomer = True

    def move(self, source: str) -> None:
        """Count it for this source from now on: behind a balancer, the client is known only now. Raises Full."""
        self._places.move(self, source)

    def logged_in(self) -> None:
        """Count it for a newcomer no longer."""
        self._places.welcome(self)

    def leave(self) -> None:
        self._places.leave(self)


class Places:
    """The places of one process, for all its threads.

    An attacker could fill all places with newcomers, who have not logged in. So from three tenths of
    `maxUnauthenticated` on, newcomers are turned away at random, the more of them there are the more often (OpenSSH's
    MaxStartups): a client that tries again gets in, while one that wants to keep all places has to win each draw.
    """

    def __init__(self, limits: Configuration) -> None:
        self._limits = limits
        self._changed = threading.Condition()
        self._taken: Counter[str] = Counter()
        self._newcomers: Counter[str] = Counter()

    def take(self, source: str) -> Place:
        """`source` is what `listener.source` says: empty for this machine, which has no limits of its own.

        Raises Full.
        """
        with self._changed:
            if self._taken.total() >= self._limits.max_sessions:
                raise Full("maxSessions")
            self._admit(source)
            self._enter(source)
            return Place(self, source)

    def move(self, place: Place, source: str) -> None:
        """A newcomer's place counts for this source instead. Raises Full; the place is left as any other."""
        if source == place.source:
            return
        with self._changed:
            self._exit(place.source)
            try:
                self._admit(source)
                place.source = source
            finally:
                self._enter(place.source)

    def are_scarce(self) -> bool:
        """Whether a newcomer from any source might be turned away now."""
        with self._changed:
            return self._taken.total() >= self._limits.max_sessions or self._newcomers.total() >= self._many

    def welcome(self, place: Place) -> None:
        """Somebody has logged in there."""
        with self._changed:
            if place.newcomer:
                place.newcomer = False
                _decrease(self._newcomers, place.source)

    def leave(self, place: Place) -> None:
        self.welcome(place)
        with self._changed:
            _decrease(self._taken, place.source)
            self._changed.notify_all()

    def wait_until_free(self) -> None:
        """Wait until everybody has left."""
        with self._changed:
            self._changed.wait_for(lambda: not self._taken)

    @property
    def _many(self) -> int:
        """The number of newcomers from which on some are turned away."""
        return max(1, self._limits.max_unauthenticated * 3 // 10)

    def _admit(self, source: str) -> None:
        """Raises Full if no newcomer from there gets a place now."""
        limits = self._limits
        newcomers = self._newcomers.total()
        if newcomers >= limits.max_unauthenticated or (source and self._draw() < self._odds(newcomers)):
            raise Full("maxUnauthenticated")
        if source and self._taken[source] >= limits.max_sessions_per_client:
            raise Full("maxSessionsPerClient")
        if source and self._newcomers[source] >= limits.max_unauthenticated_per_client:
            raise Full("maxUnauthenticated (a fifth of it for each client)")

    def _enter(self, source: str) -> None:
        self._taken[source] += 1
        self._newcomers[source] += 1

    def _exit(self, source: str) -> None:
        _decrease(self._taken, source)
        _decrease(self._newcomers, source)

    def _odds(self, newcomers: int) -> float:
        """The probability that one newcomer more is turned away: 0.3 where it begins, and rising to 1."""
        most, many = self._limits.max_unauthenticated, self._many
        return 0.0 if newcomers < many else 0.3 + 0.7 * (newcomers - many) / (most - many)

    @staticmethod
    def _draw() -> float:
        """A number from 0 to below 1."""
        return int.from_bytes(os.urandom(4), "big") / 2**32


def _decrease(counter: Counter[str], source: str) -> None:
    counter[source] -= 1
    if not counter[source]:
        del counter[source]
