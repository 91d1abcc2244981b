"""The lines that are proposed: where they belong, and that they mean what was found."""

from pathlib import Path

import pytest

from sendooway.accounts import fetchmail, getmail, msmtp, putmail
from sendooway.accounts.account import Account, Security
from sendooway.accounts.lookup import list_accounts
from sendooway.accounts.user_file import UserFiles
from sendooway.auth.identity import Identity
from sendooway.commands.reading import Reading
from sendooway.commands.situation import who_asks
from sendooway.commands.stanza import Stanza, stanzas
from sendooway.config import Mapping
from sendooway.discovery.search import Candidate, Proposal
from sendooway.origin import Origin
from sendooway.secret import Secret

USUAL = Proposal(Candidate("smtp.moon.test", 465, Security.SMTPS), "DNS", confirmed=True)
ODD = Proposal(Candidate("mx.moon.test", 2525, Security.STARTTLS, "alice"), "DNS", confirmed=True)
FOREIGN = Proposal(Candidate("smtp.sun.test", 465, Security.SMTPS), "DNS", confirmed=False)
GETMAILRC = "[retriever]\ntype = SimplePOP3SSLRetriever\nserver = pop.moon.test\nusername = {}\npassword = secret\n"


@pytest.fixture
def user(tmp_path: Path) -> Identity:
    me = who_asks()
    return Identity(me.name, me.uid, me.gid, str(tmp_path))


def propose(user: Identity, proposal: Proposal, *sources: str) -> list[Stanza]:
    mappings = [Mapping(*_parts(text), Origin("conf", number)) for number, text in enumerate(sources, 1)]
    readings = [Reading(mapping, list_accounts(mapping, user, UserFiles(user.uid))) for mapping in mappings]
    return stanzas("alice@moon.test", proposal, readings, user)


def _parts(text: str) -> tuple[str, Secret]:
    source, _, argument = text.partition(":")
    return source, Secret(argument.encode())


def write(user: Identity, name: str, text: str) -> None:
    path = Path(user.home) / name
    path.write_text(text)
    path.chmod(0o600)


BOTH = ("getmail:%h/getmailrc", "fetchmail:%h/fetchmailrc")
ALL = (*BOTH, "msmtp:%h/msmtprc", "putmail:%h/putmail/")
PARSE = {"fetchmail": fetchmail.parse, "getmail": getmail.parse, "msmtp": msmtp.parse, "putmail": putmail.parse}


@pytest.mark.parametrize(("proposal", "sources"), [(USUAL, 3), (ODD, 4), (FOREIGN, 3)])
def test_the_lines_mean_the_account_that_was_found(user: Identity, proposal: Proposal, sources: int) -> None:
    found = propose(user, proposal, *ALL)
    assert len(found) == sources
    for stanza in found:
        text = "".join(f"{line}\n" for line in stanza.lines)
        listing = PARSE[stanza.source](text, "rc", user)
        (entry,) = listing.entries
        account = entry.account
        assert listing.problems == ()
        assert isinstance(account, Account)
        assert account.credentials is not None
        assert account.patterns == ("alice@moon.test",)
        assert (account.host, account.port) == (proposal.candidate.host, proposal.candidate.port)
        assert (account.security, account.check_certificate) == (proposal.candidate.security, True)
        assert account.credentials.username == (proposal.candidate.username or "alice@moon.test")
        assert account.credentials.password == Secret(b"PASSWORD")


def test_what_is_not_confirmed_says_so_in_the_lines_themselves(user: Identity) -> None:
    for stanza in propose(user, FOREIGN, *ALL):
        assert stanza.lines[0] == "# Not confirmed: is smtp.sun.test really the provider's host?"


@pytest.mark.parametrize(
    ("proposal", "login", "complete"),
    [(USUAL, "alice@moon.test", True), (USUAL, "alice", True), (ODD, "alice", True), (ODD, "alice@moon.test", False)],
)
def test_the_entry_of_the_mailbox_is_named_and_its_login_used_where_it_fits(
    user: Identity, proposal: Proposal, login: str, complete: bool
) -> None:
    write(user, "fetchmailrc", f'poll pop.x.test user x pass y\npoll pop.moon.test user "{login}" pass secret\n')
    (stanza,) = propose(user, proposal, *BOTH)
    assert stanza.where == f"{user.home}/fetchmailrc, in the entry of line 2, behind its user's options"
    assert (stanza.source, stanza.complete) == ("fetchmail", complete)
    assert ('#sendooway:pass "PASSWORD"' in stanza.lines) != complete
    text = (Path(user.home) / "fetchmailrc").read_text() + "".join(f"  {line}\n" for line in stanza.lines)
    account = fetchmail.parse(text, "rc", user).entries[-1].account
    assert isinstance(account, Account)
    assert account.credentials is not None
    assert account.credentials.username == (proposal.candidate.username or login)


def test_a_getmailrc_of_the_mailbox_gets_a_section(user: Identity) -> None:
    write(user, "getmailrc", GETMAILRC.format("alice@moon.test"))
    (stanza,) = propose(user, USUAL, *BOTH)
    assert stanza.where == f"{user.home}/getmailrc, at its end"
    text = (Path(user.home) / "getmailrc").read_text() + "".join(f"{line}\n" for line in stanza.lines)
    (entry,) = getmail.parse(text, "rc", user).entries
    assert isinstance(entry.account, Account)


@pytest.mark.parametrize("login", ["bob@moon.test", "bob"])
def test_the_mailbox_of_somebody_else_is_left_alone(user: Identity, login: str) -> None:
    write(user, "getmailrc", GETMAILRC.format(login))
    write(user, "fetchmailrc", "# mine\n")
    (stanza,) = propose(user, USUAL, *BOTH)
    assert stanza.where == f"{user.home}/fetchmailrc, at its end"


@pytest.mark.parametrize("source", ["getmail:%h/*", "getmail:%h/", "putmail:%h/"])
def test_a_folder_gets_a_file(user: Identity, source: str) -> None:
    (stanza,) = propose(user, ODD, source, "direct:*@x.test h.test 25 a b", "netrc:%h/.netrc")
    assert stanza.where == f"{user.home}/alice@moon.test, a new file that only you may read (chmod 600)"
