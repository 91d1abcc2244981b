"""sendooway.conf: keywords, values, and what they mean.

The format: one `keyword = value` a line. `#` starts a comment anywhere, also within a word, so no value can hold
one. Blanks and tabs at line starts, line ends and around `=` are free. Keywords and enumerations ignore case. There
are no quotes. An empty value of a string means its default.

What a file may say stands in one table, `_KEYWORDS`, at the end of the readers of single values: a new keyword is one
row there. No file is touched here; `config_file.py` does that.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum

from sendooway import assignment
from sendooway.accounts.account import Origin
from sendooway.secret import Secret

LINE_LIMIT = 4096  # characters, comments included
MAPPINGS_LIMIT = 1000
WORKERS_LIMIT = 64
# Each session is a thread, up to four descriptors and an agent: more is a misprint, or a case for several machines.
SESSIONS_LIMIT = 10_000
# What fits in the kernel's sun_path with its NUL, see unix(7).
_SOCKET_PATH_LIMIT = 107
# Beyond this, settimeout() overflows and the SIZE of RFC 1870 3. (20 digits) does not matter any more.
_SECONDS_LIMIT = 2**31 - 1
_OCTETS_LIMIT = 2**63 - 1

# RFC 5321, RFC 6409, RFC 8314. A table of our own, as /etc/services differs between systems and may be missing.
SERVICES = {"smtp": 25, "submission": 587, "submissions": 465, "smtps": 465}
# Compiled at first use, which a start with a plain configuration never comes to.
_CONTROL = r"[\x00-\x08\x0a-\x1f\x7f-\x9f]"
_LOCALNAME = r"[A-Za-z0-9._-]{1,255}|\[[A-Za-z0-9.:-]{1,253}\]"


# What clients can log in with, in the order in which it is offered (RFC 4752, RFC 4616; LOGIN is no standard).
GSSAPI = "GSSAPI"
MECHANISMS = (GSSAPI, "PLAIN", "LOGIN")


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
    LDAP = "LDAP"
    NONE = "none"


@dataclass(frozen=True)
class Listen:
    """One `listen` line. `address` is a numeric address, empty for every one; `path` for a UNIX socket.

    Or a socket that is `inherited` of who started us.
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
    workers: int = 1
    smarthost_idle: int = 30  # seconds; 0: connections to smarthosts end with their session
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
        super().__init__(_message(origin, keyword, reason))
        self.origin = origin
        self.keyword = keyword
        self.reason = reason


def _message(origin: Origin, keyword: str, text: str) -> str:
    return ": ".join(part for part in (str(origin), keyword, text) if part)


# Readers of a single value: text without comment and surrounding blanks in, out what the dataclasses above hold. They
# raise ValueError with a predicate that fits behind the value and says what would be right: "is not yes or no".


def _one_of(words: type[Enum]) -> Callable[[str], Enum]:
    """The reader of an enumeration whose values are the words of the manual."""
    members = {str(member.value).lower(): member for member in words}

    def read_word(value: str) -> Enum:
        try:
            return members[value.lower()]
        except KeyError:
            raise ValueError("is not " + _either([str(member.value) for member in words])) from None

    return read_word


def _either(words: list[str]) -> str:
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _yes_or_no(value: str) -> bool:
    match value.lower():
        case "yes":
            return True
        case "no":
            return False
        case _:
            raise ValueError("is not yes or no")


def _number(value: str, least: int, most: int) -> int:
    # isdecimal() alone is true for digits of all scripts.
    if not (value.isascii() and value.isdecimal() and least <= int(value) <= most):
        raise ValueError(f"is not a number from {least} to {most}")
    return int(value)


def _seconds(value: str) -> int:
    return _number(value, 1, _SECONDS_LIMIT)


def _from_one_to(most: int) -> Callable[[str], int]:
    """The reader of a number that has to be at least 1."""
    return lambda value: _number(value, 1, most)


def _seconds_or_none(value: str) -> int:
    return _number(value, 0, _SECONDS_LIMIT)


