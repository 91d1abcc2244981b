"""The monitor's view of agents that are users: which sessions they look after, and who may be given one more.

    monitor -> agent   SessionGiven   (no answer)
    agent -> monitor   SessionOver    (no answer)

One that gets no session any more is told so by the end of what it can receive; SessionOver is still heard.

A process that is that user already, with the files read and parsed, spares a session most of what an agent costs. It
checks no login: each has been checked by another process, which has given its session away then; see `agents.py`.
"""

import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from selectors import EVENT_READ, BaseSelector

from sendooway.auth.identity import Identity
from sendooway.log import Log
from sendooway.privsep.channel import Channel, ChannelClosed
from sendooway.privsep.messages import ProtocolError, SessionGiven, SessionOver
from sendooway.privsep.snapshot import Snapshot
from sendooway.privsep.visit import Visit
from sendooway.privsep.watch import Watch

# It answers one question at a time, and some take seconds: the command of a password, a file system far away.
AT_A_TIME = 4
IDLE_SECONDS = 30.0  # for as long connections to smarthosts are kept, too, unless `smarthostIdle` says otherwise
MAX_IDLE = 50  # of all users; each is a process that takes memory, and a place of a session
# Some of what it is was asked for only once, such as its groups.
LONGEST_LIFE = 600.0  # seconds
# Within so many seconds after its agent has ended before it, a session may get another one.
ORPHAN_SECONDS = 600.0
MAX_ORPHANS = 1000

_DATABASES = ("/etc/passwd", "/etc/group")


@dataclass(eq=False)
class _Session:
    """A session that an agent looks after. `elsewhere`: its client is on another machine. `bound`: it ends with its
    agent, which has the tickets of its login, or because its proxy has ended.

    `waiting` is the end of the channel to its next agent, where the proxy has heard of the end of this one before us.
    """

    visit: Visit
    elsewhere: bool
    bound: bool = False
    waiting: Channel | None = None

    def wait(self, end: Channel | None) -> None:
        """Wait for another agent with this end of a channel (None: no longer); the one that has waited is closed."""
        if self.waiting is not None:
            self.waiting.close()
        self.waiting = end


@dataclass(frozen=True)
class Orphan:
    """A session that somebody has logged in to, and whose agent has ended. `until` is of the monotonic clock."""

    identity: Identity
    snapshot: Snapshot
    elsewhere: bool
    until: float


@dataclass(eq=False)
class _Agent:
    """One agent and its sessions, by their ids. `retired`: it gets no sessions any more, as when it has closed its
    `channel`, which is None then. Times are of the monotonic clock; `idle_since` counts while it has no sessions."""

    pid: int
    identity: Identity
    snapshot: Snapshot
    channel: Channel | None
    born: float
    retired: bool = False
    idle_since: float = 0.0
    sessions: dict[str, _Session] = field(default_factory=dict)


