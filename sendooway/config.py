"""sendooway.conf: keywords, values, and what they mean. Interface first; the parser follows."""

from dataclasses import dataclass
from enum import Enum

from sendooway.accounts.account import Origin
from sendooway.secret import Secret


class Encryption(Enum):
    ALLOWED = "allowed"
    REQUIRED = "required"
    FORBIDDEN = "forbidden"


class EightBitMime(Enum):
    FORCE = "force"
    DISABLE = "disable"
    IGNORE = "ignore"


class Use(Enum):
    """When a mechanism is used at a smarthost."""

    IF_ADVERTISED = "ifAdvertised"
    ALWAYS_TRY = "alwaysTry"
    NEVER = "never"


class Backend(Enum):
    PAM = "PAM"
    NONE = "none"


@dataclass(frozen=True)
class Listen:
    """One `listen` line. `address` is a numeric address, empty for every one; `path` for a UNIX socket."""

    address: str = ""
    port: int = 0
    path: str = ""
    tls: bool = False


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
    smarthost_plain: Use = Use.IF_ADVERTISED
    smarthost_login: Use = Use.IF_ADVERTISED
    smarthost_cram_md5: Use = Use.IF_ADVERTISED


@dataclass(frozen=True)
class Configuration:
    """All of the configuration that holds no secret."""

    user_settings: UserSettings
    ssl_cert: str = ""
    ssl_key: str = ""
    mailer_encryption: Encryption | None = None  # None: required, except on loopback, UNIX sockets and pipes
    ext_8bit_mime: EightBitMime = EightBitMime.FORCE
    ext_message_size: int | None = 0  # None: no SIZE; 0: SIZE without limit; else octets
    auth_backend: Backend = Backend.PAM
    valid_users: tuple[str, ...] = ()  # names and %groups; empty: everyone
    user_include: str = ""
    listen: tuple[Listen, ...] = ()
    workers: int = 1
    run_as: str = ""  # empty: sendooway, else nobody with a warning
