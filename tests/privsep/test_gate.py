from collections.abc import Iterator

import pytest

from sendooway.auth.identity import Identity
from sendooway.privsep import channel
from sendooway.privsep.channel import Channel, ChannelClosed
from sendooway.privsep.gate import Gate
from sendooway.privsep.messages import (
    CheckEnded,
    CheckGranted,
    CheckPassed,
    CheckWanted,
    LoginGiven,
    SessionGiven,
    SessionVerdict,
)
from sendooway.privsep.visit import Visit

ALICE = Identity("alice", 1001, 1001, "/home/alice")


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    """The gate's, and the monitor's."""
    both = channel.pair()
    yield both
    for end in both:
        end.close()


@pytest.mark.parametrize("remembered", [False, True])
def test_a_check_waits_until_it_is_granted(ends: tuple[Channel, Channel], remembered: bool) -> None:
    gate, monitor = Gate(ends[0]), ends[1]
    monitor.send(CheckGranted(remembered))
    assert gate.wait("alice", b"proof", 10) is remembered
    assert monitor.receive(frozenset({CheckWanted}), 1) == CheckWanted("alice", b"proof")


def test_it_waits_only_so_long(ends: tuple[Channel, Channel]) -> None:
    with pytest.raises(TimeoutError):
        Gate(ends[0]).wait("alice", b"", 0.05)


def test_of_a_name_as_long_as_nobody_has_the_beginning_is_told(ends: tuple[Channel, Channel]) -> None:
    with pytest.raises(TimeoutError):
        Gate(ends[0]).wait("a" * 10_000, b"", 0.05)
    assert ends[1].receive(frozenset({CheckWanted}), 1) == CheckWanted("a" * 256, b"")


@pytest.mark.parametrize("refused", [False, True])
def test_a_failure_is_told(ends: tuple[Channel, Channel], refused: bool) -> None:
    Gate(ends[0]).failed(refused=refused)
    assert ends[1].receive(frozenset({CheckEnded}), 1) == CheckEnded(refused)


def test_a_login_that_was_right_asks_for_its_session(ends: tuple[Channel, Channel]) -> None:
    gate, monitor = Gate(ends[0]), ends[1]
    verdict = SessionVerdict(granted=True, given=True)
    monitor.send(verdict)
    session, other = channel.pair()
    assert gate.passed(ALICE, "PLAIN", session, 10) == verdict
    message, descriptors = monitor.receive_descriptors(frozenset({CheckPassed}), 1, 1)
    assert message == CheckPassed("alice", 1001, 1001, "/home/alice", "PLAIN")
    copied = channel.given(descriptors)
    copied.send(SessionVerdict(granted=False))
    assert other.receive(frozenset({SessionVerdict}), 1) == SessionVerdict(granted=False)
    for end in (session, other, copied):
        end.close()


def test_the_next_login_comes_with_its_session(ends: tuple[Channel, Channel]) -> None:
    session, other = channel.pair()
    ends[1].send(LoginGiven("1-0", "192.0.2.7"), (session.fileno(),))
    given, visit = Gate(ends[0]).next_login()
    assert visit == Visit("1-0", "192.0.2.7")
    for end in (session, other, given):
        end.close()


def test_without_a_monitor_all_may_begin() -> None:
    gate = Gate(None)
    assert not gate.wait("alice", b"", 10)
    gate.failed(refused=True)
    assert gate.passed(ALICE, "PLAIN", None, 10) == SessionVerdict(granted=True)
    assert gate.leave(further=True) is None


def test_what_became_the_user_has_no_say_in_logins_any_more(ends: tuple[Channel, Channel]) -> None:
    gate = Gate(ends[0])
    assert gate.leave(further=True) is ends[0]
    assert not gate.wait("bob", b"", 10)
    ends[1].send(SessionGiven("1-0", "", "PLAIN"))
    assert ends[0].receive(frozenset({SessionGiven}), 1) == SessionGiven("1-0", "", "PLAIN")


def test_who_gets_no_further_session_closes_the_channel(ends: tuple[Channel, Channel]) -> None:
    assert Gate(ends[0]).leave(further=False) is None
    with pytest.raises(ChannelClosed):
        ends[1].receive(frozenset({CheckEnded}), 1)
