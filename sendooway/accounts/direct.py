"""The `direct:` source: one account in the mapping itself.

direct:PATTERN HOST PORT USER PASSWORD [OPTIONS]
"""

import re

from sendooway.accounts import password as passwords
from sendooway.accounts import pattern
from sendooway.accounts.account import Account, Credentials, Security
from sendooway.accounts.value import BadValue, at, parse_host, parse_password, parse_port, parse_username
from sendooway.origin import Origin

_NOTHING = "-"
_FLAGS = ("tls", "ssl", "noCertCheck", "noAuth", "gssapi")
# It takes all of the line that is left: a command has blanks and commas in it.
_PASSWORD_FROM = re.compile(r"(?:^|,)[ \t]*passwordFrom[ \t]*=(.*)", re.IGNORECASE | re.DOTALL)


def parse(argument: str, origin: Origin) -> tuple[Account, ...]:
    """The account of one mapping; `argument` is what follows `direct:`, decoded with `surrogateescape`.

    Fields are apart by blanks. PORT is a number or the name of a service; OPTIONS, apart by commas, are `tls`
    (STARTTLS), `ssl` (implicit TLS), `noCertCheck`, `noAuth` (USER and PASSWORD, say `-`, are ignored then), `gssapi`
    (tickets log in; where they do not, USER and PASSWORD, unless one of them is `-`) and, as the last one, which takes
    the rest of the line, `passwordFrom=` with what `password.parse` reads; then PASSWORD is `-`.
    Raises AccountsError with `origin` and what would be right.
    """
    with at(origin):
        return (_parse(argument, origin),)


def _parse(argument: str, origin: Origin) -> Account:
    fields = re.split(r"[ \t]+", argument.strip(" \t"), maxsplit=5)
    if len(fields) < 5:
        raise BadValue("direct: needs PATTERN HOST PORT USER PASSWORD and perhaps OPTIONS")
    address, host, port, username, password, *rest = fields
    options, source = _parse_options(rest[0] if rest else "")
    if {"tls", "ssl"} <= options:
        raise BadValue("either tls (STARTTLS) or ssl (implicit TLS), not both")
    if {"noauth", "gssapi"} <= options:
        raise BadValue("either gssapi (log in with tickets) or noAuth (do not log in), not both")
    if source is not None and ("noauth" in options or password != _NOTHING):
        raise BadValue("passwordFrom needs a PASSWORD of -, and no noAuth")
    credentials = None
    if source is not None or not ("noauth" in options or ("gssapi" in options and _NOTHING in (username, password))):
        if username == _NOTHING:
            raise BadValue("a USER of - needs the option noAuth, or gssapi without passwordFrom")
        username = parse_username(username)
        if source is None:
            credentials = Credentials(username, parse_password(password))
        else:
            # That it is a mapping of the administrator is looked at where the credential is taken.
            credentials = Credentials(username, passwords.parse(source, parse_host(host), username, credentials=True))
    return Account(
        patterns=(pattern.parse(address),),
        host=parse_host(host),
        port=parse_port(port),
        security=Security.STARTTLS if "tls" in options else Security.SMTPS if "ssl" in options else Security.NONE,
        check_certificate="nocertcheck" not in options,
        credentials=credentials,
        origin=origin,
        gssapi="gssapi" in options,
    )


def _parse_options(text: str) -> tuple[set[str], str | None]:
    """Flags apart by commas, in lower case, no text meaning none; and the value of passwordFrom."""
    source = _PASSWORD_FROM.search(text)
    flags_text = text[: source.start()] if source else text
    flags = {flag.strip().lower() for flag in flags_text.split(",")} if flags_text else set()
    if not flags <= {flag.lower() for flag in _FLAGS}:
        raise BadValue(f"the options of direct:, apart by commas, are {', '.join(_FLAGS)}, passwordFrom=SOURCE")
    return flags, source[1] if source else None
