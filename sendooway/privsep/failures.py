"""Failed logins, remembered: how long the next attempt at a user, or from an address, has to wait.

Who guesses does so from one address at many users, or from many addresses at one user: so both are counted. That alone
would let a stranger make a user wait again and again. So a user who has logged in from an address is known there, and
known users are counted apart: what strangers do does not concern them. And nobody waits longer than LONGEST_DELAY,
which is far less than the time to log in: no user can be locked out.

No clock, no I/O: all times are given, in seconds of the monotonic clock.
"""

from dataclasses import dataclass
from math import ceil

LONGEST_DELAY = 30.0  # a person still waits for it, and so do mail programs; the time to log in is four times this
FIRST_DELAY = 2.0  # seconds; doubled by each failure more
FORGIVE_SECONDS = 600.0  # one failure is forgotten in so much time

# Beyond these, what has the fewest failures is forgotten first. A record is some 300 octets.
MAX_RECORDS = 4096
MAX_KNOWN_USERS = 4096
MAX_ADDRESSES_OF_A_USER = 8  # where one is known: at home, at work, on the road


@dataclass
class _Record:
    """How many failures there were at the time `at`."""

    failures: float = 0.0
    at: float = 0.0

    def left(self, now: float) -> float:
        """How many of them count now."""
        return max(0.0, self.failures - (now - self.at) / FORGIVE_SECONDS)

    def add(self, now: float, number: int, most: float) -> None:
        self.failures = min(most, max(0.0, self.left(now) + number))
        self.at = now


class _Table:
    """Records by name, bounded."""

    def __init__(self) -> None:
        self._records: dict[str, _Record] = {}

    def left(self, name: str, now: float) -> float:
        record = self._records.get(name)
        return record.left(now) if record is not None else 0.0

    def add(self, name: str, now: float, number: int, most: float) -> None:
        if name not in self._records and len(self._records) >= MAX_RECORDS:
            self._forget(now)
        self._records.setdefault(name, _Record()).add(now, number, most)

    def _forget(self, now: float) -> None:
        """A quarter of all at once: who fills the table with names does not make each of them cost a search."""
        ranked = sorted(self._records, key=lambda name: self._records[name].left(now), reverse=True)
        self._records = {name: self._records[name] for name in ranked[: MAX_RECORDS * 3 // 4]}


class Failures:
    """`source` is the address that an attempt comes from, as `net.listener.source` names it: empty for this machine,
    where one program speaks for many, and nobody is to wait for others' mistakes. `user` is what was typed, or proved;
    its case does not matter. `free` is how many failures cost nothing yet."""

    def __init__(self) -> None:
        self._sources = _Table()
        self._users = _Table()
        self._known: dict[str, dict[str, _Record]] = {}  # by user, by source; who was here last stands last

    def delay(self, source: str, user: str, now: float, free: int) -> float:
        """How many seconds an attempt that begins now has to wait."""
        user = user.casefold()
        known = self._known.get(user, {}).get(source)
        if known is not None:
            failures = known.left(now)
        else:
            failures = max(self._users.left(user, now), self._sources.left(source, now) if source else 0.0)
        beyond = ceil(failures) - free
        return 0.0 if beyond < 0 else min(LONGEST_DELAY, FIRST_DELAY * 2.0**beyond)

    def count(self, source: str, user: str, now: float, free: int) -> None:
        """An attempt begins, and is a failure until more is known: those beside it at the same time see it, too."""
        self._add(source, user.casefold(), now, 1, free)

    def take_back(self, source: str, user: str, now: float, free: int) -> None:
        """The attempt was no failure: nobody can tell whether the password was right."""
        self._add(source, user.casefold(), now, -1, free)

    def passed(self, source: str, user: str, now: float, free: int) -> None:
        """The attempt was granted: this user is known there now; what was counted for both together is forgotten."""
        self.take_back(source, user, now, free)
        user = user.casefold()
        sources = self._known.pop(user, {})
        sources.pop(source, None)
        sources[source] = _Record()
        while len(sources) > MAX_ADDRESSES_OF_A_USER:
            del sources[next(iter(sources))]
        self._known[user] = sources
        while len(self._known) > MAX_KNOWN_USERS:
            del self._known[next(iter(self._known))]

    def _add(self, source: str, user: str, now: float, number: int, free: int) -> None:
        most = free + 5.0  # by then the delay has its full length; more would only take longer to be forgiven
        known = self._known.get(user, {}).get(source)
        if known is not None:
            known.add(now, number, most)
            return
        self._users.add(user, now, number, most)
        if source:
            self._sources.add(source, now, number, most)
