"""Dialling early, where the test plays the agent: when it is done, what it leaves behind, and how it ends."""

import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from clock import Clock
from hypothesis import given
from hypothesis import strategies as st
from servers.processes import wait_until
from servers.scripted import Fault, ScriptedSmarthost, Stage

from sendooway import early
from sendooway.early import EarlyDial, EarlyDials, Outcome
from sendooway.log import open_log
from sendooway.net.stream import SocketTransport, Stopping, Stream
from sendooway.pool import Pool
from sendooway.privsep.channel import pair
from sendooway.privsep.client import Agent, AgentError
from sendooway.privsep.messages import (
    AccountFound,
    AccountMissing,
    LookUp,
    LookUpFailed,
    Message,
    SaslBegin,
    SaslResponse,
    SaslUnavailable,
)
from sendooway.secret import Secret
from sendooway.smarthost import Wishes

SENDER = "alice@moon.test"
PRINT = b"alice at moon"


@dataclass
class Rig:
    """One session of alice, its agent and its client; and the descriptor that stops the whole process."""

    dials: EarlyDials
    log_file: Path
    stack: ExitStack
    answers: dict[type[Message], Message] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ours, self.channel = pair()
        self.agent = Agent(ours, 0.0)
        sock, self.client_end = socket.socketpair()
        self.stopped, self.stop = socket.socketpair()
        self.client = Stream(SocketTransport(sock), self.stopped.fileno())
        self.log = open_log(str(self.log_file))
        for closable in (ours, self.channel, sock, self.client_end, self.stopped, self.stop, self.log):
            self.stack.callback(closable.close)

    def begin(self, user: str = "alice") -> EarlyDial | None:
        wishes = Wishes("proxy.test", None, ssl.create_default_context())
        dial = self.dials.begin(user, self.agent, wishes, self.log)
        if dial is not None:
            self.stack.callback(dial.leave)
        return dial

    def dial(self) -> EarlyDial:
        """Alice's last mail was from SENDER, and she has logged in."""
        self.dials.accepted("alice", SENDER, PRINT)
        dial = self.begin()
        assert dial is not None
        return dial

    def answer(self, question: Message, answer: Message) -> None:
        assert self.channel.receive(frozenset({type(question)}), 10) == question
        self.channel.send(answer)

    def find(self, answer: Message) -> None:
        self.answer(LookUp(SENDER, ahead=True), answer)


@pytest.fixture
def smarthost() -> Iterator[ScriptedSmarthost]:
    with ScriptedSmarthost() as smarthost:
        yield smarthost


@pytest.fixture
def rig(tmp_path: Path, clock: Clock) -> Iterator[Rig]:
    with ExitStack() as stack:
        pool = Pool(30, clock)
        stack.callback(pool.close)
        yield Rig(EarlyDials(pool, None), tmp_path / "log", stack)


def account(smarthost: ScriptedSmarthost) -> AccountFound:
    """Without a login, so that its agent need not be asked for one."""
    return AccountFound(0, "rc:1", "", "127.0.0.1", smarthost.port, "none", True, PRINT)


# What is remembered


def test_of_a_user_who_has_sent_nothing_nothing_is_dialled(rig: Rig) -> None:
    assert rig.begin() is None
    rig.dials.accepted("bob", SENDER, PRINT)
    assert rig.begin() is None


def test_the_null_reverse_path_is_nobody_to_dial_for(rig: Rig) -> None:
    rig.dials.accepted("alice", "", PRINT)
    assert rig.begin() is None
    rig.dials.accepted("alice", SENDER, PRINT)
    rig.dials.accepted("alice", "", PRINT)
    assert rig.begin() is not None
    rig.find(AccountMissing(()))


