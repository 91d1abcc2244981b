"""Which agent gets one more session of its user, and what becomes of the sessions of one that has died."""

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from selectors import EVENT_READ, EpollSelector

import pytest
from clock import Clock

from sendooway.auth.identity import Identity
from sendooway.config import Configuration, UserSettings
from sendooway.log import Log
from sendooway.privsep import acting, channel
from sendooway.privsep.acting import AT_A_TIME, IDLE_SECONDS, LONGEST_LIFE, ORPHAN_SECONDS, Acting
from sendooway.privsep.channel import Channel, ChannelClosed
from sendooway.privsep.messages import LookUp, Message, SessionGiven, SessionOver
from sendooway.privsep.snapshot import Snapshot
from sendooway.privsep.visit import Visit

ALICE = Identity("alice", 1001, 1001, "/home/alice")
SNAPSHOT = Snapshot("sendooway.conf", Configuration(UserSettings("proxy.test")), -1)
PROXY = 7


class Office:
    """Some agents, whose ends of their channels the test holds."""

    def __init__(self, databases: list[str], clock: Clock, log: Log) -> None:
        self.selector = EpollSelector()
        self.acting = Acting(self.selector, databases, clock)
        self.ends: dict[int, Channel] = {}
        self._log = log
        self._given = 0

    def begin(
        self, pid: int, identity: Identity = ALICE, snapshot: Snapshot = SNAPSHOT, *, bound: bool = False
    ) -> None:
        """Its first session has the id `PID-0`."""
        ours, self.ends[pid] = channel.pair()
        self.selector.register(ours, EVENT_READ)
        visit = Visit(f"{pid}-0", "192.0.2.7", PROXY)
        self.acting.begin(pid, identity, snapshot, ours, visit, elsewhere=True, bound=bound)

    def give(self, identity: Identity = ALICE, snapshot: Snapshot = SNAPSHOT, *, elsewhere: bool = True) -> bool:
        """The next session, of the id `given-NUMBER`, from 0 on."""
        visit = Visit(f"given-{self._given}", "192.0.2.8", PROXY)
        self._given += 1
        with open(os.devnull, "rb") as session:
            return self.acting.give(identity, snapshot, visit, "PLAIN", session.fileno(), elsewhere=elsewhere)

    def got(self, pid: int) -> list[str]:
        """The sessions that an agent was given and has not looked at yet."""
        sessions: list[str] = []
        while True:
            try:
                message, beside = self.ends[pid].receive_descriptors(frozenset({SessionGiven}), 0.0, 1)
            except (TimeoutError, ChannelClosed):
                return sessions
            assert isinstance(message, SessionGiven)
            assert (message.client, message.mechanism) == ("192.0.2.8", "PLAIN")
            os.close(*beside)
            sessions.append(message.session)

    def say(self, pid: int, message: Message) -> None:
        self.ends[pid].send(message)
        self.hear()

    def hear(self) -> None:
        for key, _ in self.selector.select(0):
            key.data(self._log)

    def hear_all(self) -> None:
        """Also those that have said nothing."""
        for key in list(self.selector.get_map().values()):
            key.data(self._log)

    def is_open(self, pid: int) -> bool:
        """Whether the agent may still get sessions."""
        try:
            self.ends[pid].receive(frozenset(), 0.0)
        except TimeoutError:
            return True
        except ChannelClosed:
            return False
        raise AssertionError

    def close(self) -> None:
        for pid, end in self.ends.items():
            for waiting in self.acting.buried(pid).values():
                if waiting is not None:
                    waiting.close()
            end.close()
        assert not self.selector.get_map()
        self.selector.close()


@contextmanager
def channels() -> Iterator[tuple[Channel, Channel]]:
    ours, theirs = channel.pair()
    yield ours, theirs
    ours.close()
    theirs.close()


@pytest.fixture
def databases(tmp_path: Path) -> list[str]:
    (tmp_path / "passwd").write_text("alice")
    return [str(tmp_path / "passwd")]


@pytest.fixture
def office(databases: list[str], clock: Clock, log: Log) -> Iterator[Office]:
    office = Office(databases, clock, log)
    yield office
    office.close()


def test_without_an_agent_of_the_user_none_gets_it(office: Office) -> None:
    assert not office.give()


@pytest.mark.parametrize(
    "other",
    [
        replace(ALICE, name="bob"),
        replace(ALICE, uid=1002),
        replace(ALICE, gid=1002),
        replace(ALICE, home="/home/alice2"),
    ],
)
def test_only_an_agent_that_is_exactly_this_user_gets_it(office: Office, other: Identity) -> None:
    office.begin(1)
    assert not office.give(other)
    assert office.give()
    assert office.got(1) == ["given-1"]


def test_an_agent_of_another_configuration_does_not_get_it(office: Office) -> None:
    office.begin(1)
    # The same words, read another time.
    assert not office.give(snapshot=replace(SNAPSHOT))


def test_an_agent_has_so_many_sessions_at_a_time(office: Office) -> None:
    office.begin(1)
    assert [office.give() for _ in range(AT_A_TIME)] == [True] * (AT_A_TIME - 1) + [False]
    office.say(1, SessionOver("1-0"))
    assert office.give()


