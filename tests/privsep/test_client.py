"""The proxy's side, when the agent or the monitor does not do as agreed."""

import os
import select
import threading
from collections.abc import Callable, Iterator

import pytest
from privsep.running import LOGIN_SECONDS

from sendooway.net.stream import PipeTransport, Stream
from sendooway.privsep import client, command, guess
from sendooway.privsep.acting import AT_A_TIME
from sendooway.privsep.channel import Channel, pair
from sendooway.privsep.client import Agent, AgentError
from sendooway.privsep.messages import (
    AccountFound,
    AccountMissing,
    AgentWanted,
    LoginBegin,
    LoginCancel,
    LoginChallenge,
    LoginDone,
    LoginRefused,
    LookUp,
    LookUpFailed,
    Message,
    SaslBegin,
    SaslUnavailable,
)
from sendooway.privsep.request import open_request
from sendooway.privsep.time_limit import READ_SECONDS

DONE = LoginDone("alice", "proxy.test", False, True, None, False)
DONE_WITH_CA = LoginDone("alice", "proxy.test", False, True, None, True)


@pytest.fixture
def ends() -> Iterator[tuple[Agent, Channel]]:
    """A stub, and the end at which the test plays the agent."""
    ours, theirs = pair()
    yield Agent(ours, 0.0), theirs
    ours.close()
    theirs.close()


ASKING: list[Callable[[Agent], object]] = [
    lambda agent: agent.begin_login("PLAIN", b"x"),
    lambda agent: agent.continue_login(b"x"),
    lambda agent: agent.look_up("a@b"),
    lambda agent: agent.begin_sasl(0, ("PLAIN",), ()),
    lambda agent: agent.continue_sasl(b""),
]


@pytest.mark.parametrize("ask", ASKING)
def test_an_agent_that_is_gone_is_an_error(ends: tuple[Agent, Channel], ask: Callable[[Agent], object]) -> None:
    agent, theirs = ends
    theirs.close()
    with pytest.raises(AgentError, match="ended"):
        ask(agent)


