"""The `direct:` source: one account in the mapping itself.

direct:PATTERN HOST PORT USER PASSWORD [OPTIONS]
"""

import re

from sendooway.accounts import pattern
from sendooway.accounts.account import Account, Credentials, Origin, Security
from sendooway.accounts.value import BadValue, at, parse_host, parse_password, parse_port, parse_username

_OPTIONS = ("tls", "ssl", "noCertCheck", "noAuth", "gssapi")


def parse(argument: str, origin: Origin) -> tuple[Account, ...]:
    """The account of one mapping; `argument` is what follows `direct:`, decoded with `surrogateescape`.

    Fields are apart by blanks. PORT is a number or the name of a service; OPTIONS, apart by commas, are `tls`
    (STARTTLS), `ssl` (implicit TLS), `noCertCheck`, `noAuth` (USER and PASSWORD, say `-`, are ignored then) and
    `gssapi` (tickets log in; where they do not, USER and PASSWORD, unless one of them is `-`).
    Raises AccountsError with `origin` and what would be right.
    """
    with at(origin):
        return (_parse(argument, origin),)


def _parse(argument: str, origin: Origin) -> Account:
    fields = re.split(r"[ \t]+", argument.strip(" \t"))
    if len(fields) < 5:
        raise BadValue("direct: needs PATTERN HOST PORT USER PASSWORD and perhaps OPTIONS")
    address, host, port, username, password = fields[:5]
    options = _parse_options(" ".join(fields[5:]))
    if {"tls", "ssl"} <= options:
        raise BadValue("either tls (STARTTLS) or ssl (implicit TLS), not both")
    if {"noauth", "gssapi"} <= options:
        raise BadValue("either gssapi (log in with tickets) or noAuth (do not log in), not both")
    credentials = None
    if "noauth" not in options and not ("gssapi" in options and "-" in (username, password)):
        if username == "-":
            raise BadValue("a USER of - needs the option noAuth or gssapi")
        credentials = Credentials(parse_username(username), parse_password(password))
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


def _parse_options(text: str) -> set[str]:
    """Options apart by commas, in lower case; no text means none."""
    options = {option.strip().lower() for option in text.split(",")} if text else set()
    if not options <= {option.lower() for option in _OPTIONS}:
        raise BadValue(f"the options of direct:, apart by commas, are {', '.join(_OPTIONS)}")
    return options
