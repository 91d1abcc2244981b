"""The `getmail:` source: a smarthost in the section `[sender]` of a getmail configuration file.

    [sender]
    type = SimpleSMTPTLSSender
    server = mx.moon.test
    username = alice
    password = secret
    address = alice@moon.test, *@alice.moon.test

What is missing of server, username and password comes from `[retriever]`, which is getmail's own. With `gssapi = true`
Kerberos tickets log in; where they do not, a user name with its password, if there are both.
"""

from sendooway.accounts import getmailrc, pattern
from sendooway.accounts.account import Account, AccountsError, Credentials, Security, Unusable
from sendooway.accounts.getmailrc import Line, Section
from sendooway.accounts.value import at, parse_host, parse_password, parse_port, parse_username

_TYPES = {
    "SimpleSMTPSender": Security.NONE,
    "SimpleSMTPTLSSender": Security.STARTTLS,
    "SimpleSMTPSSLSender": Security.SMTPS,
}

_BOOLEANS = {
    **dict.fromkeys(("1", "yes", "true", "on"), True),
    **dict.fromkeys(("0", "no", "false", "off"), False),
}


def parse(text: str, file: str) -> tuple[Account | Unusable, ...]:
    """The account of a file; none where the file has no `[sender]`. `text` is decoded with `surrogateescape`.

    Raises AccountsError, with the line, for what getmail itself would not read, and in `[sender]` for a bad value, or a
    missing type, server or address.
    """
    sections = getmailrc.parse(text, file, repeatable={("sender", "address")})
    if "sender" not in sections:
        return ()
    sender = sections["sender"]
    retriever = sections.get("retriever", Section(sender.origin, {}))

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
    patterns = _patterns(sender)
    credentials = _credentials(sender, retriever, patterns)
    if isinstance(credentials, Unusable):
        if not gssapi:
            return (credentials,)
        credentials = None
    return (Account(patterns, host, port, security, check_certificate, credentials, sender.origin, gssapi),)


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
    if line.text.lower() not in _BOOLEANS:
        raise AccountsError(line.origin, f"{key} must be one of {', '.join(_BOOLEANS)}")
    return _BOOLEANS[line.text.lower()]


def _required(line: Line | None, what: str, sender: Section) -> Line:
    if line is None:
        raise AccountsError(sender.origin, f"[sender] needs {what}")
    return line


def _patterns(sender: Section) -> tuple[str, ...]:
    """All addresses: of repeated keys, and apart by commas or line ends."""
    patterns = []
    for line in sender.values.get("address", []):
        with at(line.origin):
            patterns += [pattern.parse(text.strip()) for text in line.text.split(",") if text.strip()]
    if not patterns:
        raise AccountsError(sender.origin, "[sender] needs address")
    return tuple(patterns)


def _credentials(sender: Section, retriever: Section, patterns: tuple[str, ...]) -> Credentials | Unusable | None:
    """What logs in, or None where the file says that there is no login."""
    line = _single(sender, "username")
    if line and not line.text:
        return None
    line = line or _single(retriever, "username")
    if not line or not line.text:
        return Unusable(patterns, "no user name: add username to [sender], an empty one for no login", sender.origin)
    with at(line.origin):
        username = parse_username(line.text)
    for section in (sender, retriever):
        if line := _single(section, "password"):
            with at(line.origin):
                return Credentials(username, parse_password(line.text))
        if command := section.values.get("password_command"):
            return Unusable(
                patterns, "password_command is not run for sending: add password to [sender]", command[0].origin
            )
    return Unusable(patterns, "no password: add password to [sender]", sender.origin)
