"""Mailboxes that have no smarthost: the search in a process of its own, and what an agent makes of it."""

import signal
from contextlib import closing
from pathlib import Path

import pytest
from privsep.running import ME, RunningAgent, StartAgent

from sendooway.accounts.account import Account, Credentials, FromNetrc, Security
from sendooway.accounts.entry import Entry, Retriever
from sendooway.config import UserSettings
from sendooway.discovery.internet import Internet
from sendooway.discovery.search import Candidate, Finding, Proposal, Search
from sendooway.log import Log
from sendooway.origin import Origin
from sendooway.privsep import guess
from sendooway.privsep.guess import Found, GuessError
from sendooway.privsep.messages import AccountFound, AccountMissing, LoginDone, LookUpFailed, SaslResponse
from sendooway.secret import Secret
from sendooway.unix import kernel

SETTINGS = UserSettings("client.test")
FOUND = Found("smtp.moon.test", 465, "smtps", "", "DNS, _submissions._tcp.moon.test")
RC = "poll pop.moon.test user alice password secret\npoll pop.sun.test user bob password secret\n"


def find(log: Log, look: object) -> Found | None:
    return guess.find("alice@moon.test", SETTINGS, log, look)  # type: ignore[arg-type]


@pytest.mark.parametrize("found", [FOUND, None])
def test_what_the_process_finds_comes_back(log: Log, found: Found | None) -> None:
    assert find(log, lambda address, settings: found if address == "alice@moon.test" else None) == found


def test_why_it_knows_nothing_comes_back(log: Log) -> None:
    def look(*_: object) -> None:
        raise GuessError("nobody answers")

    with pytest.raises(GuessError, match="nobody answers"):
        find(log, look)


