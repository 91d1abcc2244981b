"""Find the account that serves a sender."""

import re
from collections.abc import Callable, Sequence

from sendooway.accounts import direct, fetchmail, getmail, pattern
from sendooway.accounts.account import Account, AccountsError, NoAccount, Origin, Unusable
from sendooway.auth.identity import Identity
from sendooway.config import Mapping

MAX_MAPPINGS = 1000

_Accounts = tuple[Account | Unusable, ...]
_Read = Callable[[str], str]
_Source = Callable[[Mapping, Identity, _Read], tuple[str, _Accounts]]

_CONTROLS = re.compile("[\x00-\x1f\x7f]")


def look_up(
    reverse_path: str, mappings: Sequence[Mapping], user: Identity, read: _Read, last: Account | None
) -> Account:
    """The account for a reverse-path (without angle brackets, empty for the null one).

    The first mapping with any match wins; within it, an exact pattern beats one that matches without the sub-address
    (`alice+x@` is `alice@`), beats `*@domain`, beats `*`; among equals the first. The null reverse-path matches `<>`,
    else `*`, else it is served by `last`, the account used last in this session.

    `read` gives the text of the file at a path, decoded from UTF-8 with `surrogateescape`, or raises FileNotFoundError
    (the file then is just searched in vain) or AccountsError. Sources are read in order until one matches.

    Raises NoAccount, and AccountsError where a source on the way cannot be used or the account cannot log in.
    """
    if len(mappings) > MAX_MAPPINGS:
        raise AccountsError(mappings[MAX_MAPPINGS].origin, f"no more than {MAX_MAPPINGS} smarthostMapping lines")
    searched: list[str] = []
    for mapping in mappings:
        if mapping.source not in SOURCES:
            raise AccountsError(mapping.origin, f"the source of a mapping must be one of {', '.join(SOURCES)}")
        name, accounts = SOURCES[mapping.source](mapping, user, read)
        searched.append(name)
        match select(reverse_path, accounts):
            case Account() as account:
                return account
            case Unusable() as unusable:
                raise AccountsError(unusable.origin, unusable.reason)
    if not reverse_path and last:
        return last
    raise NoAccount(tuple(searched))


def select(reverse_path: str, accounts: _Accounts) -> Account | Unusable | None:
    """Of the accounts of one source, the one that matches best."""
    served: dict[str, Account | Unusable] = {}
    for account in accounts:
        for address in account.patterns:
            served.setdefault(address.lower(), account)
    return next((served[address] for address in pattern.matching(reverse_path) if address in served), None)


def expand(text: str, user: Identity, origin: Origin) -> str:
    """Put the name for `%u`, the home folder for `%h` and a percent sign for `%%`. Nothing else may follow a %.

    Raises AccountsError with `origin` for another sequence.
    """
    values = {"u": user.name, "h": user.home, "%": "%"}

    def value(sequence: re.Match[str]) -> str:
        if sequence[1] not in values:
            raise AccountsError(origin, "a % must be followed by u (user name), h (home folder) or another %")
        return values[sequence[1]]

    return re.sub(r"%(.?)", value, text, flags=re.DOTALL)


def _from_mapping(mapping: Mapping, user: Identity, read: _Read) -> tuple[str, _Accounts]:
    return f"direct: in {mapping.origin}", direct.parse(_decode(mapping), mapping.origin)


def _from_file(parse: Callable[[str, str], _Accounts]) -> _Source:
    def accounts(mapping: Mapping, user: Identity, read: _Read) -> tuple[str, _Accounts]:
        path = expand(_decode(mapping), user, mapping.origin)
        if not path.startswith("/") or _CONTROLS.search(path):
            raise AccountsError(mapping.origin, f"{mapping.source}: needs an absolute path, such as %h/FILE")
        file = path.encode("utf-8", "backslashreplace").decode()
        try:
            text = read(path)
        except FileNotFoundError:
            return f"{file} (no such file)", ()
        return file, parse(text, file)

    return accounts


def _decode(mapping: Mapping) -> str:
    return mapping.argument.octets.decode("utf-8", "surrogateescape")


# How to read each source: what was searched, printable and without secrets, and the accounts in it.
SOURCES: dict[str, _Source] = {
    "direct": _from_mapping,
    "fetchmail": _from_file(fetchmail.parse),
    "getmail": _from_file(getmail.parse),
}