def _size(value: str) -> int | None:
    if value.lower() == "disable":
        return None
    try:
        return _number(value, 0, _OCTETS_LIMIT)
    except ValueError:
        raise ValueError("is not `disable` or a number of octets (0: no limit)") from None


def _mechanisms(value: str) -> tuple[str, ...]:
    wanted = {word.upper() for word in re.split(r"[ \t,]+", value)}
    if not wanted <= set(MECHANISMS):
        raise ValueError(f"is not a list of {_either(list(MECHANISMS))} apart by blanks")
    return tuple(mechanism for mechanism in MECHANISMS if mechanism in wanted)


def _keytab(value: str) -> str:
    path = value.removeprefix("FILE:")
    if not path.startswith("/"):
        raise ValueError("is not the absolute path of a keytab, as in /etc/krb5.keytab")
    return path


def _text(value: str) -> str:
    return value


def _domain(value: str) -> str:
    # It becomes part of the greeting, of EHLO and of Received, where a blank would end it.
    if not re.fullmatch(_LOCALNAME, value):
        raise ValueError("is not a host name in ASCII, as in mail.example.org")
    return value


def _word(value: str) -> str:
    if " " in value or "\t" in value:
        raise ValueError("is not one name; no name has blanks in it")
    return value


def _template(value: str) -> str:
    if re.sub("%[uh%]", "", value).count("%"):
        raise ValueError("has a `%` that is not part of %u (user name), %h (home folder) or %%")
    return value


def _user_dn(value: str) -> str:
    # Without %u, one entry's password would open every account.
    signs = re.sub("%[u%]", "", value).count("%")
    if "=" not in value or "%u" not in value.replace("%%", "") or signs or not value.isprintable():
        raise ValueError("is not a DN with the user name in it, as in uid=%u,ou=people,dc=example,dc=org")
    return value


def _uris(value: str) -> tuple[str, ...]:
    from sendooway.ldap import uri

    uris = tuple(value.split())
    try:
        for text in uris:
            uri.parse(text)
    except ValueError:
        raise ValueError("is not a list of ldap://HOST:PORT or ldaps://HOST:PORT apart by blanks") from None
    return uris


def _permitted(value: str) -> tuple[str, ...]:
    if value == "%":
        raise ValueError("names no group; %staff would be the members of the group staff")
    return (_word(value),)


def parse_port(value: str) -> int:
    """The number of a TCP port to listen on: itself, or one of smtp, submission, submissions, smtps.

    Raises ValueError, with a predicate that says what would be right, for all else.
    """
    if value.lower() in SERVICES:
        return SERVICES[value.lower()]
    try:
        return _number(value, 1, 65535)
    except ValueError:
        raise ValueError(f"is not a port: a number from 1 to 65535, {_either(list(SERVICES))}") from None


def _listen(value: str) -> tuple[Listen, ...]:
    words = value.split()
    tls = len(words) > 1 and words[-1].lower() == "tls"
    if len(words) != 1 + tls:
        raise ValueError("is not ADDRESS:PORT or unix:PATH, with or without ` tls` behind it")
    if words[0][:5].lower() == "unix:":
        path = words[0][5:]
        if not path.startswith("/") or len(path.encode("utf-8", "surrogateescape")) > _SOCKET_PATH_LIMIT:
            raise ValueError(f"does not name an absolute path of at most {_SOCKET_PATH_LIMIT} octets")
        return (Listen(path=path, tls=tls),)
    host, _, service = words[0].rpartition(":")
    port = parse_port(service)
    return tuple(Listen(address, port, tls=tls) for address in _addresses(host))


def _addresses(host: str) -> tuple[str, ...]:
    """The numeric addresses that `*`, `localhost`, an IPv4 address or an IPv6 address in brackets stands for."""
    if host == "*":
        return ("",)
    if host.lower() == "localhost":
        return ("127.0.0.1", "::1")
    import ipaddress  # a millisecond that a start without `listen` saves

    try:
        if host.startswith("[") and host.endswith("]"):
            return (str(ipaddress.IPv6Address(host[1:-1])),)
        return (str(ipaddress.IPv4Address(host)),)
    except ValueError:
        raise ValueError(
            "has no address we know before the port: 192.0.2.1, [2001:db8::1], localhost or * would be right"
        ) from None


