"""Find the account that serves a sender, and list what the mappings give."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial

from sendooway.accounts import direct, fetchmail, getmail, msmtp, netrc, pattern, putmail
from sendooway.accounts.account import (
    Account,
    AccountsError,
    Credentials,
    FromNetrc,
    NoAccount,
    NoAccountFile,
    Unusable,
)
from sendooway.accounts.entry import Entry, Listing, Problem, Searched
from sendooway.accounts.mailbox import is_mailbox_of
from sendooway.accounts.user_file import UserFiles
from sendooway.auth.identity import Identity
from sendooway.config import MAX_MAPPINGS, Mapping
from sendooway.origin import Origin

_Source = Callable[[Mapping, Identity, UserFiles], Listing]
_Parse = Callable[[str, str, Identity], Listing]

_CONTROLS = re.compile("[\x00-\x1f\x7f]")


def look_up(
    reverse_path: str, mappings: Sequence[Mapping], user: Identity, files: UserFiles, last: Account | None
) -> Account:
    """The account that serves a reverse-path (without angle brackets, empty for the null one).

    The first mapping with any match wins; within it, an exact pattern beats one that matches without the sub-address
    (`alice+x@` is `alice@`), beats `*@domain`, beats `*`; among equals the first. The null reverse-path matches `<>`,
    else `*`, else it is served by `last`, the account used last in this session.

    Sources are read in order until one matches; what they gave is remembered for as long as their files are the same.
    Raises NoAccount, and AccountsError where a source on the way cannot be used or the account cannot log in.
    """
    if len(mappings) > MAX_MAPPINGS:
        raise AccountsError(mappings[MAX_MAPPINGS].origin, f"no more than {MAX_MAPPINGS} smarthostMapping lines")
    netrcs = tuple(mapping for mapping in mappings if mapping.source == "netrc")
    searched: list[str] = []
    for mapping in mappings:
        searched_here, served = files.remember((mapping, netrcs), partial(_read, mapping, user, files, netrcs))
        searched += searched_here
        match _best(reverse_path, served):
            case Account() as account:
                return account
            case Unusable() as unusable:
                raise AccountsError(unusable.origin, unusable.reason)
    if not reverse_path and last:
        return last
    raise NoAccount(tuple(searched))


_Served = dict[str, Account | Unusable]
"""By their patterns, in lower case."""


def _read(
    mapping: Mapping, user: Identity, files: UserFiles, netrcs: Sequence[Mapping]
) -> tuple[tuple[str, ...], _Served]:
    """The names of what one mapping searches, and the accounts that it gives by their patterns."""
    listing = list_accounts(mapping, user, files, netrcs)
    return tuple(map(str, listing.searched)), _served(entry.account for entry in listing.entries if entry.account)


def find_mailbox(address: str, mappings: Sequence[Mapping], user: Identity, files: UserFiles) -> Entry | None:
    """The first mailbox without an account that obviously has this address. Raises AccountsError."""
    for mapping in mappings:
        for entry in list_accounts(mapping, user, files).entries:
            if is_mailbox_of(address, entry):
                return entry
    return None


def list_accounts(mapping: Mapping, user: Identity, files: UserFiles, among: Sequence[Mapping] = ()) -> Listing:
    """All that one mapping gives, in the order of its files. A file that is not there gives nothing.

    What an account lacks to log in comes from those of the mappings `among` that are `netrc:`, if they know its host.

    Raises AccountsError, whose str is `FILE:LINE: reason`, where the mapping or a file cannot be used, as where the
    program that a file belongs to would reject it.
    """
    if mapping.source not in SOURCES:
        raise AccountsError(mapping.origin, f"the source of a mapping must be one of {', '.join(SOURCES)}")
    listing = SOURCES[mapping.source](mapping, user, files)
    netrcs = [other for other in among if other.source == "netrc"]
    if not netrcs or not any(_lacks_login(entry) for entry in listing.entries):
        return listing
    logins = _logins(netrcs, user, files)
    entries = tuple(_with_login(entry, logins) if _lacks_login(entry) else entry for entry in listing.entries)
    return Listing(listing.searched, entries, listing.problems)


def _lacks_login(entry: Entry) -> bool:
    return isinstance(entry.account, Unusable) and entry.account.lacks_login


def _logins(netrcs: Sequence[Mapping], user: Identity, files: UserFiles) -> dict[str, list[Credentials]]:
    """What the files of these mappings have for each host."""
    found: dict[str, list[Credentials]] = {}
    for mapping in netrcs:
        path = _path(mapping, user)
        try:
            machines = netrc.parse(files.read(path), _printable(path))
        except FileNotFoundError:
            continue
        for one in machines:
            if one.machine and one.login and one.password:
                credentials = Credentials(one.login, FromNetrc((one.machine,), one.login, path))
                found.setdefault(one.machine, []).append(credentials)
    return found


def _with_login(entry: Entry, logins: dict[str, list[Credentials]]) -> Entry:
    assert isinstance(entry.account, Unusable)
    account, username = entry.account.account, entry.account.username
    for credentials in logins.get(account.host, []):
        if username in ("", credentials.username):
            return replace(entry, account=replace(account, credentials=credentials))
    return entry


def select(reverse_path: str, accounts: Iterable[Account | Unusable]) -> Account | Unusable | None:
    """The account that matches best among those of one source, None if none matches."""
    return _best(reverse_path, _served(accounts))


def _served(accounts: Iterable[Account | Unusable]) -> _Served:
    """The accounts by their patterns; of several with the same one, the first."""
    served: _Served = {}
    for account in accounts:
        for address in account.patterns:
            served.setdefault(address.lower(), account)
    return served


def _best(reverse_path: str, served: _Served) -> Account | Unusable | None:
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


def _from_mapping(mapping: Mapping, user: Identity, files: UserFiles) -> Listing:
    accounts = direct.parse(_decode(mapping), mapping.origin)
    searched = Searched(f"direct: in {mapping.origin}")
    return Listing((searched,), tuple(Entry(account.origin, account) for account in accounts))


def _from_files(parse: _Parse) -> _Source:
    """The source whose argument is the path of a file, or of all files in a folder whose names match."""

    def listing(mapping: Mapping, user: Identity, files: UserFiles) -> Listing:
        path = _path(mapping, user)
        if path.endswith("/"):
            return _list_folder(f"{path}*", parse, user, files)
        if "*" in _decode(mapping).rpartition("/")[2]:
            return _list_folder(path, parse, user, files)
        return _list_file(path, parse, user, files)

    return listing


def _path(mapping: Mapping, user: Identity) -> str:
    """The path that the argument of a mapping stands for. Raises AccountsError if it is none."""
    template = _decode(mapping)
    path = expand(template, user, mapping.origin)
    if not path.startswith("/") or _CONTROLS.search(path):
        raise AccountsError(mapping.origin, f"{mapping.source}: needs an absolute path, such as %h/FILE")
    if "*" in template.rpartition("/")[0]:
        raise AccountsError(mapping.origin, "a * may stand in the last part of the path only, as in %h/.getmail/*")
    return path


def _check_netrc(text: str, file: str, user: Identity) -> Listing:
    """A netrc file has no senders, but its form has to be right."""
    netrc.parse(text, file)
    return Listing()


def _list_file(path: str, parse: _Parse, user: Identity, files: UserFiles) -> Listing:
    file = _printable(path)
    try:
        text = files.read(path)
    except FileNotFoundError:
        return Listing((Searched(file, "no such file"),))
    return Listing((Searched(file),)) + parse(text, file, user)


def _list_folder(path: str, parse: _Parse, user: Identity, files: UserFiles) -> Listing:
    """What the files give whose name matches, except those that are hidden, backups, or no account files at all."""
    folder, _, wildcards = path.rpartition("/")
    matches = re.compile(".*".join(map(re.escape, wildcards.split("*"))), re.DOTALL).fullmatch

    def wanted(name: str) -> bool:
        return bool(matches(name)) and not _BACKUP.search(name)

    try:
        names = files.names(folder or "/", wanted)
    except FileNotFoundError:
        return Listing((Searched(_printable(path), "no such folder"),))
    found = Listing((Searched(_printable(path)),))
    for name in names:
        try:
            one = _list_file(f"{folder}/{name}", parse, user, files)
        except NoAccountFile as error:
            one = Listing((), problems=(Problem(error.origin, f"skipped: {error.reason}"),))
        found += one
    return found


# Hidden files, what editors and package managers leave behind, and where getmail remembers what it has retrieved.
_BACKUP = re.compile(r"\A[.#]|\Aoldmail-|~\Z|\.(?:bak|json|old|orig|save|swp|dpkg-\w+|rpm\w+)\Z")


def _printable(path: str) -> str:
    return path.encode("utf-8", "backslashreplace").decode()


def _decode(mapping: Mapping) -> str:
    return mapping.argument.octets.decode("utf-8", "surrogateescape")


# How to read each source.
SOURCES: dict[str, _Source] = {
    "direct": _from_mapping,
    "fetchmail": _from_files(fetchmail.parse),
    "getmail": _from_files(getmail.parse),
    "msmtp": _from_files(msmtp.parse),
    "netrc": _from_files(_check_netrc),
    "putmail": _from_files(putmail.parse),
}
