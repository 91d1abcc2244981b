"""What the mappings give, and what is wrong with it. Pure but for reading the files."""

from collections.abc import Sequence
from dataclasses import dataclass

from sendooway.accounts import pattern
from sendooway.accounts.account import Account, AccountsError, Credentials, FromCommand, FromCredential, Security
from sendooway.accounts.entry import Entry, Listing, Problem
from sendooway.accounts.lookup import list_accounts
from sendooway.commands.situation import Situation
from sendooway.config import Mapping
from sendooway.loopback import is_here
from sendooway.origin import Origin
from sendooway.privsep.password import PasswordError, Passwords
from sendooway.secret import Secret


@dataclass(frozen=True)
class Reading:
    """One mapping and what it gives. With an `error`, for which an agent would refuse it, it gives nothing."""

    mapping: Mapping
    listing: Listing
    error: AccountsError | None = None


def read_all(situation: Situation) -> tuple[Reading, ...]:
    """What each mapping gives, also those behind one that cannot be used."""
    return tuple(_read(mapping, situation) for mapping in situation.mappings)


def _read(mapping: Mapping, situation: Situation) -> Reading:
    try:
        return Reading(mapping, list_accounts(mapping, situation.user, situation.files, situation.mappings))
    except AccountsError as error:
        return Reading(mapping, Listing(()), error)


def missing_password(credentials: Credentials, passwords: Passwords) -> str | None:
    """Why there is no password; None where there is one. No command is run to learn it."""
    if isinstance(credentials.password, FromCommand | FromCredential):
        return None
    try:
        passwords.fetch(credentials.password)
    except PasswordError as error:
        return str(error)
    return None


def problems(readings: Sequence[Reading], situation: Situation) -> tuple[Problem, ...]:
    """What the user should know and might change, in the order of the mappings."""
    found: list[Problem] = []
    told: set[str] = set()
    for reading in readings:
        found += reading.listing.problems
        for entry in reading.listing.entries:
            found += _of_account(entry, situation.passwords)
            file = entry.origin.file
            if file in situation.files.exposed and file not in told and _holds_secret(entry):
                told.add(file)
                found.append(Problem(Origin(file, 0), f"others may read its passwords: `chmod go-r {file}`"))
    return (*found, *_shadowed(readings))


def _holds_secret(entry: Entry) -> bool:
    account = entry.account
    return bool(
        (isinstance(account, Account) and account.credentials and isinstance(account.credentials.password, Secret))
        or (entry.retriever is not None and entry.retriever.password is not None)
    )


def _of_account(entry: Entry, passwords: Passwords) -> list[Problem]:
    match entry.account:
        case None:
            return []
        case Account() as account:
            if account.credentials is None:
                return []
            texts = [missing_password(account.credentials, passwords)]
            if account.security is Security.NONE and not is_here(account.host):
                texts.append(f"the password for {account.host} crosses the network in clear; with TLS it would not")
            return [Problem(account.origin, text) for text in texts if text]
        case unusable:
            return [Problem(unusable.origin, unusable.reason)]


def _shadowed(readings: Sequence[Reading]) -> list[Problem]:
    """Patterns that no sender can come to: a source before them, or a line before them, takes all of theirs."""
    found: list[Problem] = []
    before: dict[str, Origin] = {}
    for reading in readings:
        here: dict[str, Origin] = {}
        for entry in reading.listing.entries:
            for address in entry.patterns:
                sender = "" if address == "<>" else address
                earlier = next((before[other] for other in pattern.matching(sender) if other in before), None)
                earlier = earlier or here.get(address.lower())
                if earlier is not None:
                    found.append(Problem(entry.origin, f"{address} is never looked up here: {earlier} serves it"))
                here.setdefault(address.lower(), entry.origin)
        for address, origin in here.items():
            before.setdefault(address, origin)
    return found