def _networks(value: str) -> tuple[str, ...]:
    return tuple(map(_network, value.split()))


def _network(word: str) -> str:
    """An address is the network of that one host."""
    import ipaddress

    address, slash, length = word.partition("/")
    try:
        # Masks with dots and zones, which ip_network takes, are more than anybody needs to understand.
        if "%" in address or (slash and not (length.isascii() and length.isdecimal())):
            raise ValueError
        network = ipaddress.ip_network(word, strict=False)
    except ValueError:
        raise ValueError(
            f"has {word[:60]!r} in it, no address or network; 192.0.2.1 2001:db8::/64 would be right"
        ) from None
    if isinstance(network.network_address, ipaddress.IPv6Address) and network.network_address.ipv4_mapped:
        raise ValueError(
            f"has {word[:60]!r} in it; {network.network_address.ipv4_mapped} is an IPv4 address, write it so"
        )
    if network.prefixlen == 0:
        raise ValueError(f"has {word[:60]!r} in it, which is everybody; only balancers may be believed")
    if slash and ipaddress.ip_address(address) != network.network_address:
        raise ValueError(f"has {word[:60]!r} in it, an address within a network; {network} or {address} would be right")
    return str(network)


def _mapping(value: str) -> tuple[tuple[str, Secret], ...]:
    source, _, argument = (part.strip() for part in value.partition(":"))
    if not (source.isascii() and source.isalnum() and argument):
        raise ValueError("is not SOURCE:ARGUMENT, as in getmail:%h/.getmail/getmailrc")
    return ((source.lower(), Secret(argument.encode("utf-8", "surrogateescape"))),)


class _Empty(Enum):
    """What a keyword without a value means."""

    WRONG = "an error"
    DEFAULT = "as if the line were not there, nor an earlier one"


@dataclass(frozen=True)
class _Keyword:
    """One row of the table: how a keyword is spelt, read, kept, and who may set it.

    `target` is the field of UserSettings where `user` is true (the user may set it too), else of Configuration. A
    `repeatable` one reads its value into a tuple and joins those of all its lines.
    """

    name: str
    target: str
    read: Callable[[str], object]
    empty: _Empty = _Empty.WRONG
    user: bool = False
    repeatable: bool = False


_MAPPING = _Keyword("smarthostMapping", "mappings", _mapping, _Empty.DEFAULT, user=True, repeatable=True)

