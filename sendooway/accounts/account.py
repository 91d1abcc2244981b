"""What the rest of the program knows about an account: plain values, no behaviour."""

from dataclasses import dataclass, field
from enum import Enum

from sendooway.origin import Origin
from sendooway.secret import Secret


class Security(Enum):
    """How the connection to a smarthost is protected. The values are the words shown to users."""

    NONE = "none"
    STARTTLS = "starttls"  # RFC 3207
    SMTPS = "smtps"  # implicit TLS, RFC 8314

    @property
    def default_port(self) -> int:
        return {Security.NONE: 25, Security.STARTTLS: 587, Security.SMTPS: 465}[self]


@dataclass(frozen=True)
class FromCommand:
    """The first line that a program prints. `arguments` begin with the program; no shell sees them."""

    arguments: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True)
class FromFile:
    """The first line of a file. `path` is absolute, or begins with `~/`, which is the user's home folder."""

    path: str


@dataclass(frozen=True)
class FromNetrc:
    """What the netrc file at `path` (see FromFile) has for `login` at the first of `hosts` that it knows so."""

    hosts: tuple[str, ...]
    login: str
    path: str = "~/.netrc"


@dataclass(frozen=True)
class FromCredential:
    """A credential of the service, see systemd.exec(5). Only for accounts that the administrator's file defines."""

    name: str


# The password itself, or where the agent gets it from, as the user, when a login needs it.
Password = Secret | FromCommand | FromFile | FromNetrc | FromCredential


@dataclass(frozen=True)
class Credentials:
    """What logs in at a smarthost."""

    username: str
    password: Password


@dataclass(frozen=True)
class Account:
    """A smarthost with what is needed to log in there, for the identities that `patterns` match.

    A pattern is an address, `*@domain`, `*`, or `<>` for the null reverse-path. `credentials` is None where the
    account says that no login is needed (noAuth), or has no password because tickets log in (`gssapi`).

    `ca_file` is the absolute path of the file of certificates that are trusted for this smarthost, empty where those
    are that are trusted everywhere. `certificate_sha256` is of the one certificate that the smarthost may show, which
    then needs no other proof; empty: it has to prove its name. `ehlo_name` is what EHLO says there, empty for what it
    says everywhere.
    """

    patterns: tuple[str, ...]
    host: str
    port: int
    security: Security
    check_certificate: bool
    credentials: Credentials | None
    origin: Origin = field(compare=False)
    gssapi: bool = False
    ca_file: str = ""
    certificate_sha256: bytes = b""
    ehlo_name: str = ""

    @property
    def logs_in(self) -> bool:
        """Whether there is a login at the smarthost, with a password or a ticket."""
        return self.gssapi or self.credentials is not None


@dataclass(frozen=True)
class Unusable:
    """An account that a file names and that cannot serve. `reason` says what is missing or in the way, and what to do.

    A file may leave out a password for good reasons, so this is no error of the file: its other accounts serve.
    But a sender whom the patterns match is refused, instead of being served by an account that comes later.

    `origin` is the place that is to blame; `account` is what is known, to be shown and not to be used, and `username`
    the login that its credentials would have, empty where none is known. `lacks_login`: nothing is missing but that.
    """

    account: Account
    reason: str
    origin: Origin = field(compare=False)
    username: str = ""
    lacks_login: bool = False

    @property
    def patterns(self) -> tuple[str, ...]:
        return self.account.patterns


class AccountsError(Exception):
    """A file or mapping cannot be used. `reason` says why and what to do, and quotes nothing that stands there.

    `origin` has line 0 where the whole file is meant.
    """

    def __init__(self, origin: Origin, reason: str) -> None:
        super().__init__(f"{origin}: {reason}")
        self.origin = origin
        self.reason = reason


class NoAccountFile(AccountsError):
    """The file is not at all of the kind that was looked for. In a folder, it is skipped."""


class NoAccount(Exception):
    """No account serves the sender. `searched` are the files and mappings that were searched, in this order."""

    def __init__(self, searched: tuple[str, ...]) -> None:
        super().__init__("no account serves this sender")
        self.searched = searched