@pytest.mark.parametrize("ask", ASKING)
def test_an_agent_that_does_not_answer_is_an_error(
    ends: tuple[Agent, Channel], ask: Callable[[Agent], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LOGIN_SECONDS", "ANSWER_SECONDS"):
        monkeypatch.setattr(client, name, 0.01)
    with pytest.raises(AgentError, match="does not answer"):
        ask(ends[0])


@pytest.mark.parametrize(
    ("ask", "answer"),
    [
        (ASKING[0], AccountMissing(())),
        (ASKING[0], LoginBegin("PLAIN", None)),
        (ASKING[1], SaslUnavailable("")),
        (ASKING[2], LoginChallenge(b"")),
        (ASKING[3], LookUpFailed("")),
        (ASKING[4], DONE),
    ],
)
def test_an_answer_to_another_question_is_an_error(
    ends: tuple[Agent, Channel], ask: Callable[[Agent], object], answer: Message
) -> None:
    ends[1].send(answer)
    with pytest.raises(AgentError, match="not allowed"):
        ask(ends[0])


@pytest.mark.parametrize(("answer", "beside"), [(DONE, 1), (DONE_WITH_CA, 0), (LoginRefused("later", False), 1)])
def test_descriptors_that_do_not_fit_the_answer_are_an_error(
    ends: tuple[Agent, Channel], answer: Message, beside: int
) -> None:
    before = os.listdir("/proc/self/fd")
    ends[1].send(answer, [0] * beside)
    with pytest.raises(AgentError, match="descriptor"):
        ends[0].begin_login("PLAIN", b"x")
    assert os.listdir("/proc/self/fd") == before


def test_certificates_that_cannot_be_read_are_an_error(
    ends: tuple[Agent, Channel], monkeypatch: pytest.MonkeyPatch
) -> None:
    agent, theirs = ends
    folder = os.open("/", os.O_RDONLY)
    theirs.send(DONE_WITH_CA, [folder])
    os.close(folder)
    with pytest.raises(AgentError, match="cannot be read"):
        agent.begin_login("PLAIN", b"x")
    monkeypatch.setattr(client, "MAX_CA_OCTETS", 2)
    with open(__file__, "rb") as file:
        theirs.send(DONE_WITH_CA, [file.fileno()])
    with pytest.raises(AgentError, match="longer"):
        agent.begin_login("PLAIN", b"x")


def test_a_login_can_be_cancelled(ends: tuple[Agent, Channel]) -> None:
    agent, theirs = ends
    agent.cancel_login()
    assert theirs.receive(frozenset({LoginCancel}), 1) == LoginCancel()


def test_the_end_of_the_agent_can_be_waited_for(ends: tuple[Agent, Channel]) -> None:
    agent, theirs = ends
    assert select.select([agent], [], [], 0)[0] == []
    theirs.close()
    assert select.select([agent], [], [], 1)[0] == [agent]


@pytest.fixture
def stream() -> Iterator[Stream]:
    reading, writing = os.pipe()
    yield Stream(PipeTransport(reading, writing))
    os.close(reading)
    os.close(writing)


def test_the_monitor_gets_one_end_of_a_new_channel(ends: tuple[Agent, Channel], stream: Stream) -> None:
    monitor, asked = pair()
    agent = Agent.request(asked, "s1", stream, LOGIN_SECONDS)
    message, descriptors = monitor.receive_descriptors(frozenset({AgentWanted}), 1)
    request = open_request(message, descriptors, ())
    assert (request.session, request.client) == ("s1", "local")
    request.end.send(LookUpFailed("it works"))
    assert agent.look_up("a@b") == LookUpFailed("it works")
    for channel in (monitor, asked, agent, request.end):
        channel.close()


def test_an_agent_that_dies_is_followed_by_another_that_is_asked_again(stream: Stream) -> None:
    monitor, asked = pair()
    agent = Agent.request(asked, "s1", stream, LOGIN_SECONDS, user="alice")
    first = open_request(*monitor.receive_descriptors(frozenset({AgentWanted}), 1), ())
    first.end.close()
    asking = threading.Thread(target=lambda: answers.append(agent.look_up("a@b")))
    answers: list[object] = []
    asking.start()
    second = open_request(*monitor.receive_descriptors(frozenset({AgentWanted}), 10), ())
    # Who the user is, nobody has to be told any more.
    assert (first.session, first.user, second.session, second.user) == ("s1", "alice", "s1", "")
    assert second.end.receive(frozenset({LookUp}), 10) == LookUp("a@b")
    second.end.send(LookUpFailed("it works"))
    asking.join()
    assert answers == [LookUpFailed("it works")]
    second.end.close()
    monitor.close()
    with pytest.raises(AgentError, match="cannot be asked"):
        agent.look_up("a@b")
    for channel in (asked, agent):
        channel.close()


def test_all_sessions_of_an_agent_may_have_the_slowest_question() -> None:
    look_up = 4 * READ_SECONDS + guess.SECONDS  # account, mailbox, certificates, password
    log_in = 2 * (command.SECONDS + command.ORPHANS_SECONDS)  # a password, and that anew
    assert AT_A_TIME * max(look_up, log_in) < client.ANSWER_SECONDS


@pytest.mark.parametrize("ask", ASKING[3:])
def test_a_login_at_a_smarthost_fails_where_the_agent_dies_and_the_next_mail_has_another(
    ask: Callable[[Agent], object],
) -> None:
    (ours, first), (next_ours, second) = pair(), pair()
    agent = Agent(ours, LOGIN_SECONDS, successor=lambda: next_ours)
    first.close()
    assert isinstance(ask(agent), SaslUnavailable)
    second.send(LookUpFailed("it works"))
    assert agent.look_up("a@b") == LookUpFailed("it works")
    for channel in (agent, second):
        channel.close()


def test_the_accounts_of_an_agent_and_of_the_next_one_are_told_apart() -> None:
    (ours, first), (next_ours, second) = pair(), pair()
    agent = Agent(ours, LOGIN_SECONDS, successor=lambda: next_ours)
    for number in (1, 0):
        first.send(AccountFound(number, "file:1", "alice", "moon.test", 587, "tls", True))
    moon = [agent.look_up("alice@moon.test"), agent.look_up("a@b")]
    first.close()
    second.send(AccountFound(0, "file:2", "alice", "sun.test", 587, "tls", True))
    sun = agent.look_up("alice@sun.test")
    assert isinstance(sun, AccountFound)
    assert sun.number not in [account.number for account in moon if isinstance(account, AccountFound)]
    second.receive(frozenset({LookUp}), 1)
    second.send(SaslUnavailable(""))
    agent.begin_sasl(sun.number, (), ())
    assert second.receive(frozenset({SaslBegin}), 1) == SaslBegin(0, (), ())
    for channel in (agent, second):
        channel.close()


def test_a_monitor_that_is_gone_is_an_error(stream: Stream) -> None:
    monitor, asked = pair()
    monitor.close()
    with pytest.raises(AgentError, match="monitor"):
        Agent.request(asked, "s1", stream, LOGIN_SECONDS)
    asked.close()