_KEYWORDS = {
    row.name.lower(): row
    for row in (
        _Keyword("localname", "localname", _domain, _Empty.DEFAULT, user=True),
        _Keyword("cloneEhlo", "clone_ehlo", _yes_or_no, user=True),
        _Keyword("addReceivedField", "add_received_field", _yes_or_no, user=True),
        _Keyword("timeout", "timeout", _seconds, user=True),
        _Keyword("guessAccounts", "guess_accounts", _yes_or_no, user=True),
        _Keyword("sslCA", "ssl_ca", _text, _Empty.DEFAULT, user=True),
        _Keyword("smarthostPlain", "smarthost_plain", _one_of(Use), user=True),
        _Keyword("smarthostLogin", "smarthost_login", _one_of(Use), user=True),
        _Keyword("smarthostCramMD5", "smarthost_cram_md5", _one_of(Use), user=True),
        _Keyword("smarthostGssapi", "smarthost_gssapi", _one_of(Use), user=True),
        _Keyword("krb5ClientKeytab", "krb5_client_keytab", _template, _Empty.DEFAULT, user=True),
        _MAPPING,
        _Keyword("sslCert", "ssl_cert", _text, _Empty.DEFAULT),
        _Keyword("sslKey", "ssl_key", _text, _Empty.DEFAULT),
        _Keyword("mailerEncryption", "mailer_encryption", _one_of(Encryption)),
        _Keyword("ext8BitMime", "ext_8bit_mime", _one_of(EightBitMime)),
        _Keyword("extMessageSize", "ext_message_size", _size),
        _Keyword("authBackend", "auth_backend", _one_of(Backend)),
        _Keyword("authCache", "auth_cache", _seconds_or_none),
        _Keyword("authMechanisms", "auth_mechanisms", _mechanisms, _Empty.DEFAULT),
        _Keyword("krb5Keytab", "krb5_keytab", _keytab, _Empty.DEFAULT),
        _Keyword("krb5PamAccount", "krb5_pam_account", _yes_or_no),
        _Keyword("krb5ConstrainedDelegation", "krb5_constrained_delegation", _yes_or_no),
        _Keyword("validUser", "valid_users", _permitted, _Empty.DEFAULT, repeatable=True),
        _Keyword("userInclude", "user_include", _template, _Empty.DEFAULT),
        _Keyword("listen", "listen", _listen, repeatable=True),
        _Keyword("proxyTrust", "proxy_trust", _networks, _Empty.DEFAULT, repeatable=True),
        _Keyword("smarthostIdle", "smarthost_idle", _seconds_or_none),
        _Keyword("workers", "workers", _from_one_to(WORKERS_LIMIT)),
        _Keyword("runAs", "run_as", _word, _Empty.DEFAULT),
        _Keyword("ldapAuthDN", "ldap_auth_dn", _user_dn, _Empty.DEFAULT),
        _Keyword("ldapUri", "ldap_uri", _uris, _Empty.DEFAULT),
        _Keyword("ldapSSLca", "ldap_ssl_ca", _text, _Empty.DEFAULT),
        _Keyword("maxSessions", "max_sessions", _from_one_to(SESSIONS_LIMIT)),
        _Keyword("maxSessionsPerClient", "max_sessions_per_client", _from_one_to(SESSIONS_LIMIT)),
        _Keyword("maxSessionsPerUser", "max_sessions_per_user", _from_one_to(SESSIONS_LIMIT)),
        _Keyword("maxUnauthenticated", "max_unauthenticated", _from_one_to(SESSIONS_LIMIT)),
        _Keyword("maxLoginChecks", "max_login_checks", _from_one_to(SESSIONS_LIMIT)),
        _Keyword("maxFailedLogins", "max_failed_logins", _from_one_to(100)),
        _Keyword("maxErrors", "max_errors", _from_one_to(1000)),
        _Keyword("maxRecipients", "max_recipients", _from_one_to(100_000)),
        _Keyword("loginTimeout", "login_timeout", _from_one_to(3600)),
        _Keyword("idleTimeout", "idle_timeout", _from_one_to(86_400)),
    )
}

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


class _Found:
    """What the lines of one file say, before anything is made of it."""

    def __init__(self) -> None:
        self.settings: dict[str, object] = {}  # by field of UserSettings; and "mappings"
        self.values: dict[str, object] = {}  # by field of Configuration
        self.origins: dict[str, list[Origin]] = {}  # by keyword; one for each value
        self.warnings: list[str] = []

    def warn(self, origin: Origin, keyword: str, text: str) -> None:
        self.warnings.append(_message(origin, keyword, text))

    def keep(self, row: _Keyword, origin: Origin, value: object) -> None:
        values = self.settings if row.user else self.values
        if row.repeatable:
            earlier = values.get(row.target, ())
            assert isinstance(earlier, tuple)
            assert isinstance(value, tuple)
            values[row.target] = earlier + value
            self.origins.setdefault(row.name, []).extend([origin] * len(value))
            return
        self.forget(row, origin)
        values[row.target] = value
        self.origins[row.name] = [origin]

    def forget(self, row: _Keyword, origin: Origin) -> None:
        """Take back what an earlier line said; `origin` is the line that does so."""
        for earlier in self.origins.pop(row.name, []):
            self.warn(origin, row.name, f"this line replaces the one at {earlier}")
        (self.settings if row.user else self.values).pop(row.target, None)

    def take_mappings(self) -> tuple[Mapping, ...]:
        pairs = self.settings.pop("mappings", ())
        assert isinstance(pairs, tuple)
        origins = self.origins.get(_MAPPING.name, [])
        return tuple(
            Mapping(source, argument, origin) for (source, argument), origin in zip(pairs, origins, strict=True)
        )


