"""Where an LDAP server is: `ldap://HOST[:PORT]` or `ldaps://HOST[:PORT]` (RFC 4516, without anything behind that)."""

import re
from dataclasses import dataclass

from sendooway import loopback

# A name, an IPv4 address, or an IPv6 address in brackets.
_URI = r"(ldaps?)://(?:([A-Za-z0-9._-]{1,253})|\[([0-9A-Fa-f:.]{2,45})\])(?::([0-9]{1,5}))?/?"

_WRONG = "is not ldap://HOST:PORT or ldaps://HOST:PORT"


@dataclass(frozen=True)
class Server:
    """An LDAP server; its str is the URI. `tls`: from the first octet."""

    host: str
    port: int
    tls: bool

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'ldaps' if self.tls else 'ldap'}://{host}:{self.port}"

    @property
    def is_here(self) -> bool:
        """What is said to it crosses no network, and needs no TLS."""
        return loopback.is_here(self.host)


def parse(uri: str) -> Server:
    """Raises ValueError, with a predicate that says what would be right, if it is none."""
    found = re.fullmatch(_URI, uri, re.IGNORECASE)
    if not found:
        raise ValueError(_WRONG)
    tls = found[1].lower() == "ldaps"
    port = int(found[4]) if found[4] else 636 if tls else 389
    if not 1 <= port <= 65535:
        raise ValueError(_WRONG)
    return Server(found[2] or found[3], port, tls)