def test_a_process_that_fails_is_told(log: Log, log_file: Path) -> None:
    def look(*_: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(GuessError, match="has failed; the log says why"):
        find(log, look)
    assert 'process="sendooway [discovery]" reason="ZeroDivisionError' in log_file.read_text()


def test_a_process_that_takes_too_long_is_ended(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guess, "SECONDS", 0.2)
    with closing(kernel.Children()) as children:
        before = children.numbers()
        with pytest.raises(GuessError, match=r"not found within 0\.2 seconds"):
            find(log, lambda *_: signal.pause())
        assert children.numbers() == before


OWN = Proposal(Candidate("smtp.moon.test", 465, Security.SMTPS), "DNS, _submissions._tcp.moon.test", confirmed=True)
FOREIGN = Proposal(Candidate("smtp.sun.test", 465, Security.SMTPS), "DNS", confirmed=False)


@pytest.mark.parametrize(
    ("proposals", "found"), [((OWN,), FOUND), ((FOREIGN,), None), ((FOREIGN, OWN), FOUND), ((), None)]
)
def test_only_what_is_confirmed_is_used(
    log: Log, proposals: tuple[Proposal, ...], found: Found | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(internet: Internet, search: Search) -> Finding:
        return Finding(proposals, (), False)

    monkeypatch.setattr(Internet, "answer", answer)
    assert find(log, None) == found


def test_offline_nothing_is_known(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Internet, "answer", lambda *_: Finding((), (), True))
    with pytest.raises(GuessError, match="offline"):
        find(log, None)


def test_an_address_that_no_domain_can_have_has_no_smarthost(log: Log) -> None:
    assert guess.find("alice@-moon.test", SETTINGS, log) is None


def entry(password: Secret | None, username: str = "alice") -> Entry:
    retriever = Retriever("label", "pop.moon.test", None, "POP3", True, username, None, (), password)
    return Entry(Origin("rc", 3), None, retriever)


@pytest.mark.parametrize(
    ("password", "told", "credentials"),
    [
        (Secret(b"secret"), "", Credentials("alice", Secret(b"secret"))),
        (Secret(b"secret"), "alice@moon.test", Credentials("alice@moon.test", Secret(b"secret"))),
        (None, "", Credentials("alice", FromNetrc(("label", "pop.moon.test"), "alice"))),
    ],
)
def test_the_mailboxs_own_login_serves(password: Secret | None, told: str, credentials: Credentials) -> None:
    found = Found("smtp.moon.test", 587, "starttls", told, "DNS")
    assert guess.account("alice@moon.test", entry(password), found) == Account(
        ("alice@moon.test",), "smtp.moon.test", 587, Security.STARTTLS, True, credentials, Origin("rc", 3)
    )


class Told:
    """What the search shall find; how often it was asked is in a file, for it runs in another process."""

    def __init__(self, folder: Path, found: Found | str | None) -> None:
        self._asked = folder / "asked"
        self._found = found

    def __call__(self, address: str, settings: UserSettings) -> Found | None:
        with self._asked.open("a") as file:
            file.write(f"{address}\n")
        if isinstance(self._found, str):
            raise GuessError(self._found)
        return self._found

    def asked(self) -> list[str]:
        return self._asked.read_text().split() if self._asked.exists() else []


def agent_of(start_agent: StartAgent, folder: Path, more: str = "guessAccounts = yes\n", rc: str = RC) -> RunningAgent:
    (folder / "rc").write_text(rc)
    (folder / "rc").chmod(0o600)
    agent = start_agent(f"authBackend = none\nsmarthostMapping = fetchmail:{folder}/rc\n{more}")
    assert isinstance(agent.stub.begin_login("PLAIN", f"\0{ME}\0x".encode()), LoginDone)
    return agent


def test_an_agent_serves_a_mailbox_without_a_smarthost(
    start_agent: StartAgent, tmp_path: Path, log_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told(tmp_path, FOUND)
    monkeypatch.setattr(guess, "_look", told)
    agent = agent_of(start_agent, tmp_path)
    for address in ("alice@moon.test", "Alice@Moon.test"):
        account = agent.stub.look_up(address)
        assert isinstance(account, AccountFound)
        assert account.number == 0
        assert (account.host, account.port, account.security) == ("smtp.moon.test", 465, "smtps")
        assert (account.username, account.check_certificate) == ("alice", True)
        assert account.origin == f"{tmp_path}/rc:1"
    assert told.asked() == ["alice@moon.test"]
    response = agent.stub.begin_sasl(0, ("PLAIN",), ())
    assert response == SaslResponse("PLAIN", Secret(b"\0alice\0secret"))
    assert "smarthost-found" in log_file.read_text()
    assert "secret" not in log_file.read_text()


def test_it_does_not_where_nobody_asked_for_it(
    start_agent: StartAgent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told(tmp_path, FOUND)
    monkeypatch.setattr(guess, "_look", told)
    agent = agent_of(start_agent, tmp_path, more="")
    assert isinstance(agent.stub.look_up("alice@moon.test"), AccountMissing)
    assert told.asked() == []


def test_an_account_that_is_written_down_comes_first(
    start_agent: StartAgent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told(tmp_path, FOUND)
    monkeypatch.setattr(guess, "_look", told)
    more = "guessAccounts = yes\nsmarthostMapping = direct:* mx.test 465 me secret ssl\n"
    account = agent_of(start_agent, tmp_path, more).stub.look_up("alice@moon.test")
    assert isinstance(account, AccountFound)
    assert account.host == "mx.test"
    assert told.asked() == []


@pytest.mark.parametrize("address", ["carol@moon.test", "alice@pop.moon.test", "", "alice"])
def test_nobody_elses_mailbox_is_looked_at(
    start_agent: StartAgent, tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told(tmp_path, FOUND)
    monkeypatch.setattr(guess, "_look", told)
    assert isinstance(agent_of(start_agent, tmp_path).stub.look_up(address), AccountMissing)
    assert told.asked() == []


def test_a_domain_without_a_smarthost_gives_no_account(
    start_agent: StartAgent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guess, "_look", Told(tmp_path, None))
    assert isinstance(agent_of(start_agent, tmp_path).stub.look_up("alice@moon.test"), AccountMissing)


def test_what_may_be_known_later_is_to_be_tried_later(
    start_agent: StartAgent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guess, "_look", Told(tmp_path, "nobody answers; is this machine offline?"))
    answer = agent_of(start_agent, tmp_path).stub.look_up("alice@moon.test")
    reason = f"{tmp_path}/rc:1: no smarthost for this mailbox: nobody answers; is this machine offline?"
    assert answer == LookUpFailed(reason)
