"""The monitor's view of agents: which session gets one, and which of them may check a login now.

An agent checks logins until it becomes a user (`gate.py` is the other end of its channel):

    agent -> monitor   CheckWanted    CheckGranted, when this user and this address have waited long enough, and
                                      when there is room: a check may take a core, memory, and seconds of a directory
    agent -> monitor   CheckEnded     (no answer)
    agent -> monitor   CheckPassed    SessionVerdict
    monitor -> agent   LoginGiven     (no answer)

What becomes of it then is in `acting.py`. One that has given its session away to an agent that is the user already is
kept for the next login of this user, unless a login was refused in it: no password is checked in a process that has
seen a wrong one in another session. Even for a proxy that was taken over, an agent asks here before each check.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from functools import partial
from selectors import EVENT_READ, BaseSelector

from sendooway.auth.identity import Identity
from sendooway.log import Log
from sendooway.net.listener import source
from sendooway.privsep import agent, channel
from sendooway.privsep.acting import Acting
from sendooway.privsep.agent import Pace
from sendooway.privsep.channel import Channel, ChannelClosed
from sendooway.privsep.failures import Failures
from sendooway.privsep.messages import (
    CheckEnded,
    CheckGranted,
    CheckPassed,
    CheckWanted,
    LoginGiven,
    Message,
    ProtocolError,
    SessionVerdict,
)
from sendooway.privsep.remembered import Remembered
from sendooway.privsep.request import LOCAL, Request
from sendooway.privsep.snapshot import Snapshot
from sendooway.privsep.visit import Visit
from sendooway.unix import process

# One that has given its session away is kept for so long, and for so many logins: modules of PAM may leak.
IDLE_SECONDS = 30.0
LONGEST_LIFE = 600.0
MAX_LOGINS = 100
MAX_FREE = 50  # of all users

# A check that takes longer waits for something else than a core.
CORE_SECONDS = 1.0


class _State(Enum):
    IDLE = "no login is there to check"
    WAITING = "a login waits for its check"
    CHECKING = "it is checked now"
    FREE = "its session is another agent's"


_ALLOWED: dict[_State, frozenset[type[Message]]] = {
    _State.IDLE: frozenset({CheckWanted}),
    _State.WAITING: frozenset(),
    _State.CHECKING: frozenset({CheckEnded, CheckPassed}),
    _State.FREE: frozenset(),
}


@dataclass(eq=False)
class _Checker:
    """An agent that is no user yet. Times are of the monotonic clock.

    `due` is when its check may begin, `since` when its state began.
    """

    pid: int
    channel: Channel
    snapshot: Snapshot
    visit: Visit
    source: str
    born: float
    user: str = ""
    proof: bytes = b""  # of the login that waits or is checked; empty: it is not remembered, or was already
    state: _State = _State.IDLE
    since: float = 0.0
    due: float = 0.0
    logins: int = 1
    refused: bool = False

    def enter(self, state: _State) -> None:
        self.state, self.since = state, time.monotonic()


class Agents:
    """All agents of a monitor. What it does not grant, an agent or a proxy notices at the end of its channel.

    The `selector` has each channel with what is to be called, with the log, when it is readable.
    """

    def __init__(self, pace: Pace, selector: BaseSelector) -> None:
        self._pace = pace
        self._selector = selector
        self._cores = len(os.sched_getaffinity(0))
        self._failures = Failures()
        self._remembered = Remembered()
        self._visits: dict[int, tuple[Visit, ...]] = {}  # of each process, until somebody has logged in there
        self._checkers: set[_Checker] = set()
        self._acting = Acting(selector)

    def start(self, request: Request, snapshot: Snapshot, log: Log, proxy: int) -> None:
        """Find or fork an agent for the request of a proxy, which is used up."""
        if request.client is None:
            request.end.close()
            return
        visit = Visit(request.session, request.client, proxy)
        if self._acting.wait(visit, request.end):
            return
        with self._logged(visit, log):
            if not self._resume(request.end, visit, log):
                self._begin(request, snapshot, visit, log)
        request.end.close()

    @contextmanager
    def _logged(self, visit: Visit, log: Log) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            log.error("no-agent", session=visit.session, reason=error.strerror)

    def _resume(self, end: Channel, visit: Visit, log: Log) -> bool:
        """Another agent for a session that has lost its own. Raises OSError."""
        orphan = self._acting.adopt(visit)
        if orphan is None:
            return False
        ours, pid = self._fork(end, orphan.snapshot, visit, log, orphan.identity)
        self._visits[pid] = ()
        self._acting.begin(pid, orphan.identity, orphan.snapshot, ours, visit, elsewhere=orphan.elsewhere)
        log.event("agent-replaced", process=pid, session=visit.session, user=orphan.identity.name)
        return True

    def _begin(self, request: Request, snapshot: Snapshot, visit: Visit, log: Log) -> None:
        """Raises OSError."""
        origin = "" if visit.client == LOCAL else source(visit.client)
        if self._is_full(origin, snapshot):
            log.warning("too-many-logins", rip=visit.client, session=visit.session)
        elif not self._reuse(request, snapshot, visit, origin):
            ours, pid = self._fork(request.end, snapshot, visit, log)
            checker = _Checker(pid, ours, snapshot, visit, origin, born=time.monotonic())
            self._checkers.add(checker)
            self._selector.modify(ours, EVENT_READ, partial(self._hear, checker))
            self._visits[pid] = (visit,)

    def _fork(
        self, end: Channel, snapshot: Snapshot, visit: Visit, log: Log, resumed: Identity | None = None
    ) -> tuple[Channel, int]:
        """Start an agent. Returns the channel to it, which is in the selector, and its number. Raises OSError."""
        ours, theirs = channel.pair()

        def run() -> int:
            return agent.run(end, snapshot, visit, log, self._pace, theirs, resumed)

        try:
            pid = process.start("sendooway [agent]", run, (end.fileno(), snapshot.memory, theirs.fileno()), log)
            self._selector.register(ours, EVENT_READ)
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        return ours, pid

    def _reuse(self, request: Request, snapshot: Snapshot, visit: Visit, origin: str) -> bool:
        """Let a free agent that has checked logins of this user check this one, too. False: there is none."""
        for checker in self._free():
            if not request.user or checker.user != request.user or checker.snapshot is not snapshot:
                continue
            try:
                checker.channel.send(LoginGiven(visit.session, visit.client), (request.end.fileno(),))
            except (ChannelClosed, OSError):
                continue  # the end of its channel will be heard
            checker.visit, checker.source = visit, origin
            checker.logins += 1
            checker.enter(_State.IDLE)
            self._visits[checker.pid] = (visit,)
            return True
        return False

    def _free(self) -> list[_Checker]:
        return [checker for checker in self._checkers if checker.state is _State.FREE]

    def _is_full(self, origin: str, snapshot: Snapshot) -> bool:
        limits = snapshot.configuration
        newcomers = [checker for checker in self._checkers if checker.state is not _State.FREE]
        of_this = sum(checker.source == origin for checker in newcomers) if origin else 0
        # Proxies that are as they should be have less: they turn connections away before. After a reload there are
        # two generations of them.
        return (
            len(newcomers) >= limits.workers * limits.max_unauthenticated
            or of_this >= limits.workers * limits.max_unauthenticated_per_client
            or len(self._visits) >= 2 * limits.workers * limits.max_sessions
        )

    def _hear(self, checker: _Checker, log: Log) -> None:
        try:
            message, beside = checker.channel.receive_descriptors(_ALLOWED[checker.state], 0.0, 1)
            try:
                self._take(checker, message, beside, log)
            finally:
                for copied in beside:
                    os.close(copied)
        except ProtocolError as error:
            log.error("agent-misbehaves", process=checker.pid, session=checker.visit.session, reason=str(error))
            if checker.pid in self._visits:  # else it has ended, and its number may be another's
                os.kill(checker.pid, signal.SIGKILL)
            self._forget(checker)
        except TimeoutError:
            pass  # what was there to hear has gone with another channel, which had this descriptor a moment ago
        except ChannelClosed:
            self._forget(checker)
        except OSError as error:
            # No room for the channel that is beside a login that was right.
            log.error("no-agent", session=checker.visit.session, reason=error.strerror)
            self._settle(checker, self._failures.take_back)
            self._forget(checker)

    def _take(self, checker: _Checker, message: Message, beside: Sequence[int], log: Log) -> None:
        limits = checker.snapshot.configuration
        match message:
            case CheckWanted(user, proof):
                delay = self._delay(checker.source, user, limits.max_failed_logins)
                checker.user, checker.proof = user, proof
                checker.enter(_State.WAITING)
                checker.due = checker.since + delay
                self._failures.count(checker.source, user, time.monotonic(), limits.max_failed_logins)
                if delay:
                    visit = checker.visit
                    log.event("login-delayed", rip=visit.client, user=user, seconds=delay, session=visit.session)
            case CheckEnded(refused):
                checker.enter(_State.IDLE)
                checker.refused = True
                self._remembered.forget(checker.user)
                if not refused:
                    self._settle(checker, self._failures.take_back)
            case CheckPassed(user, uid, gid, home, mechanism):
                checker.enter(_State.IDLE)
                self._settle(checker, self._failures.passed)
                if checker.proof and limits.auth_cache:
                    self._remembered.remember(checker.user, checker.proof, limits.auth_cache)
                self._admit(checker, Identity(user, uid, gid, home), mechanism, beside)

    def _admit(self, checker: _Checker, identity: Identity, mechanism: str, beside: Sequence[int]) -> None:
        """Somebody has logged in."""
        # As for the other limits, this machine counts for none: a webmail has many sessions of one user.
        elsewhere = bool(checker.source)
        most = checker.snapshot.configuration.max_sessions_per_user
        if elsewhere and self._acting.sessions_from_elsewhere(identity.name) >= most:
            checker.channel.send(SessionVerdict(granted=False))
            return
        snapshot, visit = checker.snapshot, checker.visit
        given = any(
            self._acting.give(identity, snapshot, visit, mechanism, descriptor, elsewhere=elsewhere)
            for descriptor in beside
        )
        if checker.pid in self._visits:  # else it has ended
            self._visits[checker.pid] = ()
        checker.channel.send(SessionVerdict(granted=True, given=given))
        if given:
            self._free_or_forget(checker)
        else:
            self._checkers.remove(checker)
            bound = not beside
            self._acting.begin(
                checker.pid, identity, snapshot, checker.channel, visit, elsewhere=elsewhere, bound=bound
            )

    def _free_or_forget(self, checker: _Checker) -> None:
        """Its session is another agent's now: keep it for the next login, if it is as good as new."""
        fresh = checker.logins < MAX_LOGINS and time.monotonic() - checker.born < LONGEST_LIFE
        if not fresh or checker.refused:
            self._forget(checker)
            return
        checker.enter(_State.FREE)
        free = self._free()
        if len(free) > MAX_FREE:
            self._forget(min(free, key=lambda checker: checker.since))

    def _delay(self, source: str, user: str, free: int) -> float:
        return self._failures.delay(source, user, time.monotonic(), free)

    def _settle(self, checker: _Checker, settle: Callable[[str, str, float, int], None]) -> None:
        """Tell the failures by `settle` that an attempt was none: those that wait because of it may go on sooner."""
        source, user, free = checker.source, checker.user, checker.snapshot.configuration.max_failed_logins
        settle(source, user, time.monotonic(), free)
        for other in self._waiting():
            if (other.source, other.user) == (source, user):
                other.due = min(other.due, time.monotonic() + self._delay(source, user, free))

    def _forget(self, checker: _Checker) -> None:
        """It is not needed any more, or has ended."""
        self._checkers.remove(checker)
        self._selector.unregister(checker.channel)
        checker.channel.close()

    def keep_time(self) -> None:
        """Grant the checks that are due, those first that have waited longest, as far as there is room."""
        self._acting.keep_time()
        now = time.monotonic()
        for checker in self._free():
            if now - checker.since >= IDLE_SECONDS:
                self._forget(checker)
        for checker in self._waiting():
            if checker.due > now or not self._has_room(checker):
                return
            checker.enter(_State.CHECKING)
            try:
                checker.channel.send(CheckGranted(self._recall(checker)))
            except (ChannelClosed, TimeoutError):
                continue  # the end of its channel will be heard

    def _recall(self, checker: _Checker) -> bool:
        if not checker.proof or not self._remembered.knows(checker.user, checker.proof):
            return False
        checker.proof = b""  # it was proved back then, not now: its time goes on
        return True

    def patience(self) -> float | None:
        """Seconds until `keep_time` has something to do; None: only what happens will bring it."""
        now = time.monotonic()
        due = [checker.since + IDLE_SECONDS for checker in self._free()]
        waiting = self._waiting()
        if waiting and self._has_room(waiting[0]):
            due.append(waiting[0].due)
        elif waiting:
            due += [checker.since + CORE_SECONDS for checker in self._checking() if now - checker.since < CORE_SECONDS]
        acting = self._acting.patience()
        if acting is not None:
            due.append(now + acting)
        return max(0.0, min(due) - now) if due else None

    def _waiting(self) -> list[_Checker]:
        waiting = (checker for checker in self._checkers if checker.state is _State.WAITING)
        return sorted(waiting, key=lambda checker: checker.due)

    def _has_room(self, checker: _Checker) -> bool:
        """To check a password takes a core for a while, on purpose; more at a time would only take longer."""
        checking, now = self._checking(), time.monotonic()
        computing = sum(now - other.since < CORE_SECONDS for other in checking)
        return computing < self._cores and len(checking) < checker.snapshot.configuration.max_login_checks

    def _checking(self) -> list[_Checker]:
        return [checker for checker in self._checkers if checker.state is _State.CHECKING]

    def processes(self) -> frozenset[int]:
        """The numbers of all of them."""
        return frozenset(self._visits)

    def buried(self, pid: int, log: Log) -> tuple[Visit, ...]:
        """A child has ended: whom it worked for, if it was an agent."""
        sessions = self._acting.buried(pid)
        for visit, end in sessions.items():
            if end is not None:
                with self._logged(visit, log):
                    self._resume(end, visit, log)
                end.close()
        return self._visits.pop(pid, ()) + tuple(sessions)

    def proxy_buried(self, pid: int) -> None:
        """A proxy has ended, and all its sessions with it."""
        self._acting.proxy_buried(pid)

    def end(self) -> None:
        for pid in self._visits:
            os.kill(pid, signal.SIGTERM)
