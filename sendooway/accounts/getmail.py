"""The `getmail:` source: a smarthost in the section `[sender]` of a getmail configuration file.

    [sender]
    type = SimpleSMTPTLSSender
    server = mx.moon.test
    username = alice
    password = secret
    address = alice@moon.test, *@alice.moon.test

What is missing of server, username and password comes from `[retriever]`, which is getmail's own. Instead of `password`
there may be getmail's `password_command`, its `use_netrc`, or `password_from` with what `password.parse` reads. With
`gssapi = true` Kerberos tickets log in; where they do not, a user name with its password, if there are both.
"""

import re
from contextlib import suppress
from dataclasses import replace

from sendooway.accounts import getmailrc, pattern
from sendooway.accounts import password as passwords
from sendooway.accounts.account import Account, AccountsError, Credentials, Password, Security, Unusable
from sendooway.accounts.entry import Entry, Listing, Problem, Retriever
from sendooway.accounts.getmailrc import Line, Section
from sendooway.accounts.value import BadValue, at, parse_host, parse_password, parse_port, parse_username
from sendooway.auth.identity import Identity
from sendooway.origin import Origin
from sendooway.secret import Secret

_TYPES = {
    "SimpleSMTPSender": Security.NONE,
    "SimpleSMTPTLSSender": Security.STARTTLS,
    "SimpleSMTPSSLSender": Security.SMTPS,
}

# What getmail calls its retrievers: `SimpleIMAPSSLRetriever`, `MultidropSDPSRetriever` and so on.
_RETRIEVER = r"(?:Simple|BrokenUIDL|Multidrop)(POP3|IMAP|SDPS)(SSL)?Retriever"


def parse(text: str, file: str, owner: Identity) -> Listing:
    """The mailbox of a file with its account: none where the file has no `[sender]`, but only a `[retriever]`.

    `text` is decoded with `surrogateescape`. A file with neither section has nothing.

    Raises AccountsError, with the line, for what getmail itself would not read, and in `[sender]` for a bad value, or a
    missing type, server or address.
    """
    sections = getmailrc.parse(text, file, repeatable={("sender", "address")})
    options = sections.get("options", Section(Origin(file, 0), {}))
    retriever = _retriever(sections["retriever"], options) if "retriever" in sections else None
    problems = _lacking(sections["retriever"]) if "retriever" in sections else ()
    if "sender" in sections:
        sender = sections["sender"]
        nothing = Section(sender.origin, {})
        account = _account(sender, sections.get("retriever", nothing), options)
        return Listing(entries=(Entry(sender.origin, account, retriever),), problems=problems)
    if retriever is None:
        return Listing()
    return Listing(entries=(Entry(sections["retriever"].origin, None, retriever),), problems=problems)


def _lacking(retriever: Section) -> tuple[Problem, ...]:
    """Without these getmail does not retrieve, which is no reason not to send."""
    missing = [key for key in ("type", "server") if key not in retriever.values]
    text = f"getmail itself wants {' and '.join(missing)} in [retriever]"
    return (Problem(retriever.origin, text),) if missing else ()


def _retriever(section: Section, options: Section) -> Retriever:
    def text(key: str) -> str | None:
        lines = section.values.get(key)
        return None if lines is None else "\n".join(line.text for line in lines)

    password = text("password")
    password_source = None
    with suppress(AccountsError):
        password_source = _mailbox_password(section, options, text("username") or "")
    type_ = re.fullmatch(_RETRIEVER, text("type") or "")
    return Retriever(
        server=text("server") or "",
        via=None,
        port=text("port"),
        protocol="" if not type_ else "POP3" if type_[1] == "SDPS" else type_[1],
        ssl=bool(type_ and type_[2]),
        username=text("username"),
        password=None if password is None else Secret(password.encode("utf-8", "surrogateescape")),
        local_names=(),
        password_source=password_source,
    )


def _mailbox_password(retriever: Section, options: Section, username: str) -> Password | None:
    password = _password(retriever)
    if password is None and _boolean(options, "use_netrc"):
        return _netrc(retriever, options, username)
    return password


