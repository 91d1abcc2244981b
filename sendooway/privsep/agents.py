"""The agents, as the monitor knows them: who may have one, which may check a login now, and whose they have become.

An agent is newborn until somebody has logged in; as long it has a channel to here (`gate.py` is its other end):

    agent -> monitor   CheckWanted    CheckGranted, when this user and this address have waited long enough, and
                                      when there is room: a check may take a core, memory, and seconds of a directory
    agent -> monitor   CheckEnded     (no answer)
    agent -> monitor   CheckPassed    SessionVerdict

Whatever becomes of a proxy, an agent goes through here before each check.
"""

import os
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum

from sendooway.log import Log
from sendooway.net.listener import source
from sendooway.privsep import agent, channel, process
from sendooway.privsep.agent import Pace, Visit
from sendooway.privsep.channel import Channel, ChannelClosed
from sendooway.privsep.failures import Failures
from sendooway.privsep.messages import (
    CheckEnded,
    CheckGranted,
    CheckPassed,
    CheckWanted,
    Message,
    ProtocolError,
    SessionVerdict,
)
from sendooway.privsep.remembered import Remembered
from sendooway.privsep.request import LOCAL, Request
from sendooway.privsep.snapshot import Snapshot


class _State(Enum):
    IDLE = "no login is there to check"
    WAITING = "a login waits for its check"
    CHECKING = "it is checked now"


_ALLOWED: dict[_State, frozenset[type[Message]]] = {
    _State.IDLE: frozenset({CheckWanted}),
    _State.WAITING: frozenset(),
    _State.CHECKING: frozenset({CheckEnded, CheckPassed}),
}


@dataclass(eq=False)
class _Newborn:
    """An agent in which nobody has logged in yet. `due`, of the monotonic clock, is when its check may begin."""

    pid: int
    channel: Channel
    visit: Visit
    source: str
    snapshot: Snapshot
    user: str = ""
    proof: bytes = b""  # of the login that waits or is checked; empty: it is not remembered, or was already
    state: _State = _State.IDLE
    due: float = 0.0