def _collect(text: str, file: str, *, by_user: bool) -> _Found:
    found = _Found()
    for number, line in enumerate(assignment.lines(text), 1):
        origin = Origin(file, number)
        if len(line) > LINE_LIMIT:
            raise ConfigurationError(origin, "", f"the line is longer than {LINE_LIMIT} characters")
        keyword, equals, value = assignment.split(line)
        if not keyword and not equals:
            continue
        if not equals:
            raise ConfigurationError(origin, "", "the line has no `=`; `keyword = value` would be right")
        row = _KEYWORDS.get(keyword.lower())
        if row is None:
            raise _unknown(origin, keyword, by_user=by_user)
        if by_user and not row.user:
            found.warn(origin, row.name, "ignored here, only the administrator may set it")
            continue
        if not value.isprintable() and re.search(_CONTROL, value):
            raise ConfigurationError(origin, row.name, "the value has a control character in it; remove it")
        if not value and row.empty is _Empty.DEFAULT:
            if not row.repeatable:
                found.forget(row, origin)
            continue
        if row is _MAPPING:
            _look_for_lost_password(found, origin, line, value)
        # What a user's file says is not for the log, which others read, and a mapping may hold a password.
        shown = "the value" if by_user or row is _MAPPING else repr(value[:80])
        try:
            found.keep(row, origin, row.read(value))
        except ValueError as error:
            raise ConfigurationError(origin, row.name, f"{shown} {error}") from None
    if len(found.origins.get(_MAPPING.name, ())) > MAPPINGS_LIMIT:
        origin = found.origins[_MAPPING.name][MAPPINGS_LIMIT]
        raise ConfigurationError(
            origin, _MAPPING.name, f"at most {MAPPINGS_LIMIT} are allowed; getmail: and fetchmail: files can hold more"
        )
    return found


def _look_for_lost_password(found: _Found, origin: Origin, line: str, value: str) -> None:
    # The format has no way to write a `#` into a value. A comment after a blank is meant as one, but a word that
    # ends at a `#` is more likely the first half of a password, and the login would fail far from here.
    before, sign, _ = line.partition("#")
    if sign and value[:7].lower() == "direct:" and not before.endswith((" ", "\t")):
        found.warn(
            origin,
            _MAPPING.name,
            "`#` starts a comment, also within a word: a password with `#` needs a getmail: or fetchmail: file",
        )


def _unknown(origin: Origin, keyword: str, *, by_user: bool) -> ConfigurationError:
    import difflib  # two milliseconds that only an error costs

    close = difflib.get_close_matches(keyword.lower(), _KEYWORDS, 1)
    names = [_KEYWORDS[close[0]].name] if close else sorted(row.name for row in _KEYWORDS.values())
    shown = "" if by_user else keyword if keyword.isprintable() and len(keyword) <= 40 else repr(keyword[:40])
    return ConfigurationError(origin, shown, f"unknown keyword; {_either(names)} would be right")


def parse(text: str, file: str, hostname: str) -> Parsed:
    """Read the administrator's file.

    `text` is as `config_file.read` returns it, `file` its name for messages, `hostname` the default of `localname`.
    Raises ConfigurationError at the first line that is not understood, and where lines contradict each other.
    """
    found = _collect(text, file, by_user=False)
    mappings = found.take_mappings() or default_mappings()
    # The types are right by the table, which is more than mypy can see.
    settings = replace(UserSettings(hostname), **found.settings)  # type: ignore[arg-type]
    configuration = Configuration(settings, **found.values)  # type: ignore[arg-type]
    _check(configuration, found)
    if configuration.ssl_cert and not configuration.ssl_key:
        configuration = replace(configuration, ssl_key=configuration.ssl_cert)
    origins = {keyword: places[0] for keyword, places in found.origins.items()}
    return Parsed(configuration, mappings, tuple(found.warnings), origins)


