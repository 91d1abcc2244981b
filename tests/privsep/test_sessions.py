"""What an agent does for several sessions of its user."""

import os
import select
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from privsep.running import LOGIN_SECONDS, ME, RunningAgent, StartAgent
from servers.processes import PATIENCE, wait_until

from sendooway.privsep import channel
from sendooway.privsep.channel import Channel, ChannelClosed
from sendooway.privsep.client import Agent
from sendooway.privsep.messages import (
    AccountFound,
    CheckGranted,
    CheckPassed,
    CheckWanted,
    LoginBegin,
    LoginDone,
    LookUp,
    LookUpFailed,
    SaslBegin,
    SaslContinue,
    SessionGiven,
    SessionOver,
    SessionVerdict,
)
from sendooway.secret import Secret

CONFIGURATION = """\
authBackend = none
localname = proxy.test
userInclude = %h/.sendoowayrc
smarthostMapping = direct:alice@moon.test mx.moon.test 587 alice s3cret tls
smarthostMapping = direct:alice@sun.test mx.sun.test 465 bob t0psecret ssl
"""


class Sharing:
    """An agent in which one session, `s1`, has logged in, and its monitor."""

    def __init__(self, agent: RunningAgent) -> None:
        self.agent = agent
        assert agent.monitor
        self.monitor = agent.monitor
        self.given: list[Channel] = []
        agent.channel.send(LoginBegin("PLAIN", Secret(f"\0{ME}\0any".encode())))
        self.monitor.receive(frozenset({CheckWanted}), PATIENCE)
        self.monitor.send(CheckGranted())
        _, beside = self.monitor.receive_descriptors(frozenset({CheckPassed}), PATIENCE)
        os.close(*beside)
        self.monitor.send(SessionVerdict(granted=True))
        agent.channel.receive(frozenset({LoginDone}), PATIENCE)

    def give(self, session: str) -> Channel:
        """The proxy's end of a session more."""
        ours, theirs = channel.pair()
        self.monitor.send(SessionGiven(session, "192.0.2.8", "LOGIN"), (theirs.fileno(),))
        theirs.close()
        self.given.append(ours)
        return ours

    def welcomed(self, session: str) -> Agent:
        ours = self.give(session)
        assert ours.receive(frozenset({LoginDone}), PATIENCE) == LoginDone(ME, "proxy.test", False, True, None, False)
        return Agent(ours, LOGIN_SECONDS)

    def over(self) -> str:
        message = self.monitor.receive(frozenset({SessionOver}), PATIENCE)
        assert isinstance(message, SessionOver)
        return message.session


@pytest.fixture
def sharing(start_agent: StartAgent, log_file: Path) -> Iterator[Sharing]:
    sharing = Sharing(start_agent(CONFIGURATION, monitored=True))
    yield sharing
    for end in sharing.given:
        end.close()


def test_each_session_is_logged_with_its_own_client_and_mechanism(sharing: Sharing, log_file: Path) -> None:
    sharing.welcomed("s2")
    first, second = (line for line in log_file.read_text().splitlines() if " login " in line)
    assert f"rip=192.0.2.7 user={ME} mech=PLAIN session=s1" in first
    assert f"rip=192.0.2.8 user={ME} mech=LOGIN session=s2" in second


def test_each_session_has_its_own_accounts_and_dialogues(sharing: Sharing) -> None:
    first, second = Agent(sharing.agent.channel, LOGIN_SECONDS), sharing.welcomed("s2")
    moon, sun = first.look_up("alice@moon.test"), second.look_up("alice@sun.test")
    assert isinstance(moon, AccountFound)
    assert isinstance(sun, AccountFound)
    # Both are the first of their sessions, and what one begins the other does not go on with.
    assert (moon.number, sun.number) == (0, 0)
    first.begin_sasl(0, ("CRAM-MD5",), ())
    assert second.begin_sasl(0, ("PLAIN",), ()) != first.begin_sasl(0, ("PLAIN",), ())