def _account(sender: Section, retriever: Section, options: Section) -> Account | Unusable:
    type_ = _required(_single(sender, "type"), f"type, one of {', '.join(_TYPES)}", sender)
    if type_.text not in _TYPES:
        raise AccountsError(type_.origin, f"the type must be one of {', '.join(_TYPES)}")
    security = _TYPES[type_.text]
    server = _required(_single(sender, "server") or _single(retriever, "server"), "server", sender)
    with at(server.origin):
        host = parse_host(server.text)
    port = security.default_port
    if line := _single(sender, "port"):
        with at(line.origin):
            port = parse_port(line.text)
    check_certificate = not _boolean(sender, "no_certificate_check")
    gssapi = _boolean(sender, "gssapi")
    account = Account(_patterns(sender), host, port, security, check_certificate, None, sender.origin, gssapi)
    try:
        return replace(account, credentials=_credentials(sender, retriever, options, host))
    except _Missing as missing:
        return (
            account if gssapi else Unusable(account, missing.reason, missing.origin, missing.username, lacks_login=True)
        )


class _Missing(Exception):
    """Something that a login needs is not there."""

    def __init__(self, reason: str, origin: Origin, username: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.origin = origin
        self.username = username


def _single(section: Section, key: str) -> Line | None:
    """The value of a key that has one line; None where the key is missing."""
    lines = section.values.get(key)
    if lines is None:
        return None
    first, *others = [line for line in lines if line.text] or lines
    if others:
        raise AccountsError(others[0].origin, f"{key} must stand on one line (this one is indented)")
    return first


def _boolean(section: Section, key: str) -> bool:
    """False where the key is missing."""
    line = _single(section, key)
    if line is None:
        return False
    if line.text.lower() not in getmailrc.BOOLEANS:
        raise AccountsError(line.origin, f"{key} must be one of {', '.join(getmailrc.BOOLEANS)}")
    return getmailrc.BOOLEANS[line.text.lower()]


def _required(line: Line | None, what: str, sender: Section) -> Line:
    if line is None:
        raise AccountsError(sender.origin, f"[sender] needs {what}")
    return line


def _patterns(sender: Section) -> tuple[str, ...]:
    """The patterns of all `address` keys, apart by commas or line ends."""
    patterns = []
    for line in sender.values.get("address", []):
        with at(line.origin):
            patterns += pattern.parse_list(line.text)
    if not patterns:
        raise AccountsError(sender.origin, "[sender] needs address")
    return tuple(patterns)


def _credentials(sender: Section, retriever: Section, options: Section, host: str) -> Credentials | None:
    """What logs in, or None where the file says that there is no login. Raises _Missing."""
    line = _single(sender, "username")
    if line and not line.text:
        return None
    line = line or _single(retriever, "username")
    if not line or not line.text:
        raise _Missing("no user name: add username to [sender], an empty one for no login", sender.origin)
    with at(line.origin):
        username = parse_username(line.text)
    password = _password_from(sender, host, username) or _password(sender)
    password = password or _mailbox_password(retriever, options, username)
    if password is None:
        reason = "no password: add password, password_from or password_command to [sender]"
        raise _Missing(reason, sender.origin, username)
    return Credentials(username, password)


def _netrc(retriever: Section, options: Section, username: str) -> Password | None:
    """As `use_netrc` does, but with the login that the file names: an entry without it could be anybody's."""
    server = _single(retriever, "server")
    if server is None:
        return None
    file = _single(options, "netrc_file")
    with at(file.origin if file else server.origin):
        return passwords.parse(f"netrc:{file.text if file else ''}", server.text, username)


def _password_from(sender: Section, host: str, username: str) -> Password | None:
    line = _single(sender, "password_from")
    if line is None:
        return None
    with at(line.origin):
        if {"password", "password_command"} & sender.values.keys():
            raise BadValue("one of password, password_command and password_from, not more")
        return passwords.parse(line.text, host, username)


def _password(section: Section) -> Password | None:
    """What getmail itself takes in any of its sections."""
    if line := _single(section, "password"):
        with at(line.origin):
            return parse_password(line.text)
    if lines := section.values.get("password_command"):
        with at(lines[0].origin):
            return passwords.parse_literal("\n".join(line.text for line in lines))
    return None
