"""Dialling early (`dialEarly`): while the client of a user who has just logged in still types, a connection is made,
secured and logged in for the account of this user's last mail, and put into the pool, where the mail then finds it.

A thread of its own does that, and until it ends the session's agent is its own, too: it looks the account up anew, as
for a mail. Of a user only the sender of the last accepted mail is remembered, and for one attempt: so no more logins
are wasted than mails were accepted, and a smarthost that fails is not tried again.
"""

import contextlib
import select
import socket
from dataclasses import replace
from enum import Enum
from threading import Lock, Thread
from time import monotonic

from sendooway.log import Log, describe
from sendooway.net.deadline import Deadline
from sendooway.net.stream import Stopping, Stream
from sendooway.pool import Pool
from sendooway.privsep.client import Agent, AgentError
from sendooway.privsep.messages import AccountFound
from sendooway.smarthost import Wishes, connect
from sendooway.smtp.client import SmarthostError

MAX_USERS = 1000  # whose last sender is remembered; a sender is an argument of MAIL, so that it is bounded, too
MAX_AT_A_TIME = 10  # in one proxy: nobody waits for them, but they take threads, descriptors and agents
SECONDS = 30.0  # at the smarthost, from the first packet to the login; for as long a mail waits for it


class Outcome(Enum):
    """What became of the early connection that was dialled for a session."""

    USED = "used"
    WASTED = "wasted"
    FAILED = "failed"  # there was none


class EarlyDials:
    """The early dials of all sessions of a process, for all its threads. `stop` is the descriptor that connections in
    the pool watch, see Stream."""

    def __init__(self, pool: Pool, stop: int | None) -> None:
        self.pool = pool
        self.stop = stop
        self._lock = Lock()
        self._last: dict[str, tuple[str, bytes]] = {}  # mail of each user; who sent last comes last
        self._running = 0
        self._dialled = 0
        self._wasted = 0

    def accepted(self, user: str, sender: str, fingerprint: bytes) -> None:
        """A mail of the user was accepted through the account with this fingerprint.

        The null reverse-path says nothing about the next mail.
        """
        if not sender:
            return
        with self._lock:
            self._last.pop(user, None)
            if fingerprint:  # else the pool could not keep it
                self._last[user] = (sender, fingerprint)
            if len(self._last) > MAX_USERS:
                del self._last[next(iter(self._last))]

    def begin(self, user: str, agent: Agent, wishes: Wishes, log: Log) -> "EarlyDial | None":
        """The user has logged in. None: nothing is dialled. Else `agent` belongs to the dial until `make_way` or
        `leave` has returned."""
        with self._lock:
            sender, fingerprint = self._last.get(user, ("", b""))
            # The connection of that mail is mostly waiting yet; then there is nothing to ask or to start.
            if not sender or self._running >= MAX_AT_A_TIME or self.pool.holds(fingerprint):
                return None
            del self._last[user]
            self._running += 1
        try:
            return EarlyDial(self, sender, agent, wishes, log)
        except (OSError, RuntimeError):
            self.ended()  # no descriptors or no threads; if it stays so, the mail will say it
            return None

    def ended(self) -> None:
        """One is over, whatever came of it."""
        with self._lock:
            self._running -= 1

    def dialled(self) -> dict[str, int]:
        """Count one that was dialled. Returns fields of its log line: how many there were so far, and how many of these
        served no mail."""
        with self._lock:
            self._dialled += 1
            return {"dialled": self._dialled, "wasted": self._wasted}

    def wasted(self) -> None:
        """Count one that served no mail."""
        with self._lock:
            self._wasted += 1


class EarlyDial:
    """The early dial of one session. Its methods are called in the session's thread, those below in its own."""

    def __init__(self, dials: EarlyDials, sender: str, agent: Agent, wishes: Wishes, log: Log) -> None:
        """Begin to dial the account of `sender`. Raises OSError or RuntimeError if descriptors or threads are short."""
        self._dials = dials
        self._sender = sender
        self._agent = agent
        self._wishes = wishes
        self._log = log
        self._outcome: Outcome | None = None
        self._fingerprint = b""
        self._lost: AgentError | None = None
        # The session's end, closed when it wants no connection any more; and the thread's, closed when that ends.
        self._ours, self._theirs = socket.socketpair()
        self._thread = Thread(target=self._run, name="early")
        try:
            self._thread.start()
        except RuntimeError:
            self._ours.close()
            self._theirs.close()
            raise

    def make_way(self, sender: str, client: Stream) -> None:
        """A mail of `sender` begins: the agent is the session's again. If this is the sender that is dialled for, wait
        for the end of the dial, at most SECONDS; else give it up.

        Raises AgentError if the agent is of no more use, and Stopping.
        """
        if sender == self._sender and self._ours.fileno() >= 0:
            with contextlib.suppress(TimeoutError):
                client.wait(self._ours.fileno(), select.POLLIN, Deadline(SECONDS))
        self._end()
        if self._lost is not None:
            raise self._lost

    def taken(self, fingerprint: bytes) -> None:
        """The session has taken a connection of this account out of the pool."""
        if fingerprint == self._fingerprint:
            self._outcome = Outcome.USED

    def leave(self) -> Outcome | None:
        """The session is over. Give up, and tell what became of it; None: nothing was dialled."""
        self._end()
        if self._outcome in (Outcome.WASTED, Outcome.FAILED):
            self._dials.wasted()
        return self._outcome

    def _end(self) -> None:
        """Give up and wait for the thread: at most as long as one answer of the agent takes."""
        self._ours.close()
        self._thread.join()

    # The thread

    def _run(self) -> None:
        try:
            self._dial()
        except Stopping:
            pass  # nobody wants it any more
        except AgentError as error:
            self._lost = error
        except Exception as error:
            # As in the session's own thread, only the place of a mistake is told, and the session ends by it.
            self._log.error("session-crashed", reason=describe(error))
            self._lost = AgentError("nobody knows what it was asked last")
        finally:
            self._dials.ended()
            self._theirs.close()

    def _dial(self) -> None:
        account = self._agent.look_up(self._sender, ahead=True)
        if not isinstance(account, AccountFound) or not account.fingerprint:
            return  # nothing that the pool could keep
        begun = monotonic()
        self._outcome, reason = Outcome.FAILED, None
        try:
            self._connect(account)
            self._outcome = Outcome.WASTED  # unless it is used
        except SmarthostError as error:
            reason = f"{error.stage.value}: {error.reason}"
        except AgentError as error:
            reason = f"agent: {error}"
            raise
        except Stopping:
            self._outcome, reason = Outcome.WASTED, "given up"
            raise
        finally:
            self._log.event(
                "dial-early",
                sender=f"<{self._sender}>",
                account=account.username or None,
                smarthost=f"{account.host}:{account.port}",
                reason=reason,
                seconds=monotonic() - begun,
                **self._dials.dialled(),
            )

    def _connect(self, account: AccountFound) -> None:
        wishes = replace(self._wishes, whole=Deadline(SECONDS))
        smarthost = connect(account, wishes, self._agent, self._log, self._theirs.fileno())
        # From now on it is of any session of this account, and this one's end does not concern it.
        smarthost.stream.stop = self._dials.stop
        if self._dials.pool.keep(account.fingerprint, smarthost):
            self._fingerprint = account.fingerprint
        else:
            smarthost.quit()
