"""sendooway.conf: its format and its keywords.

The format: one `keyword = value` a line. `#` starts a comment anywhere, also within a word, so no value can hold
one. Blanks and tabs at line starts, line ends and around `=` are free. Keywords and enumerations ignore case. There
are no quotes. An empty value of a string means its default.

What a file may say stands in one table, `KEYWORDS`: a new keyword is one row there, and a field of `Configuration`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum

from sendooway import assignment
from sendooway.config import (
    MAX_MAPPINGS,
    MAX_SESSIONS,
    Backend,
    Configuration,
    ConfigurationError,
    EightBitMime,
    Encryption,
    Listen,
    Mapping,
    Parsed,
    Use,
    UserSettings,
    default_mappings,
    login_possible,
    values,
)
from sendooway.origin import Origin

MAX_LINE = 4096  # characters, comments included
MAX_WORKERS = 64

# Compiled at first use, which a start with a plain configuration never comes to.
_CONTROL = r"[\x00-\x08\x0a-\x1f\x7f-\x9f]"


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


_MAPPING = _Keyword("smarthostMapping", "mappings", values.mapping, _Empty.DEFAULT, user=True, repeatable=True)

KEYWORDS = {
    row.name.lower(): row
    for row in (
        _Keyword("localname", "localname", values.localname, _Empty.DEFAULT, user=True),
        _Keyword("cloneEhlo", "clone_ehlo", values.yes_or_no, user=True),
        _Keyword("addReceivedField", "add_received_field", values.yes_or_no, user=True),
        _Keyword("timeout", "timeout", values.seconds, user=True),
        _Keyword("guessAccounts", "guess_accounts", values.yes_or_no, user=True),
        _Keyword("sslCA", "ssl_ca", values.text, _Empty.DEFAULT, user=True),
        _Keyword("smarthostPlain", "smarthost_plain", values.one_of(Use), user=True),
        _Keyword("smarthostLogin", "smarthost_login", values.one_of(Use), user=True),
        _Keyword("smarthostCramMD5", "smarthost_cram_md5", values.one_of(Use), user=True),
        _Keyword("smarthostGssapi", "smarthost_gssapi", values.one_of(Use), user=True),
        _Keyword("krb5ClientKeytab", "krb5_client_keytab", values.template, _Empty.DEFAULT, user=True),
        _MAPPING,
        _Keyword("sslCert", "ssl_cert", values.text, _Empty.DEFAULT),
        _Keyword("sslKey", "ssl_key", values.text, _Empty.DEFAULT),
        _Keyword("mailerEncryption", "mailer_encryption", values.one_of(Encryption)),
        _Keyword("ext8BitMime", "ext_8bit_mime", values.one_of(EightBitMime)),
        _Keyword("extMessageSize", "ext_message_size", values.size),
        _Keyword("authBackend", "auth_backend", values.one_of(Backend)),
        _Keyword("authCache", "auth_cache", values.seconds_or_zero),
        _Keyword("authMechanisms", "auth_mechanisms", values.mechanisms, _Empty.DEFAULT),
        _Keyword("krb5Keytab", "krb5_keytab", values.keytab, _Empty.DEFAULT),
        _Keyword("krb5PamAccount", "krb5_pam_account", values.yes_or_no),
        _Keyword("krb5ConstrainedDelegation", "krb5_constrained_delegation", values.yes_or_no),
        _Keyword("validUser", "valid_users", values.permitted, _Empty.DEFAULT, repeatable=True),
        _Keyword("userInclude", "user_include", values.template, _Empty.DEFAULT),
        _Keyword("listen", "listen", values.listen, repeatable=True),
        _Keyword("proxyTrust", "proxy_trust", values.networks, _Empty.DEFAULT, repeatable=True),
        _Keyword("smarthostIdle", "smarthost_idle", values.seconds_or_zero),
        _Keyword("dialEarly", "dial_early", values.yes_or_no),
        _Keyword("workers", "workers", values.from_one_to(MAX_WORKERS)),
        _Keyword("runAs", "run_as", values.word, _Empty.DEFAULT),
        _Keyword("ldapAuthDN", "ldap_auth_dn", values.user_dn, _Empty.DEFAULT),
        _Keyword("ldapUri", "ldap_uri", values.uris, _Empty.DEFAULT),
        _Keyword("ldapSSLca", "ldap_ssl_ca", values.text, _Empty.DEFAULT),
        _Keyword("maxSessions", "max_sessions", values.from_one_to(MAX_SESSIONS)),
        _Keyword("maxSessionsPerClient", "max_sessions_per_client", values.from_one_to(MAX_SESSIONS)),
        _Keyword("maxSessionsPerUser", "max_sessions_per_user", values.from_one_to(MAX_SESSIONS)),
        _Keyword("maxUnauthenticated", "max_unauthenticated", values.from_one_to(MAX_SESSIONS)),
        _Keyword("maxLoginChecks", "max_login_checks", values.from_one_to(MAX_SESSIONS)),
        _Keyword("maxFailedLogins", "max_failed_logins", values.from_one_to(100)),
        _Keyword("maxErrors", "max_errors", values.from_one_to(1000)),
        _Keyword("maxRecipients", "max_recipients", values.from_one_to(100_000)),
        _Keyword("loginTimeout", "login_timeout", values.from_one_to(3600)),
        _Keyword("idleTimeout", "idle_timeout", values.from_one_to(86_400)),
    )
}


class _Found:
    """What the lines of one file say, value by value, before they are put together."""

    def __init__(self) -> None:
        self.settings: dict[str, object] = {}  # by field of UserSettings; and "mappings"
        self.values: dict[str, object] = {}  # by field of Configuration
        self.origins: dict[str, list[Origin]] = {}  # by keyword; one for each value
        self.warnings: list[str] = []

    def warn(self, origin: Origin, keyword: str, text: str) -> None:
        """Note a warning, in the form of an error."""
        self.warnings.append(str(ConfigurationError(origin, keyword, text)))

    def keep(self, row: _Keyword, origin: Origin, value: object) -> None:
        """Take the value of a line: beside the earlier ones of a repeatable keyword, else instead of an earlier one."""
        kept = self.settings if row.user else self.values
        if row.repeatable:
            earlier = kept.get(row.target, ())
            assert isinstance(earlier, tuple)
            assert isinstance(value, tuple)
            kept[row.target] = earlier + value
            self.origins.setdefault(row.name, []).extend([origin] * len(value))
            return
        self.forget(row, origin)
        kept[row.target] = value
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
    """Read all lines of a file. Raises ConfigurationError at the first that is not understood."""
    found = _Found()
    for number, line in enumerate(assignment.lines(text), 1):
        origin = Origin(file, number)
        if len(line) > MAX_LINE:
            raise ConfigurationError(origin, "", f"the line is longer than {MAX_LINE} characters")
        keyword, equals, value = assignment.split(line)
        if not keyword and not equals:
            continue
        if not equals:
            raise ConfigurationError(origin, "", "the line has no `=`; `keyword = value` would be right")
        row = KEYWORDS.get(keyword.lower())
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
    if len(found.origins.get(_MAPPING.name, ())) > MAX_MAPPINGS:
        origin = found.origins[_MAPPING.name][MAX_MAPPINGS]
        raise ConfigurationError(
            origin, _MAPPING.name, f"at most {MAX_MAPPINGS} are allowed; getmail: and fetchmail: files can hold more"
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

    known = {lower: row.name for lower, row in KEYWORDS.items() if row.user or not by_user}
    close = difflib.get_close_matches(keyword.lower(), known, 1)
    names = [known[close[0]]] if close else sorted(known.values())
    shown = "" if by_user else keyword if keyword.isprintable() and len(keyword) <= 40 else repr(keyword[:40])
    return ConfigurationError(origin, shown, f"unknown keyword; {values.either(names)} would be right")


def parse(text: str, file: str, hostname: str) -> Parsed:
    """Read the administrator's file.

    `text` is as `file.read` returns it, `file` its name for messages, `hostname` the default of `localname`.
    Raises ConfigurationError at the first line that is not understood, and where lines contradict each other.
    """
    found = _collect(text, file, by_user=False)
    mappings = found.take_mappings() or default_mappings()
    # The types are right by the table, which is more than mypy can see.
    settings = replace(UserSettings(hostname), **found.settings)  # type: ignore[arg-type]
    configuration = Configuration(settings, **found.values)  # type: ignore[arg-type]
    _refuse_contradictions(configuration, found.origins)
    _check_listen(configuration, found)
    _warn(configuration, found)
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


def _refuse_contradictions(configuration: Configuration, origins: dict[str, list[Origin]]) -> None:
    """Raise ConfigurationError where lines contradict each other, those of `listen` aside."""
    if configuration.ssl_key and not configuration.ssl_cert:
        raise ConfigurationError(
            origins["sslKey"][0], "sslKey", "needs sslCert too, the certificate that this key belongs to"
        )
    if configuration.auth_backend is Backend.LDAP:
        for keyword, value in (("ldapUri", configuration.ldap_uri), ("ldapAuthDN", configuration.ldap_auth_dn)):
            if not value:
                raise ConfigurationError(origins["authBackend"][0], "authBackend", f"`LDAP` needs {keyword}, too")
    if configuration.dial_early and not configuration.smarthost_idle:
        raise ConfigurationError(
            origins["dialEarly"][0], "dialEarly", "contradicts `smarthostIdle = 0`: no connection can wait for its mail"
        )


def _check_listen(configuration: Configuration, found: _Found) -> None:
    """Raise ConfigurationError for a `listen` line that contradicts another line; warn where nobody could log in."""
    encryption = configuration.mailer_encryption
    places: dict[Listen, Origin] = {}
    for listen, origin in zip(configuration.listen, found.origins.get("listen", []), strict=True):
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


def _warn(configuration: Configuration, found: _Found) -> None:
    """Warn of what is probably not meant."""
    origins, encryption = found.origins, configuration.mailer_encryption
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


def redact(text: str) -> str:
    """The same text without its secrets, for the process that reads from the network.

    Where `parse` accepts `text`, it finds the same Configuration here, with the same line numbers. Only what is
    known to hold no password stays: comments, and lines with an unknown keyword, become empty.
    """
    return "\n".join(_redacted(line) for line in assignment.lines(text))


def _redacted(line: str) -> str:
    keyword, _, value = assignment.split(line)
    row = KEYWORDS.get(keyword.lower())
    if row is None:
        return ""
    return f"{row.name} =" if row is _MAPPING else f"{row.name} = {value}"
