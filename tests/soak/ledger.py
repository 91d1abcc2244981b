"""What each side says became of each message, and whether the two stories fit.

1. A client that read 2yz after its message: the smarthost has all of it, unchanged, and has said so.
2. A smarthost that has all of a message: the client has said all of it.
3. No message is accepted twice.
"""

from collections import Counter
from dataclasses import dataclass, field
from hashlib import sha256


def digest(content: bytes) -> str:
    return sha256(content).hexdigest()


@dataclass
class Ledger:
    """Messages are named by their id. `broken` tells each promise that was broken, `counts` what happened how often."""

    broken: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    _finished: dict[str, str] = field(default_factory=dict)  # digests of what clients have said to the end
    _accepted: dict[str, str] = field(default_factory=dict)  # of what smarthosts have taken

    def break_(self, promise: str) -> None:
        self.broken.append(promise)
        print(f"BROKEN: {promise}", flush=True)

    def client_finishes(self, name: str, content: bytes) -> None:
        """It is about to say the final dot."""
        self._finished[name] = digest(content)

    def smarthost_completes(self, name: str, content: bytes, *, accepts: bool) -> None:
        """It has read the final dot, and is about to reply."""
        if self._finished.get(name) != digest(content):
            self.break_(f"{name}: the smarthost has what the client has not said ({len(content)} octets)")
        if accepts:
            if name in self._accepted:
                self.break_(f"{name}: accepted twice")
            self._accepted[name] = digest(content)

    def client_hears(self, name: str, code: int) -> None:
        """The reply to its message."""
        self.counts[f"messages answered {code // 100}yz"] += 1
        if code // 100 == 2 and name not in self._accepted:
            self.break_(f"{name}: answered {code}, and no smarthost has accepted it")
