"""The smarthost of a mailbox that has none, looked for in a process of its own: the search waits in many threads, and
an agent must have one, so that it may fork. The process ends with its answer, or when its time is over.
"""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial

from sendooway.accounts.account import Account, Credentials, FromNetrc, Security
from sendooway.accounts.entry import Entry
from sendooway.config import UserSettings
from sendooway.log import Log
from sendooway.unix import process

# The client waits 300 for the answer to its MAIL, and logging in at the smarthost takes its time, too.
SECONDS = 15.0
_QUESTION_SECONDS = 3.0  # where nobody answers, four questions are asked one after the other
_MAX_ANSWER_OCTETS = 4096  # octets


class GuessError(Exception):
    """Nothing is known of the smarthost now; it may be later. The text says why."""


@dataclass(frozen=True)
class Found:
    """A host within the mailbox's own domain that has proved its name. `username` is empty where it was not told;
    `source` says who named it."""

    host: str
    port: int
    security: str
    username: str
    source: str


def find(
    address: str, settings: UserSettings, log: Log, look: Callable[[str, UserSettings], Found | None] | None = None
) -> Found | None:
    """The smarthost of this address by what its domain says; None: it says nothing. Raises GuessError.

    `look` is what the process does, for tests. Call it only where there is one thread.
    """
    reading, writing = os.pipe()
    try:
        work = partial(_tell, look or _look, address, settings, writing)
        pid = process.start("sendooway [discovery]", work, (writing,), log)
    except OSError as error:
        os.close(reading)
        raise GuessError(f"no process to look for it: {error.strerror}") from error
    finally:
        os.close(writing)
    octets = process.last_words(pid, reading, SECONDS, _MAX_ANSWER_OCTETS)
    if octets is None:
        raise GuessError(f"it was not found within {SECONDS:g} seconds")
    return _parse(octets)


def account(address: str, entry: Entry, found: Found) -> Account:
    """The account of a mailbox: its own login, unless the domain says another name. The password is the mailbox's."""
    retriever = entry.retriever
    assert retriever is not None
    username = found.username or retriever.username or ""
    hosts = (retriever.server, *([retriever.via] if retriever.via else ()))
    return Account(
        patterns=(address,),
        host=found.host,
        port=found.port,
        security=Security(found.security),
        check_certificate=True,
        credentials=Credentials(username, retriever.password_source or FromNetrc(hosts, retriever.username or "")),
        origin=entry.origin,
    )


def _look(address: str, settings: UserSettings) -> Found | None:
    """Raises GuessError."""
    # Only here: few agents come to it, and each of them once.
    from sendooway.discovery.internet import Internet
    from sendooway.discovery.search import BadAddress, search
    from sendooway.net.tls import TlsError, client_context

    try:
        context = client_context(settings.ssl_ca)
    except TlsError as error:
        raise GuessError(str(error)) from error
    try:
        finding = Internet(context, settings.localname, seconds=_QUESTION_SECONDS).answer(search(address))
    except BadAddress:
        return None
    if finding.offline:
        raise GuessError("nobody answers; is this machine offline?")
    for proposal in finding.proposals:
        if proposal.confirmed:
            candidate = proposal.candidate
            return Found(candidate.host, candidate.port, candidate.security.value, candidate.username, proposal.source)
    return None


def _tell(look: Callable[[str, UserSettings], Found | None], address: str, settings: UserSettings, writing: int) -> int:
    """In the new process."""
    answer: dict[str, object]
    try:
        found = look(address, settings)
        answer = {"found": None if found is None else asdict(found)}
    except GuessError as error:
        answer = {"reason": str(error)}
    os.write(writing, json.dumps(answer).encode("ascii")[:_MAX_ANSWER_OCTETS])
    return os.EX_OK


def _parse(octets: bytes) -> Found | None:
    if not octets:
        raise GuessError("the process that looks for it has failed; the log says why")
    answer = json.loads(octets)
    if "reason" in answer:
        raise GuessError(answer["reason"])
    return None if answer["found"] is None else Found(**answer["found"])