def test_who_has_nothing_to_do_gets_it(office: Office) -> None:
    office.begin(1)
    office.begin(2)
    office.say(2, SessionOver("2-0"))
    assert office.give()
    assert (office.got(1), office.got(2)) == ([], ["given-0"])


def test_one_that_has_died_is_passed_over(office: Office) -> None:
    office.begin(1)
    office.begin(2)
    office.say(1, SessionOver("1-0"))
    office.ends[1].close()
    assert office.give()
    assert office.got(2) == ["given-0"]


def test_an_agent_without_sessions_ends_after_a_while(office: Office, clock: Clock) -> None:
    office.begin(1)
    assert office.acting.patience() is None
    clock.now = 100.0
    office.say(1, SessionOver("1-0"))
    assert office.acting.patience() == IDLE_SECONDS
    clock.now += IDLE_SECONDS - 1
    office.acting.keep_time()
    assert office.is_open(1)
    clock.now += 1
    office.acting.keep_time()
    assert not office.is_open(1)
    assert not office.give()


def test_an_agent_that_gets_no_session_any_more_still_says_which_are_over(office: Office, clock: Clock) -> None:
    office.begin(1)
    office.give()
    clock.now = LONGEST_LIFE + 1
    assert not office.give()
    office.say(1, SessionOver("given-0"))
    assert office.acting.sessions_from_elsewhere("alice") == 1
    office.say(1, SessionOver("1-0"))
    assert office.acting.sessions_from_elsewhere("alice") == 0


def test_an_agent_that_has_closed_its_channel_gets_no_session_any_more(office: Office) -> None:
    office.begin(1)
    office.ends[1].close()
    office.hear()
    assert not office.selector.get_map()
    assert not office.give()


def test_an_agent_with_tickets_gets_no_session_of_others(office: Office) -> None:
    office.begin(1, bound=True)
    assert not office.give()
    assert not office.is_open(1)


def test_an_agent_that_does_not_read_keeps_nobody_waiting(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "_SEND_TIMEOUT", struct.pack("@ll", 1000, 0))
    office.begin(1)
    office.say(1, SessionOver("1-0"))
    number = 0
    while office.give():
        office.say(1, SessionOver(f"given-{number}"))
        number += 1
    assert number >= AT_A_TIME
    assert office.got(1)[-1] == f"given-{number - 1}"


def test_what_is_not_there_to_hear_is_not_waited_for(office: Office) -> None:
    office.begin(1)
    # A channel that is closed may leave its descriptor to another one, which nobody has polled yet.
    office.hear_all()
    assert office.is_open(1)
    assert office.give()


def test_so_many_agents_without_sessions_are_kept_and_the_one_that_waits_longest_ends_first(
    office: Office, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acting, "MAX_IDLE", 2)
    for pid in (1, 2, 3, 4):
        office.begin(pid)
    for pid in (2, 1, 3):
        clock.now += 1
        office.say(pid, SessionOver(f"{pid}-0"))
    office.acting.keep_time()
    assert [office.is_open(pid) for pid in (1, 2, 3, 4)] == [True, False, True, True]


def test_an_agent_gets_no_session_any_more_when_it_is_old(office: Office, clock: Clock) -> None:
    office.begin(1)
    clock.now = LONGEST_LIFE + 1
    assert not office.give()
    assert not office.is_open(1)


def test_an_agent_gets_no_session_any_more_when_users_or_groups_have_changed(
    office: Office, databases: list[str]
) -> None:
    office.begin(1)
    Path(databases[0]).write_text("alice, bob")
    assert not office.give()


def test_sessions_from_other_machines_are_counted_for_each_user(office: Office) -> None:
    office.begin(1)
    office.begin(2, replace(ALICE, name="bob"))
    office.give(elsewhere=True)
    office.give(elsewhere=False)
    assert office.acting.sessions_from_elsewhere("alice") == 2
    office.say(1, SessionOver("1-0"))
    office.say(2, SessionOver("2-0"))
    office.acting.buried(2)
    assert [office.acting.sessions_from_elsewhere(name) for name in ("alice", "bob")] == [1, 0]


