"""Lines for a user's file that make an account of what was found. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from sendooway.accounts.account import Security
from sendooway.accounts.entry import Entry
from sendooway.accounts.lookup import expand
from sendooway.accounts.mailbox import address_of
from sendooway.auth.identity import Identity
from sendooway.commands.reading import Reading
from sendooway.discovery.search import Proposal

_FETCHMAIL_FLAGS = {Security.STARTTLS: "tls", Security.SMTPS: "ssl"}
_GETMAIL_TYPES = {Security.STARTTLS: "SimpleSMTPTLSSender", Security.SMTPS: "SimpleSMTPSSLSender"}


@dataclass(frozen=True)
class Stanza:
    """`where` says where in which file the lines belong. `complete`: no password has to be put in."""

    source: str
    where: str
    lines: tuple[str, ...]
    complete: bool


def stanzas(address: str, proposal: Proposal, readings: Sequence[Reading], user: Identity) -> list[Stanza]:
    """For the mailbox of this address, where a file has it, else for each file that could have the account."""
    found = []
    for reading in readings:
        for entry in reading.listing.entries:
            if entry.account is None and entry.retriever and address_of(entry.retriever) == address:
                found.append(_at(entry, reading.mapping.source, address, proposal))
    return [one for one in found if one] or [
        one for reading in readings if (one := _beside(reading, address, proposal, user))
    ]


def _at(entry: Entry, source: str, address: str, proposal: Proposal) -> Stanza | None:
    """The mailbox's own login serves, unless the smarthost is known to want another."""
    retriever = entry.retriever
    assert retriever
    same = retriever.password is not None and proposal.candidate.username in ("", retriever.username)
    match source:
        case "fetchmail":
            where = f"{entry.origin.file}, in the entry of line {entry.origin.line}, behind its user's options"
            return Stanza(source, where, _fetchmail(address, proposal, login=not same), same)
        case "getmail":
            return Stanza(source, f"{entry.origin.file}, at its end", _getmail(address, proposal, login=not same), same)
    return None


def _beside(reading: Reading, address: str, proposal: Proposal, user: Identity) -> Stanza | None:
    if reading.error is not None:
        return None
    path = expand(reading.mapping.argument.octets.decode("utf-8", "backslashreplace"), user, reading.mapping.origin)
    there = not any(name.endswith(")") for name in reading.listing.searched)
    match reading.mapping.source:
        case "fetchmail":
            where = f"{path}, at its end" if there else f"{path}, a new file that only you may read (chmod 600)"
            return Stanza("fetchmail", where, _fetchmail(address, proposal, login=True), False)
        # Such a file holds one account.
        case "getmail" if path.endswith("*"):
            path = f"{path.rstrip('*')}{address}"
            where = f"{path}, a new file that only you may read (chmod 600)"
            return Stanza("getmail", where, _getmail(address, proposal, login=True), False)
        case "getmail" if not there:
            where = f"{path}, a new file that only you may read (chmod 600)"
            return Stanza("getmail", where, _getmail(address, proposal, login=True), False)
    return None


def _fetchmail(address: str, proposal: Proposal, *, login: bool) -> tuple[str, ...]:
    candidate = proposal.candidate
    lines = [*_comment(proposal), f'#sendooway:server "{candidate.host}"']
    if candidate.port != candidate.security.default_port:
        lines.append(f"#sendooway:port {candidate.port}")
    lines.append(f"#sendooway:{_FETCHMAIL_FLAGS[candidate.security]}")
    if login:
        lines += [f'#sendooway:user "{candidate.username or address}"', '#sendooway:pass "PASSWORD"']
    return (*lines, f'#sendooway:address "{address}"')


def _getmail(address: str, proposal: Proposal, *, login: bool) -> tuple[str, ...]:
    candidate = proposal.candidate
    lines = [*_comment(proposal), "[sender]", f"type = {_GETMAIL_TYPES[candidate.security]}"]
    lines.append(f"server = {candidate.host}")
    if candidate.port != candidate.security.default_port:
        lines.append(f"port = {candidate.port}")
    if login:
        lines += [f"username = {candidate.username or address}", "password = PASSWORD"]
    return (*lines, f"address = {address}")


def _comment(proposal: Proposal) -> list[str]:
    """A mark that stays when the lines are copied."""
    return [] if proposal.confirmed else [f"# Not confirmed: is {proposal.candidate.host} really the provider's host?"]