def test_a_question_out_of_order_ends_the_agent_and_no_session_but_its_own(sharing: Sharing, log_file: Path) -> None:
    sharing.agent.channel.send(LookUp("alice@moon.test"))
    sharing.agent.channel.receive(frozenset({AccountFound}), PATIENCE)
    sharing.agent.channel.send(SaslBegin(0, ("CRAM-MD5",), ()))
    sharing.welcomed("s2")
    sharing.given[0].send(SaslContinue(b"<challenge>"))
    assert sharing.agent.end() == os.EX_SOFTWARE
    assert "agent-ends rip=192.0.2.8 session=s2" in log_file.read_text()
    # The monitor lets the others go on.
    assert sharing.over() == "s2"
    with pytest.raises(ChannelClosed):
        sharing.monitor.receive(frozenset(), PATIENCE)


def test_the_monitor_hears_of_each_end_and_the_others_go_on(sharing: Sharing) -> None:
    second = sharing.welcomed("s2")
    sharing.agent.channel.close()
    assert sharing.over() == "s1"
    assert isinstance(second.look_up("alice@moon.test"), AccountFound)
    second.close()
    assert sharing.over() == "s2"
    third = sharing.welcomed("s3")
    assert isinstance(third.look_up("alice@moon.test"), AccountFound)


def test_a_proxy_that_is_gone_by_then_ends_its_session(sharing: Sharing) -> None:
    sharing.give("s2").close()
    assert sharing.over() == "s2"
    assert isinstance(sharing.welcomed("s3"), Agent)


def test_a_proxy_that_does_not_listen_keeps_no_other_session_waiting(sharing: Sharing) -> None:
    ours, theirs = channel.pair()
    sharing.given.append(ours)
    sharing.monitor.send(SessionGiven("s2", "192.0.2.8", "PLAIN"), (theirs.fileno(),))
    with socket.socket(fileno=theirs.detach()) as copy:
        # For ever, and for the agent's copy, too.
        copy.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", 0, 0))

        def is_over() -> bool:
            with suppress(TimeoutError, ChannelClosed):
                while True:
                    ours.send(LookUp("alice@moon.test"), wait=False)
            return bool(select.select([sharing.monitor], [], [], 0)[0])

        wait_until(is_over, "the end of the session")
    assert sharing.over() == "s2"
    assert isinstance(Agent(sharing.agent.channel, LOGIN_SECONDS).look_up("alice@moon.test"), AccountFound)


def test_it_ends_with_its_last_session_when_it_gets_no_more(sharing: Sharing) -> None:
    second = sharing.welcomed("s2")
    sharing.monitor.close()
    sharing.agent.channel.close()
    assert isinstance(second.look_up("alice@moon.test"), AccountFound)
    second.close()
    assert sharing.agent.end() == 0


def test_without_a_session_it_ends_when_the_monitor_says_so(sharing: Sharing) -> None:
    sharing.agent.channel.close()
    assert sharing.over() == "s1"
    sharing.monitor.close()
    assert sharing.agent.end() == 0


def test_each_session_reads_the_users_own_file_anew(
    start_agent: StartAgent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own"
    configuration = CONFIGURATION.replace("%h/.sendoowayrc", str(own))
    sharing = Sharing(start_agent(configuration, monitored=True))
    sharing.welcomed("s2")
    own.touch(0o600)
    own.write_text("nonsense\n")
    third = sharing.welcomed("s3")
    assert isinstance(third.look_up("alice@moon.test"), LookUpFailed)
    own.unlink()
    fourth = sharing.welcomed("s4")
    assert isinstance(fourth.look_up("alice@moon.test"), AccountFound)
    for end in sharing.given:
        end.close()


@pytest.mark.parametrize("message", [LookUp("a@b"), SessionOver("s1"), LoginBegin("PLAIN", None)])
def test_what_the_monitor_never_says_ends_it(sharing: Sharing, message: LookUp | SessionOver | LoginBegin) -> None:
    sharing.monitor.send(message)
    assert sharing.agent.end() == os.EX_SOFTWARE


def test_a_session_without_its_channel_ends_it(sharing: Sharing) -> None:
    sharing.monitor.send(SessionGiven("s2", "192.0.2.8", "PLAIN"))
    assert sharing.agent.end() == os.EX_SOFTWARE
    with pytest.raises(ChannelClosed):
        sharing.agent.channel.receive(frozenset(), PATIENCE)