class Unlucky(Agent):
    """Finds no account, and remembers whose was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def look_up(self, reverse_path: str, *, ahead: bool = False) -> AccountMissing:
        self.asked.append(reverse_path)
        return AccountMissing(())


users = st.sampled_from(["alice", "bob", "carol", "dave"])
senders = st.sampled_from(["", "a@moon.test", "b@moon.test"])


@given(st.lists(st.tuples(users, st.none() | senders), max_size=30))
def test_each_accepted_mail_pays_for_one_attempt_of_the_same_user_at_most(
    history: list[tuple[str, str | None]],
) -> None:
    """A history of accepted mails, and of logins (None). Of three users the last sender is known."""
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setattr(early, "MAX_USERS", 3)
        pool, log = Pool(0), open_log(os.devnull)
        stack.callback(pool.close)
        stack.callback(log.close)
        dials = EarlyDials(pool, None)
        wishes = Wishes("proxy.test", None, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        paid: dict[str, str] = {}  # who sent last comes last
        for user, sender in history:
            if sender is None:
                agent = Unlucky()
                if dial := dials.begin(user, agent, wishes, log):
                    dial.leave()
                assert agent.asked == ([paid.pop(user)] if user in paid else [])
                continue
            dials.accepted(user, sender, PRINT)
            if sender:
                paid.pop(user, None)
                paid[user] = sender
                paid = dict(list(paid.items())[-3:])


def test_after_a_mail_through_an_account_that_is_not_kept_nothing_is_dialled(rig: Rig) -> None:
    rig.dials.accepted("alice", SENDER, PRINT)
    rig.dials.accepted("alice", "alice@sun.test", b"")
    assert rig.begin() is None


def test_no_more_than_so_many_dial_at_a_time(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(early, "MAX_AT_A_TIME", 1)
    dial = rig.dial()
    rig.dials.accepted("bob", SENDER, PRINT)
    assert rig.begin("bob") is None
    rig.find(AccountMissing(()))
    dial.make_way(SENDER, rig.client)
    assert rig.begin("bob") is not None  # bob's turn was not lost
    rig.find(AccountMissing(()))


@pytest.mark.parametrize(("short", "error"), [("socket.socketpair", OSError), ("Thread.start", RuntimeError)])
def test_where_there_is_no_room_nothing_is_dialled(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, short: str, error: type[Exception]
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(early, "MAX_AT_A_TIME", 1)
    rig.dials.accepted("alice", SENDER, PRINT)
    with monkeypatch.context() as patch:
        patch.setattr(f"sendooway.early.{short}", fail)
        assert rig.begin() is None
    rig.dial()  # nobody has kept the place
    rig.find(AccountMissing(()))


# What is dialled


def test_the_connection_waits_in_the_pool_before_there_is_a_mail(rig: Rig, smarthost: ScriptedSmarthost) -> None:
    dial = rig.dial()
    login = replace(account(smarthost), username="alice")
    rig.find(login)
    rig.answer(SaslBegin(0, ("PLAIN", "LOGIN"), ()), SaslResponse("PLAIN", Secret(b"\0alice\0moon")))
    wait_until(lambda: rig.dials.pool.holds(PRINT), "the connection")
    assert smarthost.logins == ["alice"]
    assert [command[:4] for command in smarthost.commands] == [b"EHLO", b"AUTH"]
    dial.make_way(SENDER, rig.client)
    taken = rig.dials.pool.take(PRINT)
    assert taken is not None
    dial.taken(PRINT)
    assert dial.leave() is Outcome.USED
    taken.quit()


def test_in_the_pool_it_is_stopped_with_the_process_and_not_with_its_session(
    tmp_path: Path, clock: Clock, smarthost: ScriptedSmarthost
) -> None:
    with ExitStack() as stack:
        pool = Pool(30, clock)
        stack.callback(pool.close)
        stopped, stop = socket.socketpair()
        with stopped, stop:
            rig = Rig(EarlyDials(pool, stopped.fileno()), tmp_path / "log", stack)
            dial = rig.dial()
            rig.find(account(smarthost))
            dial.make_way(SENDER, rig.client)
            taken = pool.take(PRINT)
            assert taken is not None
            assert taken.stream.stop == stopped.fileno()
            taken.quit()


@pytest.mark.parametrize(
    "answer",
    [
        AccountMissing(("rc",)),
        LookUpFailed("rc:1: what?"),
        AccountFound(0, "rc:1", "alice", "127.0.0.1", 1, "none", True),
    ],
    ids=["none any more", "file broken", "not to be kept"],
)
def test_where_there_is_nothing_to_keep_nothing_is_dialled_or_logged(rig: Rig, answer: Message) -> None:
    dial = rig.dial()
    rig.find(answer)
    dial.make_way(SENDER, rig.client)
    assert dial.leave() is None
    assert rig.log_file.read_text() == ""


def test_where_a_connection_waits_already_none_is_made(rig: Rig, smarthost: ScriptedSmarthost) -> None:
    dial = rig.dial()
    rig.find(account(smarthost))
    dial.make_way(SENDER, rig.client)
    rig.dials.accepted("alice", SENDER, PRINT)
    assert rig.begin() is None
    waiting = rig.dials.pool.take(PRINT)
    assert waiting is not None
    assert rig.begin() is not None  # alice's turn was not lost
    rig.find(AccountMissing(()))
    waiting.quit()


def test_a_connection_that_the_pool_does_not_want_is_quit(rig: Rig, smarthost: ScriptedSmarthost, clock: Clock) -> None:
    clock.now = float("inf")  # far too old
    dial = rig.dial()
    rig.find(account(smarthost))
    dial.make_way(SENDER, rig.client)
    assert dial.leave() is Outcome.WASTED
    wait_until(smarthost.ended.is_set, "the end of the connection")


# How it ends


def test_a_mail_waits_for_the_connection(rig: Rig, smarthost: ScriptedSmarthost) -> None:
    dial = rig.dial()
    rig.find(account(smarthost))
    dial.make_way(SENDER, rig.client)
    assert rig.dials.pool.holds(PRINT)


def test_a_mail_of_another_sender_does_not_wait(rig: Rig) -> None:
    with ScriptedSmarthost(answers={Stage.GREETING: [Fault.HANG]}) as smarthost:
        dial = rig.dial()
        rig.find(account(smarthost))
        dial.make_way("alice@sun.test", rig.client)
        wait_until(smarthost.ended.is_set, "the end of the connection")
        assert dial.leave() is Outcome.WASTED
        assert 'reason="given up"' in rig.log_file.read_text()


def test_a_mail_does_not_wait_for_ever(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(early, "SECONDS", 1.0)
    with ScriptedSmarthost(answers={Stage.GREETING: [Fault.HANG]}) as smarthost:
        dial = rig.dial()
        rig.find(account(smarthost))
        dial.make_way(SENDER, rig.client)
        wait_until(smarthost.ended.is_set, "the end of the connection")


def test_a_server_that_stops_does_not_wait(rig: Rig) -> None:
    with ScriptedSmarthost(answers={Stage.EHLO: [Fault.HANG]}) as smarthost:
        dial = rig.dial()
        rig.find(account(smarthost))
        rig.stop.send(b"!")
        with pytest.raises(Stopping):
            dial.make_way(SENDER, rig.client)
        dial.leave()
        wait_until(smarthost.ended.is_set, "the end of the connection")


@pytest.mark.parametrize("stage", [Stage.GREETING, Stage.EHLO])
def test_a_session_that_ends_ends_the_dialling(rig: Rig, stage: Stage) -> None:
    with ScriptedSmarthost(answers={stage: [Fault.HANG]}) as smarthost:
        dial = rig.dial()
        rig.find(account(smarthost))
        assert dial.leave() in (Outcome.WASTED, None)
        assert not rig.dials.pool.holds(PRINT)


def test_a_connection_that_nobody_used_is_wasted_and_counted(rig: Rig, smarthost: ScriptedSmarthost) -> None:
    for print_ in (b"1", b"2"):
        dial = rig.dial()
        rig.find(replace(account(smarthost), fingerprint=print_))
        dial.make_way(SENDER, rig.client)
        dial.taken(b"another account's")
        assert dial.leave() is Outcome.WASTED
    one, two = rig.log_file.read_text().splitlines()
    assert f'dial-early sender="<{SENDER}>" smarthost=127.0.0.1:{smarthost.port} seconds=' in one
    assert one.endswith("dialled=1 wasted=0")
    assert two.endswith("dialled=2 wasted=1")


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ({Stage.GREETING: [b"554 No"]}, "greeting: it is not ready"),
        ({Stage.GREETING: [Fault.CLOSE]}, "greeting: it closed the connection"),
        ({Stage.AUTH: [b"535 No, not with s3cret"]}, "login: "),
    ],
)
def test_a_failure_is_for_the_log_and_the_mail_finds_out_by_itself(
    rig: Rig, answers: dict[Stage, list[bytes | Fault]], reason: str
) -> None:
    with ScriptedSmarthost(answers=answers) as smarthost:
        dial = rig.dial()
        rig.find(replace(account(smarthost), username="alice"))
        if Stage.AUTH in answers:
            rig.answer(SaslBegin(0, ("PLAIN", "LOGIN"), ()), SaslResponse("PLAIN", Secret(b"\0alice\0s3cret")))
            rig.answer(SaslBegin(0, ("PLAIN", "LOGIN"), ("PLAIN",)), SaslUnavailable("no more"))
        dial.make_way(SENDER, rig.client)
    assert dial.leave() is Outcome.FAILED
    assert f'reason="{reason}' in rig.log_file.read_text()
    assert "s3cret" not in rig.log_file.read_text()
    assert rig.begin() is None  # before another mail has been accepted


def test_an_agent_that_is_lost_ends_the_session_at_the_mail(rig: Rig) -> None:
    dial = rig.dial()
    rig.channel.close()
    with pytest.raises(AgentError, match="ended"):
        dial.make_way(SENDER, rig.client)
    assert dial.leave() is None


def test_an_agent_that_is_lost_at_the_smarthost_s_login_is_told_in_the_log(
    rig: Rig, smarthost: ScriptedSmarthost
) -> None:
    dial = rig.dial()
    rig.find(replace(account(smarthost), username="alice"))
    rig.channel.receive(frozenset({SaslBegin}), 10)
    rig.channel.close()
    with pytest.raises(AgentError, match="ended"):
        dial.make_way(SENDER, rig.client)
    assert dial.leave() is Outcome.FAILED
    assert 'reason="agent: it has ended"' in rig.log_file.read_text()
    wait_until(smarthost.ended.is_set, "the end of the connection")


def test_a_mistake_of_ours_ends_the_session_and_its_text_is_not_told(
    rig: Rig, smarthost: ScriptedSmarthost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("s3cret")

    monkeypatch.setattr(early, "connect", fail)
    dial = rig.dial()
    rig.find(account(smarthost))
    with pytest.raises(AgentError):
        dial.make_way(SENDER, rig.client)
    assert "session-crashed" in rig.log_file.read_text()
    assert "s3cret" not in rig.log_file.read_text()


def test_the_agent_is_the_session_s_again(rig: Rig, smarthost: ScriptedSmarthost) -> None:
    dial = rig.dial()
    rig.find(account(smarthost))
    dial.make_way(SENDER, rig.client)
    dial.make_way("alice@sun.test", rig.client)  # at the next mail there is nothing to wait for
    rig.channel.send(AccountMissing(()))
    assert rig.agent.look_up(SENDER) == AccountMissing(())
    assert rig.channel.receive(frozenset({LookUp}), 10) == LookUp(SENDER)
