"""Right passwords of a while ago (`authCache`), so that a back end need not prove them again.

What is kept is a hash with a key that only agents use; a new reading of the configuration has another key, and knows
nothing of what was before.
"""

import hmac
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from sendooway.privsep.watch import Watch

PROOF_OCTETS = 32
MAX_USERS = 1000

# A password that was changed, or a user who was removed, shows here.
_DATABASES = ("/etc/passwd", "/etc/shadow")


def proof(key: bytes, user: str, password: bytes) -> bytes:
    """PROOF_OCTETS that are the same only for the same name, as it was typed, and the same password."""
    name = user.encode("utf-8", "surrogateescape")
    return blake2b(len(name).to_bytes(4, "big") + name + password, key=key, digest_size=PROOF_OCTETS).digest()


@dataclass(frozen=True)
class _Entry:
    proof: bytes
    until: float


class Remembered:
    """Proofs of right passwords, by user name as it was typed. `clock` is monotonic, in seconds."""

    def __init__(self, databases: Sequence[str] = _DATABASES, clock: Callable[[], float] = time.monotonic) -> None:
        self._databases = Watch(databases)
        self._clock = clock
        self._entries: dict[str, _Entry] = {}  # the oldest first

    def remember(self, user: str, proof: bytes, seconds: float) -> None:
        """This has just been proved to be right."""
        self._forget_changed()
        self._entries.pop(user, None)
        if len(self._entries) >= MAX_USERS:
            del self._entries[next(iter(self._entries))]
        self._entries[user] = _Entry(proof, self._clock() + seconds)

    def knows(self, user: str, proof: bytes) -> bool:
        """Whether this is still known to be right."""
        self._forget_changed()
        entry = self._entries.get(user)
        if entry is not None and entry.until <= self._clock():
            self.forget(user)
            return False
        return entry is not None and hmac.compare_digest(entry.proof, proof)

    def forget(self, user: str) -> None:
        """Somebody has tried something else for this user."""
        self._entries.pop(user, None)

    def _forget_changed(self) -> None:
        if self._databases.changed():
            self._entries.clear()