class Agents:
    """All agents of a monitor. What it does not grant, an agent or a proxy notices at the end of its channel."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._failures = Failures()
        self._remembered = Remembered()
        self._visits: dict[int, Visit] = {}
        self._users: dict[int, str] = {}  # of those in which somebody has logged in from another machine
        self._newborn: dict[int, _Newborn] = {}  # by the descriptor of its channel

    def start(self, request: Request, snapshot: Snapshot, log: Log) -> None:
        """Fork an agent for a proxy's request, which is used up."""
        try:
            if request.client is None:
                return
            visit = Visit(request.session, request.client)
            origin = "" if visit.client == LOCAL else source(visit.client)
            if self._is_full(origin, snapshot):
                log.warning("too-many-logins", rip=visit.client, session=visit.session)
                return
            ours, theirs = channel.pair()

            def run() -> int:
                return agent.run(request.end, snapshot, visit, log, self._pace, theirs)

            try:
                keep = (request.end.fileno(), snapshot.memory, theirs.fileno())
                pid = process.start("sendooway [agent]", run, keep, log)
            except OSError:
                ours.close()
                raise
            finally:
                theirs.close()
        except OSError as error:
            log.error("no-agent", session=request.session, reason=error.strerror)
            return
        finally:
            request.end.close()
        self._newborn[ours.fileno()] = _Newborn(pid, ours, visit, origin, snapshot)
        self._visits[pid] = visit

    def _is_full(self, origin: str, snapshot: Snapshot) -> bool:
        limits, newborn = snapshot.configuration, self._newborn.values()
        of_this = sum(each.source == origin for each in newborn) if origin else 0
        # Proxies that are as they should be have less: they turn connections away before. After a reload there are
        # two generations of them.
        return (
            len(newborn) >= limits.workers * limits.max_unauthenticated
            or of_this >= limits.workers * limits.max_unauthenticated_per_client
            or len(self._visits) >= 2 * limits.workers * limits.max_sessions
        )

    def descriptors(self) -> Iterable[int]:
        """To be polled; `hear` is for those that are readable."""
        return tuple(self._newborn)

    def hear(self, descriptor: int, log: Log) -> None:
        newborn = self._newborn[descriptor]
        try:
            self._take(newborn, newborn.channel.receive(_ALLOWED[newborn.state], 1.0), log)
        except ProtocolError as error:
            log.error("agent-misbehaves", process=newborn.pid, session=newborn.visit.session, reason=str(error))
            os.kill(newborn.pid, signal.SIGKILL)
            self._forget(newborn)
        except (ChannelClosed, TimeoutError):
            self._forget(newborn)

    def _take(self, newborn: _Newborn, message: Message, log: Log) -> None:
        limits = newborn.snapshot.configuration
        match message:
            case CheckWanted(user, proof):
                delay = self._delay(newborn.source, user, limits.max_failed_logins)
                newborn.user, newborn.proof = user, proof
                newborn.state, newborn.due = _State.WAITING, time.monotonic() + delay
                self._failures.count(newborn.source, user, time.monotonic(), limits.max_failed_logins)
                if delay:
                    visit = newborn.visit
                    log.event("login-delayed", rip=visit.client, user=user, seconds=delay, session=visit.session)
            case CheckEnded(refused):
                newborn.state = _State.IDLE
                self._remembered.forget(newborn.user)
                if not refused:
                    self._settle(newborn, self._failures.take_back)
            case CheckPassed(user):
                newborn.state = _State.IDLE
                self._settle(newborn, self._failures.passed)
                if newborn.proof and limits.auth_cache:
                    self._remembered.remember(newborn.user, newborn.proof, limits.auth_cache)
                # As for the other limits, this machine counts for none: a webmail has many sessions of one user.
                elsewhere = bool(newborn.source)
                granted = not elsewhere or list(self._users.values()).count(user) < limits.max_sessions_per_user
                newborn.channel.send(SessionVerdict(granted))
                if granted:
                    if elsewhere:
                        self._users[newborn.pid] = user
                    self._forget(newborn)

    def _delay(self, source: str, user: str, free: int) -> float:
        return self._failures.delay(source, user, time.monotonic(), free)

    def _settle(self, newborn: _Newborn, settle: Callable[[str, str, float, int], None]) -> None:
        """An attempt was no failure: who waits because of it need not any more."""
        source, user, free = newborn.source, newborn.user, newborn.snapshot.configuration.max_failed_logins
        settle(source, user, time.monotonic(), free)
        for other in self._waiting():
            if (other.source, other.user) == (source, user):
                other.due = min(other.due, time.monotonic() + self._delay(source, user, free))

    def _forget(self, newborn: _Newborn) -> None:
        """Somebody has logged in there, or it has ended."""
        del self._newborn[newborn.channel.fileno()]
        newborn.channel.close()

    def keep_time(self) -> None:
        """Grant the checks that are due, those first that have waited longest, as far as there is room."""
        now = time.monotonic()
        for newborn in self._waiting():
            if newborn.due > now or not self._has_room(newborn):
                return
            newborn.state = _State.CHECKING
            try:
                newborn.channel.send(CheckGranted(self._recall(newborn)))
            except (ChannelClosed, TimeoutError):
                continue  # the end of its channel will be heard

    def _recall(self, newborn: _Newborn) -> bool:
        if not newborn.proof or not self._remembered.knows(newborn.user, newborn.proof):
            return False
        newborn.proof = b""  # it was proved back then, not now: its time goes on
        return True

    def patience(self) -> float | None:
        """Seconds until `keep_time` has something to do; None: only what happens will bring it."""
        waiting = self._waiting()
        if not waiting or not self._has_room(waiting[0]):
            return None
        return max(0.0, waiting[0].due - time.monotonic())

    def _waiting(self) -> list[_Newborn]:
        waiting = (newborn for newborn in self._newborn.values() if newborn.state is _State.WAITING)
        return sorted(waiting, key=lambda newborn: newborn.due)

    def _has_room(self, newborn: _Newborn) -> bool:
        checking = sum(other.state is _State.CHECKING for other in self._newborn.values())
        return checking < newborn.snapshot.configuration.max_login_checks

    def processes(self) -> frozenset[int]:
        """The numbers of all of them."""
        return frozenset(self._visits)

    def buried(self, pid: int) -> Visit | None:
        """A child has ended: whom it worked for, if it was an agent."""
        self._users.pop(pid, None)
        return self._visits.pop(pid, None)

    def end(self) -> None:
        for pid in self._visits:
            os.kill(pid, signal.SIGTERM)
