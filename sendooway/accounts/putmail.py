"""The `putmail:` source: a folder of configuration files of putmail, one for each sender.

    [config]
    server = mx.moon.test
    port = 587
    tls = on
    email = alice@moon.test
    username = alice
    password = secret

The file serves its `email` and, if its name is an address, as it is in putmail, that one; `address`, which putmail does
not know, may be a list of more patterns.
"""

from contextlib import suppress

from sendooway.accounts import getmailrc, pattern
from sendooway.accounts.account import Account, AccountsError, Credentials, NoAccountFile, Security, Unusable
from sendooway.accounts.entry import Entry, Listing, Problem
from sendooway.accounts.getmailrc import Section
from sendooway.accounts.value import BadValue, at, parse_host, parse_password, parse_port, parse_username
from sendooway.auth.identity import Identity
from sendooway.origin import Origin

_KEYS = frozenset(("server", "port", "tls", "email", "username", "password", "address", "quiet"))


def parse(text: str, file: str, owner: Identity) -> Listing:
    """The account of a file. `text` is decoded from UTF-8 with `surrogateescape`.

    Raises AccountsError, with the line, for a line that is none, a bad value, or a missing server or email.
    """
    sections = getmailrc.parse(text, file, repeatable={("config", "address")})
    if "config" not in sections:
        raise NoAccountFile(Origin(file, 1), "a file of putmail has a section [config]")
    config = sections["config"]
    problems = tuple(
        Problem(lines[0].origin, "no keychain is opened" if key == "keychain" else "this key means nothing here")
        for key, lines in config.values.items()
        if key not in _KEYS
    )
    return Listing(entries=(Entry(config.origin, _account(config, file)),), problems=problems)


def _account(config: Section, file: str) -> Account | Unusable:
    tls = _text(config, "tls").lower() or "off"
    if tls not in getmailrc.BOOLEANS:
        raise AccountsError(_origin(config, "tls"), f"tls must be one of {', '.join(getmailrc.BOOLEANS)}")
    with at(_origin(config, "server")):
        host = parse_host(_text(config, "server"))
    with at(_origin(config, "port")):
        port = parse_port(_text(config, "port") or "smtp")
    with at(_origin(config, "username")):
        username = parse_username(_text(config, "username")) if _text(config, "username") else ""
    with at(_origin(config, "password")):
        password = parse_password(_text(config, "password")) if "password" in config.values else None
    account = Account(
        patterns=_patterns(config, file),
        host=host,
        port=port,
        security=Security.STARTTLS if getmailrc.BOOLEANS[tls] else Security.NONE,
        check_certificate=True,
        credentials=Credentials(username, password) if username and password else None,
        origin=config.origin,
    )
    if username and password is None:
        return Unusable(account, "no password: add password to [config]", config.origin, username, lacks_login=True)
    return account


def _text(config: Section, key: str) -> str:
    return "\n".join(line.text for line in config.values.get(key, []) if line.text)


def _origin(config: Section, key: str) -> Origin:
    return config.values[key][0].origin if key in config.values else config.origin


def _patterns(config: Section, file: str) -> tuple[str, ...]:
    with at(_origin(config, "email")):
        patterns = [pattern.parse(_text(config, "email"))]
    # The default one is called putmailrc, which is no address.
    with suppress(BadValue):
        patterns.append(pattern.parse(file.rpartition("/")[2]))
    for line in config.values.get("address", []):
        with at(line.origin):
            patterns += pattern.parse_list(line.text)
    return tuple(dict.fromkeys(patterns))
