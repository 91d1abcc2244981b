"""What the rest of the program knows about an account: plain values, no behaviour."""

from dataclasses import dataclass, field
from enum import Enum

from sendooway.secret import Secret


class Security(Enum):
    """How the connection to a smarthost is protected. The values are the words shown to users."""

    NONE = "none"
    STARTTLS = "starttls"  # RFC 3207
    SMTPS = "smtps"  # implicit TLS, RFC 8314

    @property
    def default_port(self) -> int:
        return {Security.NONE: 25, Security.STARTTLS: 587, Security.SMTPS: 465}[self]


@dataclass(frozen=True, order=True)
class Origin:
    """The place in a file that says something, for messages: `FILE:LINE`."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Credentials:
    """What logs in at a smarthost."""

    username: str
    password: Secret


@dataclass(frozen=True)
class Account:
    """A smarthost with what is needed to log in there, for the identities that `patterns` match.

    A pattern is an address, `*@domain`, `*`, or `<>` for the null reverse-path. `credentials` is None where the
    account says that no login is needed (noAuth).
    """

    patterns: tuple[str, ...]
    host: str
    port: int
    security: Security
    check_certificate: bool
    credentials: Credentials | None
    origin: Origin = field(compare=False)
