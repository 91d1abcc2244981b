"""What can be configured: the types and their defaults. How a file says it stands in `keywords`."""

from dataclasses import dataclass, field
from enum import Enum

from sendooway.loopback import is_loopback
from sendooway.origin import Origin
from sendooway.secret import Secret

# Each session is a thread, up to four descriptors and an agent: more is a misprint, or a case for several machines.
MAX_SESSIONS = 10_000

MAX_MAPPINGS = 1000

# RFC 5321, RFC 6409, RFC 8314. A table of our own, as /etc/services differs between systems and may be missing.
SERVICES = {"smtp": 25, "submission": 587, "submissions": 465, "smtps": 465}

# What clients can log in with, in the order in which it is offered (RFC 4752, RFC 4616; LOGIN is no standard).
GSSAPI = "GSSAPI"
MECHANISMS = (GSSAPI, "PLAIN", "LOGIN")


class Encryption(Enum):
    """Whether a client may or must use TLS before it logs in (`mailerEncryption`)."""

    ALLOWED = "allowed"
    REQUIRED = "required"
    FORBIDDEN = "forbidden"


class EightBitMime(Enum):
    """What becomes of an 8-bit message for a smarthost without 8BITMIME (`ext8BitMime`)."""

    FORCE = "force"  # it is refused
    DISABLE = "disable"  # it is sent all the same, and 8BITMIME is not offered to clients
    IGNORE = "ignore"  # it is sent all the same


class Use(Enum):
    """When a mechanism is used at a smarthost."""

    IF_ADVERTISED = "ifAdvertised"
    ALWAYS_TRY = "alwaysTry"
    NEVER = "never"


class Backend(Enum):
    """What checks passwords (`authBackend`)."""

    PAM = "PAM"
    LDAP = "LDAP"
    NONE = "none"


@dataclass(frozen=True)
class Listen:
    """A place to listen on: a `listen` line's, or that of a socket that is `inherited` from whoever has started us.

    It is a TCP port at a numeric `address`, empty for every address, or the `path` of a UNIX socket. `tls`: from the
    first octet.
    """

    address: str = ""
    port: int = 0
    path: str = ""
    tls: bool = False
    inherited: bool = False


@dataclass(frozen=True)
class Mapping:
    """One `smarthostMapping` line: `source` in lower case; `argument` may hold a password."""

    source: str
    argument: Secret
    origin: Origin


@dataclass(frozen=True)
class UserSettings:
    """What a user may redefine with `userInclude`."""

    localname: str
    clone_ehlo: bool = False
    add_received_field: bool = True
    timeout: int | None = None  # seconds; None: each wait has its own limit
    ssl_ca: str = ""  # empty: the system's store, else certifi's
    smarthost_gssapi: Use = Use.IF_ADVERTISED
    smarthost_plain: Use = Use.IF_ADVERTISED
    smarthost_login: Use = Use.IF_ADVERTISED
    smarthost_cram_md5: Use = Use.IF_ADVERTISED
    krb5_client_keytab: str = ""  # with %u and %h; empty: none but the system's
    guess_accounts: bool = False


@dataclass(frozen=True)
class Configuration:
    """All of the configuration that holds no secret."""

    user_settings: UserSettings
    ssl_cert: str = ""
    ssl_key: str = ""  # the file of ssl_cert, unless sslKey names another
    mailer_encryption: Encryption | None = None  # None: required, except on loopback, UNIX sockets and pipes
    ext_8bit_mime: EightBitMime = EightBitMime.FORCE
    ext_message_size: int | None = 0  # None: no SIZE; 0: SIZE without limit; else octets
    auth_mechanisms: tuple[str, ...] = MECHANISMS  # those that may be offered; see privsep/snapshot.py
    auth_backend: Backend = Backend.PAM
    auth_cache: int = 0  # seconds; 0: PAM is asked about each password
    valid_users: tuple[str, ...] = ()  # names and %groups; empty: everyone
    user_include: str = ""
    listen: tuple[Listen, ...] = ()
    proxy_trust: tuple[str, ...] = ()  # networks, as in 192.0.2.0/24, whose hosts begin with a PROXY header
    workers: int = 0  # 0: one for each core; see privsep/snapshot.py
    smarthost_idle: int = 30  # seconds; 0: connections to smarthosts end with their session
    dial_early: bool = False
    run_as: str = ""  # empty: sendooway, else nobody with a warning
    krb5_keytab: str = ""  # empty: the system's
    krb5_pam_account: bool | None = None  # None: yes where PAM is the back end
    krb5_constrained_delegation: bool = False
    ldap_auth_dn: str = ""
    ldap_uri: tuple[str, ...] = ()
    ldap_ssl_ca: str = ""  # empty: as user_settings.ssl_ca
    # Limits; what each is for, and why it has its number, stands in sendooway.conf(5).
    max_sessions: int = 300  # in one proxy
    max_sessions_per_client: int = 50  # in one proxy
    max_sessions_per_user: int = 20
    max_unauthenticated: int = 100
    max_login_checks: int = 10
    max_failed_logins: int = 5
    max_errors: int = 20
    max_recipients: int = 1000
    login_timeout: int = 120  # seconds
    idle_timeout: int = 1800  # seconds

    @property
    def max_unauthenticated_per_client(self) -> int:
        """A fifth, so that it takes five addresses to keep all others from logging in."""
        return max(1, self.max_unauthenticated // 5)


@dataclass(frozen=True)
class Parsed:
    """What one configuration file says.

    `warnings` are complete messages of one line each. `origins` tells where a keyword, in the spelling of the
    manual, has its value from (the first line of a repeatable one), for errors found later.
    """

    configuration: Configuration
    mappings: tuple[Mapping, ...]
    warnings: tuple[str, ...]
    origins: dict[str, Origin] = field(default_factory=dict)


class ConfigurationError(Exception):
    """A file cannot be used as it is. Its str is `FILE:LINE: keyword: reason and what would be right`.

    Without a line (`origin.line` 0: the file as a whole is meant) or a keyword (empty: the line has none that we
    know) these parts are left out.
    """

    def __init__(self, origin: Origin, keyword: str, reason: str) -> None:
        super().__init__(": ".join(part for part in (str(origin), keyword, reason) if part))
        self.origin = origin
        self.keyword = keyword
        self.reason = reason


_DEFAULT_MAPPINGS = (
    ("getmail", b"%h/.getmail/getmailrc"),
    ("fetchmail", b"%h/.fetchmailrc"),
)


def default_mappings() -> tuple[Mapping, ...]:
    """Where accounts are when the administrator's file has no `smarthostMapping`."""
    return tuple(
        Mapping(source, Secret(argument), Origin("default mapping", number))
        for number, (source, argument) in enumerate(_DEFAULT_MAPPINGS, 1)
    )


def login_possible(configuration: Configuration, listen: Listen) -> bool:
    """Can a client that connects to `listen` log in at all, as long as -S does not waive TLS?

    Not without a certificate where TLS is required: by `mailerEncryption = required`, or, when the keyword is
    absent, on all but loopback addresses and UNIX sockets.
    """
    if configuration.ssl_cert:
        return True
    if configuration.mailer_encryption is None:
        return bool(listen.path) or is_loopback(listen.address)
    return configuration.mailer_encryption is not Encryption.REQUIRED