class Acting:
    """All agents that are users. To give a session costs the same however many there are. `clock` is monotonic, in
    seconds.

    The `selector` has each channel with what is to be called, with the log, when it is readable.
    """

    def __init__(
        self,
        selector: BaseSelector,
        databases: Sequence[str] = _DATABASES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._selector = selector
        self._databases = Watch(databases)
        self._clock = clock
        self._agents: dict[int, _Agent] = {}
        self._of_user: dict[str, list[_Agent]] = {}
        self._of_session: dict[Visit, _Agent] = {}
        self._idle: dict[int, _Agent] = {}  # those that wait for a session, the one that waits longest first
        self._orphans: dict[Visit, Orphan] = {}

    def begin(
        self,
        pid: int,
        identity: Identity,
        snapshot: Snapshot,
        channel: Channel,
        visit: Visit,
        *,
        elsewhere: bool,
        bound: bool = False,
    ) -> None:
        """An agent becomes this user. The channel is in the selector, and is used up. If the session is `bound` to the
        agent, that gets no other."""
        agent = _Agent(pid, identity, snapshot, channel, self._clock())
        self._agents[pid] = agent
        self._of_user.setdefault(identity.name, []).append(agent)
        self._selector.modify(channel, EVENT_READ, partial(self._hear, agent, channel))
        self._add(agent, _Session(visit, elsewhere, bound))
        if bound:
            self._retire(agent)

    def give(
        self,
        identity: Identity,
        snapshot: Snapshot,
        visit: Visit,
        mechanism: str,
        descriptor: int,
        *,
        elsewhere: bool,
    ) -> bool:
        """Let an agent look after a session whose channel has this `descriptor`, which stays open. False: there is none
        that could."""
        self._retire_stale(identity.name)
        able = [
            agent
            for agent in self._of_user.get(identity.name, ())
            if not agent.retired
            and agent.identity == identity
            and agent.snapshot is snapshot
            and len(agent.sessions) < AT_A_TIME
            and visit.session not in agent.sessions
        ]
        # Who has nothing to do answers at once.
        for agent in sorted(able, key=lambda agent: len(agent.sessions)):
            assert agent.channel is not None
            try:
                # Not waiting: that it reads is up to its user.
                agent.channel.send(SessionGiven(visit.session, visit.client, mechanism), (descriptor,), wait=False)
            except (ChannelClosed, OSError):
                self._retire(agent)
                continue
            self._add(agent, _Session(visit, elsewhere))
            return True
        return False

    def _add(self, agent: _Agent, session: _Session) -> None:
        agent.sessions[session.visit.session] = session
        self._of_session[session.visit] = agent
        self._idle.pop(agent.pid, None)

    def _retire_stale(self, user: str) -> None:
        """Retire agents that are no longer what a new one would be: too old, or of a user who may have changed."""
        if self._databases.changed():
            for agent in self._agents.values():
                self._retire(agent)
        for agent in self._of_user.get(user, ()):
            if agent.born < self._clock() - LONGEST_LIFE:
                self._retire(agent)

    def _retire(self, agent: _Agent) -> None:
        """It gets no session any more, and ends when its last one does."""
        if not agent.retired and agent.channel is not None:
            agent.channel.end_sending()
        agent.retired = True
        self._idle.pop(agent.pid, None)

    def sessions_from_elsewhere(self, user: str) -> int:
        """How many there are of this user, with those that may still get another agent."""
        self._forget_late()
        looked_after = sum(
            session.elsewhere for agent in self._of_user.get(user, ()) for session in agent.sessions.values()
        )
        return looked_after + sum(orphan.elsewhere for orphan in self._orphans.values() if orphan.identity.name == user)

    def wait(self, visit: Visit, end: Channel) -> bool:
        """Another agent is wanted for this session, of which `end` is the channel, which is used up then: the proxy has
        heard of its agent's end before we have. False: no agent looks after it."""
        agent = self._of_session.get(visit)
        if agent is None:
            return False
        agent.sessions[visit.session].wait(end)
        return True

    def adopt(self, visit: Visit) -> Orphan | None:
        """A session that has lost its agent, which is known only once."""
        self._forget_late()
        return self._orphans.pop(visit, None)

    def _forget_late(self) -> None:
        now = self._clock()
        self._orphans = {visit: orphan for visit, orphan in self._orphans.items() if orphan.until >= now}

    def _hear(self, agent: _Agent, channel: Channel, log: Log) -> None:
        """The agent has said something, or ended. It belongs to its user, who is not trusted."""
        try:
            self._end_session(agent, channel)
        except ProtocolError as error:
            log.error("agent-misbehaves", process=agent.pid, user=agent.identity.name, reason=str(error))
            os.kill(agent.pid, signal.SIGKILL)
            self._close(agent)
        except ChannelClosed:
            self._close(agent)
        except TimeoutError:
            pass  # what was there to hear has gone with another channel, which had this descriptor a moment ago
        else:
            if not agent.sessions and not agent.retired:
                agent.idle_since = self._clock()
                self._idle[agent.pid] = agent

    def _end_session(self, agent: _Agent, channel: Channel) -> None:
        """Hear which session is over. Raises what Channel.receive raises."""
        message = channel.receive(frozenset({SessionOver}), 0.0)
        assert isinstance(message, SessionOver)
        session = agent.sessions.pop(message.session, None)
        if session is None:
            raise ProtocolError("a SessionOver of a session that is not there")
        session.wait(None)
        self._of_session.pop(session.visit, None)

    def _close(self, agent: _Agent) -> None:
        agent.retired = True
        self._idle.pop(agent.pid, None)
        if agent.channel is not None:
            self._selector.unregister(agent.channel)
            agent.channel.close()
            agent.channel = None

    def keep_time(self) -> None:
        """Retire agents that have been idle for too long, or are too many."""
        while len(self._idle) > MAX_IDLE or self.patience() == 0.0:
            self._retire(next(iter(self._idle.values())))

    def patience(self) -> float | None:
        """Seconds until `keep_time` has something to do; None: only what happens will bring it."""
        for agent in self._idle.values():
            return max(0.0, agent.idle_since + IDLE_SECONDS - self._clock())
        return None

    def buried(self, pid: int) -> dict[Visit, Channel | None]:
        """A child has ended: whom it worked for, if it was one of these, with the channels of those that wait for
        another agent, which are the caller's."""
        agent = self._agents.pop(pid, None)
        if agent is None:
            return {}
        # Its last words may be that the session is over because of which it has ended.
        with suppress(ProtocolError, ChannelClosed, TimeoutError):
            while agent.channel is not None:
                self._end_session(agent, agent.channel)
        self._close(agent)
        of_user = self._of_user[agent.identity.name]
        of_user.remove(agent)
        if not of_user:
            del self._of_user[agent.identity.name]
        for session in agent.sessions.values():
            self._of_session.pop(session.visit, None)
            if not session.bound:
                until = self._clock() + ORPHAN_SECONDS
                self._orphans[session.visit] = Orphan(agent.identity, agent.snapshot, session.elsewhere, until)
        while len(self._orphans) > MAX_ORPHANS:
            del self._orphans[next(iter(self._orphans))]
        return {session.visit: session.waiting for session in agent.sessions.values()}

    def proxy_buried(self, pid: int) -> None:
        """A proxy has ended, and all its sessions with it."""
        self._orphans = {visit: orphan for visit, orphan in self._orphans.items() if visit.proxy != pid}
        for agent in self._agents.values():
            for session in agent.sessions.values():
                # The agent will notice, if it does not end before that.
                if session.visit.proxy == pid:
                    session.bound = True
                    session.wait(None)
