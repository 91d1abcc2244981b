"""Lines for a user's file that make an account of what was found. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sendooway.accounts.account import Security
from sendooway.accounts.entry import Entry, Searched
from sendooway.accounts.lookup import expand
from sendooway.accounts.mailbox import is_mailbox_of
from sendooway.auth.identity import Identity
from sendooway.commands.reading import Reading
from sendooway.discovery.search import Candidate, Proposal


@dataclass(frozen=True)
class Stanza:
    """The lines of one account. `where` says in which file, and where in it, they belong; `source` is that of the
    mapping that reads it. `complete`: no password has to be put in."""

    source: str
    where: str
    lines: tuple[str, ...]
    complete: bool


def stanzas(address: str, proposal: Proposal, readings: Sequence[Reading], user: Identity) -> list[Stanza]:
    """The stanzas that make an account of the proposal: in the entry of this mailbox, where a file has one, else one
    for each file that could hold the account."""
    found = []
    for reading in readings:
        for entry in reading.listing.entries:
            if is_mailbox_of(address, entry):
                found.append(_at(entry, reading.mapping.source, address, proposal))
    return [one for one in found if one] or [
        one for reading in readings if (one := _beside(reading, address, proposal, user))
    ]


def _at(entry: Entry, source: str, address: str, proposal: Proposal) -> Stanza | None:
    """The stanza in the mailbox's own entry, whose login serves unless the smarthost is known to want another one. None
    where files of this source have no entries of mailboxes."""
    retriever = entry.retriever
    assert retriever
    same = retriever.password is not None and proposal.candidate.username in ("", retriever.username)
    file, line = entry.origin.file, entry.origin.line
    match source:
        case "fetchmail":
            where = f"{file}, in the entry of line {line}, behind its user's options"
        case "getmail":
            where = f"{file}, at its end"
        case _:
            return None
    return Stanza(source, where, _lines(source, address, proposal, login=not same), same)


def _beside(reading: Reading, address: str, proposal: Proposal, user: Identity) -> Stanza | None:
    source = reading.mapping.source
    if reading.error is not None or source not in _FORMATS:
        return None
    path = expand(reading.mapping.argument.octets.decode("utf-8", "backslashreplace"), user, reading.mapping.origin)
    there = Searched(path) in reading.listing.searched
    if path.endswith(("/", "*")):
        path, there = f"{path.rpartition('/')[0]}/{address}", False
    if (there and source in _ONE_A_FILE) or not _possible(source, proposal):
        return None
    where = f"{path}, at its end" if there else f"{path}, a new file that only you may read (chmod 600)"
    return Stanza(source, where, _lines(source, address, proposal, login=True), False)


def _possible(source: str, proposal: Proposal) -> bool:
    """putmail knows no TLS but STARTTLS."""
    return source != "putmail" or proposal.candidate.security is Security.STARTTLS


def _lines(source: str, address: str, proposal: Proposal, *, login: bool) -> tuple[str, ...]:
    """Where the proposal is not confirmed, the first line is a comment that says so, also when they are copied."""
    candidate = proposal.candidate
    doubt = () if proposal.confirmed else (f"# Not confirmed: is {candidate.host} really the provider's host?",)
    username = (candidate.username or address) if login else ""
    return doubt + _FORMATS[source](address, candidate, username)


# Each makes an account of an address, a smarthost and a user name there, which is empty where the mailbox's own login
# serves.


def _fetchmail(address: str, candidate: Candidate, username: str) -> tuple[str, ...]:
    lines = [f'#sendooway:server "{candidate.host}"']
    if candidate.port != candidate.security.default_port:
        lines.append(f"#sendooway:port {candidate.port}")
    lines.append(f"#sendooway:{'tls' if candidate.security is Security.STARTTLS else 'ssl'}")
    if username:
        lines += [f'#sendooway:user "{username}"', '#sendooway:pass "PASSWORD"']
    return (*lines, f'#sendooway:address "{address}"')


def _getmail(address: str, candidate: Candidate, username: str) -> tuple[str, ...]:
    kind = "SimpleSMTPTLSSender" if candidate.security is Security.STARTTLS else "SimpleSMTPSSLSender"
    lines = ["[sender]", f"type = {kind}", f"server = {candidate.host}"]
    if candidate.port != candidate.security.default_port:
        lines.append(f"port = {candidate.port}")
    if username:
        lines += [f"username = {username}", "password = PASSWORD"]
    return (*lines, f"address = {address}")


def _msmtp(address: str, candidate: Candidate, username: str) -> tuple[str, ...]:
    return (
        f"account {address}",
        f"host {candidate.host}",
        f"port {candidate.port}",
        "tls on",
        f"tls_starttls {'on' if candidate.security is Security.STARTTLS else 'off'}",
        "auth on",
        f"from {address}",
        f"user {username}",
        "password PASSWORD",
    )


def _putmail(address: str, candidate: Candidate, username: str) -> tuple[str, ...]:
    return (
        "[config]",
        f"server = {candidate.host}",
        f"port = {candidate.port}",
        "tls = on",
        f"email = {address}",
        f"username = {username}",
        "password = PASSWORD",
    )


_FORMATS: dict[str, Callable[[str, Candidate, str], tuple[str, ...]]] = {
    "fetchmail": _fetchmail,
    "getmail": _getmail,
    "msmtp": _msmtp,
    "putmail": _putmail,
}
_ONE_A_FILE = ("getmail", "putmail")
