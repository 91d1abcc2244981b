"""The `msmtp:` source: the accounts of an msmtp configuration file that have a `from`.

    defaults
    auth on
    tls on

    account moon
    host mx.moon.test
    port 587
    from alice@moon.test
    user alice
    password secret

A `from` may be a list apart by commas, of addresses, `*@domain` and `*`. An account without one serves no sender here:
that msmtp sends all the rest through `default` is for a `from *` to say.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from sendooway.accounts import msmtprc, pattern
from sendooway.accounts.account import (
    Account,
    Credentials,
    FromCommand,
    FromNetrc,
    Password,
    Security,
    Unusable,
)
from sendooway.accounts.entry import Entry, Listing, Problem
from sendooway.accounts.msmtprc import OFF, ON, Section
from sendooway.accounts.value import BadValue, parse_host, parse_password, parse_username
from sendooway.auth.identity import Identity

# With what msmtp logs in without TLS: CRAM-MD5 does not tell the password, and the others have to be asked for by name.
_IN_CLEAR = ("plain", "login", "cram-md5")

# Files that are the system's own certificates, on one system or another.
_SYSTEM_STORES = (
    "system",
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/usr/local/share/certs/ca-root-nss.crt",
)

_PIN = "tls_fingerprint"
_SHA256_OCTETS = 32

# What an account may ask for that is not done here. It is a problem to be told, and the account serves all the same.
_NOT_DONE = {
    "source_ip": "connections are made from the address that the system chooses",
    "tls_crl_file": "revocation lists are not looked at",
    "tls_key_file": "no certificate of one's own is shown to smarthosts",
    "tls_priorities": "the versions and ciphers of TLS are those of the system",
    "tls_min_dh_prime_bits": "the versions and ciphers of TLS are those of the system",
    "aliases": "recipients are taken as the mail program gives them",
    "dsn_notify": "the mail program itself asks for notifications",
    "dsn_return": "the mail program itself asks for notifications",
    "auto_from": "the sender is the mail program's",
}


def parse(text: str, file: str, owner: Identity) -> Listing:
    """The accounts of a file, also those that serve no sender. `text` is decoded from UTF-8 with `surrogateescape`.

    Raises AccountsError, with the line, for what msmtp itself would not read.
    """
    entries: list[Entry] = []
    problems: set[Problem] = set()
    for section in msmtprc.parse(text, file):
        if section.alias_of is not None:
            continue  # another name for an account that is there already
        patterns, not_known = _patterns(section, owner, problems)
        account = _account(section, patterns, owner)
        entries.append(Entry(section.origin, account))
        entries += [Entry(section.origin, _refusing(section, account, address)) for address in not_known]
        problems.update(
            Problem(section.settings[command].origin, f"`{command}`: {text}")
            for command, text in _NOT_DONE.items()
            if _text(section, command) not in ("", OFF)
        )
    said = sorted(problems, key=lambda problem: (problem.origin, problem.text))
    return Listing(entries=tuple(entries), problems=tuple(said))


def _text(section: Section, command: str) -> str:
    """The argument of a command, empty where the account has none."""
    setting = section.settings.get(command)
    return "" if setting is None else setting.text


def _patterns(section: Section, owner: Identity, problems: set[Problem]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The patterns of the account; and those that cover its patterns with wildcards that are not known here."""
    setting = section.settings.get("from")
    if setting is None or not setting.text:
        text = f"the account {section.name} serves no sender: give it a `from`, which may be *@domain or *"
        problems.add(Problem(section.origin, text))
        return (), ()
    found: list[str] = []
    not_known: list[str] = []
    for address in setting.text.replace("%U", owner.name).split(","):
        try:
            found.append(pattern.parse(address.strip()))
        except BadValue as error:
            _, at, domain = address.strip().rpartition("@")
            try:
                not_known.append(pattern.parse(f"*{at}{domain}" if at else ""))
            except BadValue:
                problems.add(Problem(setting.origin, f"`from`: {error.reason}"))
    return tuple(found), tuple(not_known)


def _refusing(section: Section, account: Account | Unusable, address: str) -> Unusable:
    """Keeps senders whom msmtp might send through this account from going out through one that comes later."""
    known = account.account if isinstance(account, Unusable) else account
    reason = f"the account {section.name} may serve this sender, but its `from` has wildcards other than *@domain and *"
    refused = replace(known, patterns=(address,), credentials=None)
    return Unusable(refused, reason, section.settings["from"].origin, _text(section, "user"))