@pytest.mark.parametrize("message", [SessionOver("2-0"), SessionOver("no-such"), LookUp("a@b")])
def test_an_agent_that_says_what_it_may_not_is_killed(
    office: Office, message: Message, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = []
    monkeypatch.setattr(os, "kill", lambda pid, _: killed.append(pid))
    office.begin(1)
    office.begin(2)
    office.say(1, message)
    assert killed == [1]
    assert not office.is_open(1)


# Sessions of an agent that has ended before them


def test_a_session_whose_agent_has_ended_is_adopted_once_as_the_same_user(office: Office) -> None:
    office.begin(1)
    office.give()
    given = Visit("given-0", "192.0.2.8", PROXY)
    visits = office.acting.buried(1)
    assert [visit.session for visit in visits] == ["1-0", "given-0"]
    orphan = office.acting.adopt(given)
    assert orphan is not None
    assert (orphan.identity, orphan.snapshot, orphan.elsewhere) == (ALICE, SNAPSHOT, True)
    assert office.acting.adopt(given) is None


@pytest.mark.parametrize("adopted", [True, False])
def test_it_counts_until_then_too(office: Office, clock: Clock, *, adopted: bool) -> None:
    office.begin(1)
    office.acting.buried(1)
    assert office.acting.sessions_from_elsewhere("alice") == 1
    if adopted:
        office.acting.adopt(Visit("1-0", "192.0.2.7", PROXY))
    else:
        clock.now = ORPHAN_SECONDS + 1
    assert office.acting.sessions_from_elsewhere("alice") == 0


def test_each_of_its_sessions_may_have_asked_for_another_agent_before_its_end_is_known(office: Office) -> None:
    office.begin(1)
    office.give()
    with channels() as (_, first), channels() as (_, second):
        visits = Visit("1-0", "192.0.2.7", PROXY), Visit("given-0", "192.0.2.8", PROXY)
        assert office.acting.wait(visits[0], first)
        assert office.acting.wait(visits[1], second)
        assert office.acting.buried(1) == {visits[0]: first, visits[1]: second}


def test_a_session_waits_for_one_agent_only_and_until_it_is_over(office: Office) -> None:
    office.begin(1)
    with channels() as (first, theirs), channels() as (second, again):
        assert office.acting.wait(Visit("1-0", "192.0.2.7", PROXY), theirs)
        assert office.acting.wait(Visit("1-0", "192.0.2.7", PROXY), again)
        with pytest.raises(ChannelClosed):
            first.receive(frozenset(), 0.0)
        office.say(1, SessionOver("1-0"))
        with pytest.raises(ChannelClosed):
            second.receive(frozenset(), 0.0)


def test_the_sessions_of_a_proxy_end_with_it(office: Office) -> None:
    office.begin(1)
    office.acting.buried(1)
    office.acting.proxy_buried(PROXY)
    assert office.acting.sessions_from_elsewhere("alice") == 0
    assert office.acting.adopt(Visit("1-0", "192.0.2.7", PROXY)) is None


@pytest.mark.parametrize(
    "claim",
    [Visit("1-0", "192.0.2.7", PROXY + 1), Visit("1-0", "192.0.2.9", PROXY), Visit("1-1", "192.0.2.7", PROXY)],
    ids=["another proxy", "another client", "another session"],
)
def test_nobody_else_adopts_it(office: Office, claim: Visit) -> None:
    office.begin(1)
    with channels() as (_, theirs):
        assert not office.acting.wait(claim, theirs)
    office.acting.buried(1)
    assert office.acting.adopt(claim) is None


def test_a_session_that_was_over_is_no_orphan(office: Office) -> None:
    office.begin(1)
    office.say(1, SessionOver("1-0"))
    office.acting.buried(1)
    assert office.acting.adopt(Visit("1-0", "192.0.2.7", PROXY)) is None


def test_a_session_with_tickets_ends_with_its_agent(office: Office) -> None:
    office.begin(1, bound=True)
    office.acting.buried(1)
    assert office.acting.adopt(Visit("1-0", "192.0.2.7", PROXY)) is None


def test_an_orphan_is_known_for_a_while_only(office: Office, clock: Clock) -> None:
    office.begin(1)
    office.acting.buried(1)
    clock.now = ORPHAN_SECONDS + 1
    assert office.acting.adopt(Visit("1-0", "192.0.2.7", PROXY)) is None


def test_so_many_orphans_are_known_and_the_oldest_are_forgotten(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acting, "MAX_ORPHANS", 1)
    for pid in (1, 2):
        office.begin(pid)
        office.acting.buried(pid)
    assert office.acting.adopt(Visit("1-0", "192.0.2.7", PROXY)) is None
    assert office.acting.adopt(Visit("2-0", "192.0.2.7", PROXY)) is not None


def test_what_an_agent_has_said_before_its_end_is_heard(office: Office) -> None:
    office.begin(1)
    office.give()
    office.ends[1].send(SessionOver("1-0"))
    office.ends[1].close()
    assert [visit.session for visit in office.acting.buried(1)] == ["given-0"]
    assert office.acting.sessions_from_elsewhere("alice") == 1


@pytest.mark.parametrize("said", [SessionOver("no-such"), LookUp("a@b")])
def test_what_it_may_not_say_changes_nothing_then(
    office: Office, said: Message, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "kill")  # its number may be another's
    office.begin(1)
    office.ends[1].send(said)
    assert [visit.session for visit in office.acting.buried(1)] == ["1-0"]


def test_no_session_outlives_its_proxy_in_an_agent_that_ends_later(office: Office) -> None:
    office.begin(1)
    with channels() as (asking, theirs):
        visit = Visit("1-0", "192.0.2.7", PROXY)
        assert office.acting.wait(visit, theirs)
        office.acting.proxy_buried(PROXY)
        with pytest.raises(ChannelClosed):
            asking.receive(frozenset(), 0.0)
    office.acting.buried(1)
    assert office.acting.sessions_from_elsewhere("alice") == 0
    assert office.acting.adopt(visit) is None