def parse_user_include(
    text: str, file: str, base: UserSettings
) -> tuple[UserSettings, tuple[Mapping, ...], tuple[str, ...]]:
    """Read a user's file: its settings on top of `base`, its mappings (none is fine), its warnings.

    Keywords of the administrator are ignored with a warning. Raises ConfigurationError as `parse` does; neither
    errors nor warnings quote anything of the file but keywords we know.
    """
    found = _collect(text, file, by_user=True)
    mappings = found.take_mappings()
    settings = replace(base, **found.settings)  # type: ignore[arg-type]
    return settings, mappings, tuple(found.warnings)


def _check(configuration: Configuration, found: _Found) -> None:
    """Raise ConfigurationError where lines contradict each other; warn where no login would be possible."""
    origins = found.origins
    encryption = configuration.mailer_encryption
    if configuration.ssl_key and not configuration.ssl_cert:
        raise ConfigurationError(
            origins["sslKey"][0], "sslKey", "needs sslCert too, the certificate that this key belongs to"
        )
    if configuration.auth_backend is Backend.LDAP:
        for keyword, value in (("ldapUri", configuration.ldap_uri), ("ldapAuthDN", configuration.ldap_auth_dn)):
            if not value:
                raise ConfigurationError(origins["authBackend"][0], "authBackend", f"`LDAP` needs {keyword}, too")
    places: dict[Listen, Origin] = {}
    for listen, origin in zip(configuration.listen, origins.get("listen", []), strict=True):
        if listen.tls and not configuration.ssl_cert:
            raise ConfigurationError(origin, "listen", "`tls` needs sslCert, and sslKey if the key is not in it")
        if listen.tls and encryption is Encryption.FORBIDDEN:
            raise ConfigurationError(origin, "listen", "`tls` contradicts `mailerEncryption = forbidden`")
        place = replace(listen, tls=False)
        if place in places:
            raise ConfigurationError(origin, "listen", f"the line at {places[place]} listens there already")
        places[place] = origin
        if encryption is None and not login_possible(configuration, listen):
            found.warn(
                origin,
                "listen",
                "without sslCert nobody can log in here: over a network, mailerEncryption is `required` by default",
            )
    if configuration.user_include and not configuration.user_include.startswith(("/", "%h")):
        found.warn(
            origins["userInclude"][0],
            "userInclude",
            "is looked for in the folder that sendooway was started in; begin it with `/` or `%h/`",
        )
    if configuration.proxy_trust and encryption is None and not configuration.ssl_cert:
        found.warn(
            origins["proxyTrust"][0],
            "proxyTrust",
            "without sslCert no client elsewhere can log in; set it, or `mailerEncryption = allowed` if the balancer "
            "ends TLS and nobody else is on the network behind it",
        )
    # No error: with -S, for a connection that something before us has made safe, all of this is as it should be.
    if encryption is Encryption.REQUIRED and not configuration.ssl_cert:
        found.warn(
            origins["mailerEncryption"][0],
            "mailerEncryption",
            "without sslCert there is no TLS, and without TLS nobody can log in (unless -S is given)",
        )


def is_loopback(address: str) -> bool:
    """Whether a numeric address is this machine's own: what is said there crosses no network."""
    return address == "::1" or address.startswith("127.")


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


def redact(text: str) -> str:
    """The same text without its secrets, for the process that reads from the network.

    Where `parse` accepts `text`, it finds the same Configuration here, with the same line numbers. Only what is
    known to hold no password stays: comments, and lines with an unknown keyword, become empty.
    """
    return "\n".join(_redacted(line) for line in assignment.lines(text))


def _redacted(line: str) -> str:
    keyword, _, value = assignment.split(line)
    row = _KEYWORDS.get(keyword.lower())
    if row is None:
        return ""
    return f"{row.name} =" if row is _MAPPING else f"{row.name} = {value}"