class _Unusable(Exception):
    """The account cannot serve. `command` is the one that is to blame, empty where one is missing."""

    def __init__(self, reason: str, command: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.command = command


def _account(section: Section, patterns: tuple[str, ...], owner: Identity) -> Account | Unusable:
    security = _security(section)
    checks = _text(section, "tls_certcheck") != OFF and "tls_nocertcheck" not in section.settings
    account = Account(
        patterns=patterns,
        host=_text(section, "host"),
        port=msmtprc.number(port) if (port := _text(section, "port")) else 465 if security is Security.SMTPS else 25,
        security=security,
        check_certificate=checks,
        credentials=None,
        origin=section.origin,
    )
    try:
        _refuse(section)
        if not account.host:
            raise _Unusable("`host` is missing")
        with _blaming("host"):
            host = parse_host(account.host)
        credentials, gssapi = _login(section, security)
        fingerprint = _fingerprint(section) if checks else b""
        return replace(
            account,
            host=host,
            credentials=credentials,
            gssapi=gssapi,
            ehlo_name=_ehlo_name(section),
            certificate_sha256=fingerprint,
            ca_file="" if security is Security.NONE or fingerprint or not checks else _ca_file(section, owner),
        )
    except _Unusable as error:
        setting = section.settings.get(error.command)
        return Unusable(account, error.reason, setting.origin if setting else section.origin, _text(section, "user"))


def _security(section: Section) -> Security:
    if _text(section, "tls") != ON:
        return Security.NONE
    implicit = _text(section, "tls_starttls") == OFF or "tls_nostarttls" in section.settings
    return Security.SMTPS if implicit else Security.STARTTLS


def _refuse(section: Section) -> None:
    """Raises _Unusable where the mail would not go the way that the account says, or not as safely."""
    for command in ("eval", "socket", "proxy_host", "tls_host_override"):
        if _text(section, command):
            raise _Unusable(f"`{command}` is not done here, so this account is not used", command)
    if _text(section, "protocol") == "lmtp":
        raise _Unusable("only SMTP is spoken here, not LMTP", "protocol")


def _ca_file(section: Section, owner: Identity) -> str:
    setting = section.settings.get("tls_trust_file")
    if setting is None or setting.text in _SYSTEM_STORES:
        return ""
    path = re.sub("^~(?=/)", lambda _: owner.home, setting.text)
    if not path.startswith("/") or not path.isprintable():
        reason = "the path must be absolute, or begin with ~/" if path else "without it msmtp trusts nobody"
        raise _Unusable(f"`tls_trust_file`: {reason}", "tls_trust_file")
    return path


def _ehlo_name(section: Section) -> str:
    name = _text(section, "domain")
    if not re.fullmatch(r"[A-Za-z0-9._-]{0,255}|\[[A-Za-z0-9.:-]{1,253}\]", name):
        raise _Unusable("`domain` must be a host name, as in mail.example.org, without anything to be put in", "domain")
    return name


def _fingerprint(section: Section) -> bytes:
    octets = bytes.fromhex(_text(section, "tls_fingerprint").replace(":", ""))
    if len(octets) not in (0, _SHA256_OCTETS):
        raise _Unusable("`tls_fingerprint` must be a SHA-256 one, of 32 octets: the shorter ones are forged", _PIN)
    return octets


def _login(section: Section, security: Security) -> tuple[Credentials | None, bool]:
    """The credentials, and whether tickets log in."""
    mechanism = _text(section, "auth")
    if mechanism in ("", OFF):
        return None, False
    if mechanism == "gssapi":
        return None, True
    if mechanism in ("external", "oauthbearer", "xoauth2"):
        raise _Unusable(f"`auth {mechanism}` is not done here", "auth")
    if security is Security.NONE and mechanism not in _IN_CLEAR:
        raise _Unusable("without TLS msmtp tells no password: add `tls on`, or else `auth plain`", "auth")
    if not (username := _text(section, "user")):
        raise _Unusable("`user` is missing, or `auth off`", "user")
    with _blaming("user"):
        username = parse_username(username)
    return Credentials(username, _password(section, username)), False


def _password(section: Section, username: str) -> Password:
    """As msmtp looks for it, but that it is never asked for, and no keyring is opened."""
    if password := _text(section, "password"):
        with _blaming("password"):
            return parse_password(password)
    if command := _text(section, "passwordeval"):
        return FromCommand(("/bin/sh", "-c", command))
    return FromNetrc((_text(section, "host"),), username)


@contextmanager
def _blaming(command: str) -> Iterator[None]:
    """A BadValue within it makes the account unusable."""
    try:
        yield
    except BadValue as error:
        raise _Unusable(f"`{command}`: {error.reason}", command) from None
