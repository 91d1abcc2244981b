"""The shape of a SASL mechanism (RFC 4422), both sides: octets in, octets out, no base64, no I/O.

A server side is a generator that yields a challenge, is sent the response, and returns what the client claims. A client
side yields responses and is sent challenges; its first yield is the initial response, or None where the server speaks
first. It never returns: whether the login succeeded is told by SMTP. Both raise SaslError for a message that does not
fit.
"""

from collections.abc import Generator
from dataclasses import dataclass

from sendooway.secret import Secret


@dataclass(frozen=True)
class PasswordLogin:
    """What a client claims with PLAIN or LOGIN: it is `authcid`, wants to act as `authzid` (empty: as itself)."""

    authcid: str
    authzid: str
    password: Secret


class SaslError(Exception):
    """The other side's message does not fit the mechanism. The text holds nothing of the message."""


PasswordServer = Generator[bytes, bytes, PasswordLogin]
Client = Generator[bytes | None, bytes, None]


def parse_name(octets: bytes) -> str:
    """A user name as text. Raises SaslError if it is not UTF-8 (RFC 4616, 2.)."""
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        raise SaslError("the user name is not UTF-8") from None
