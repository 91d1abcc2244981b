"""The agent: born with its parent's rights, it checks a login. Then it is that user, or leaves the session to an agent
that is this user already. What agents do as users is in `sessions.py`.

Whoever has taken over the proxy asks it, too. So it answers only what the table ALLOWED has for its state, takes
nothing for granted that a message says, and ends at anything else.
"""

# What others import late could not be imported any more by a user who may not read Python's own files.
import difflib  # noqa: F401
import hmac  # noqa: F401
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum

from sendooway import sasl
from sendooway.auth import kerberos, login
from sendooway.auth.identity import Identity, LoginError, Verdict
from sendooway.log import Log, describe
from sendooway.privsep.channel import Channel, ChannelClosed
from sendooway.privsep.gate import Gate
from sendooway.privsep.messages import (
    FromAgent,
    LoginBegin,
    LoginCancel,
    LoginChallenge,
    LoginContinue,
    LoginRefused,
    Message,
    ProtocolError,
)
from sendooway.privsep.remembered import proof
from sendooway.privsep.sessions import Sessions
from sendooway.privsep.snapshot import Snapshot
from sendooway.privsep.visit import Visit
from sendooway.sasl import ContextError, PasswordLogin, SaslError, TicketLogin
from sendooway.secret import Secret
from sendooway.unix import kernel, privileges
from sendooway.unix.privileges import PrivilegeError


class State(Enum):
    NOBODY = "nobody has logged in"
    CHALLENGED = "a challenge of ours is open"
    OVER = "nobody will log in here any more"


ALLOWED: dict[State, frozenset[type[Message]]] = {
    State.NOBODY: frozenset({LoginBegin}),
    State.CHALLENGED: frozenset({LoginContinue, LoginCancel}),
}


# Where the realm is, whoever started the program decides for all users; where tickets are, only for itself.
INHERITED = frozenset({"KRB5_CONFIG"})
INHERITED_BY_OURSELVES = frozenset({"KRB5CCNAME", "KRB5_CLIENT_KTNAME"})


@dataclass(frozen=True)
class Pace:
    """How slowly a refused login is answered. Times in seconds.

    A refusal comes no sooner after the check began, the same for every reason: far above what any back end takes, so
    that the time tells nothing. The jitter hides what is left of it, such as the time to fork a process.
    """

    delay: float = 2.0
    jitter: float = 1.0

    def seconds(self) -> float:
        """How long from the beginning of a check to its refusal: different each time, in steps too small to measure."""
        return self.delay + self.jitter * int.from_bytes(os.urandom(4), "big") / 0xFFFFFFFF


def run(
    channel: Channel,
    snapshot: Snapshot,
    visit: Visit,
    log: Log,
    pace: Pace,
    monitor: Channel | None = None,
    resumed: Identity | None = None,
) -> int:
    """Serve one session, and those that are given to this agent then; returns the process's exit status, 0 if nothing
    was wrong.

    `monitor` is asked before each login is checked, and gives what comes then: sessions of the user that this process
    has become, or else logins. `resumed` is who has logged in in this session before: the agent of then was killed.
    """
    gate = Gate(monitor)
    agent = _Agent(channel, visit, snapshot, log, pace, gate)
    try:
        if resumed is not None:
            agent.resume(resumed)
        while agent.run():
            agent = _Agent(*gate.next_login(), snapshot, log, pace, gate)
    except ChannelClosed:
        return 0
    except TimeoutError:
        log.event("login-timeout", rip=visit.client, session=visit.session)
        return 0
    except (ProtocolError, PrivilegeError) as error:
        visit, state = agent.situation()
        log.error("agent-ends", rip=visit.client, session=visit.session, state=state, reason=str(error))
        return os.EX_SOFTWARE
    except Exception as error:
        visit, _ = agent.situation()
        # Its text and the local variables may hold a password, so only its place is told.
        log.error("agent-failed", rip=visit.client, session=visit.session, reason=describe(error))
        return os.EX_SOFTWARE
    return 0


class _Agent:
    def __init__(self, channel: Channel, visit: Visit, snapshot: Snapshot, log: Log, pace: Pace, gate: Gate) -> None:
        self._channel = channel
        self._state = State.NOBODY
        self._snapshot = snapshot
        self._visit = visit
        self._log = log
        self._pace = pace
        self._gate = gate
        self._end = time.monotonic() + snapshot.configuration.login_timeout
        self._failures = 0
        self._mechanism = ""
        self._dialogue: sasl.Server | None = None
        self._sessions: Sessions | None = None
        self._given = False

    def run(self) -> bool:
        """Serve until the session is over. True: it has only begun, and is another agent's now.

        Raises ProtocolError for a message that makes no sense now, PrivilegeError if it cannot become the user,
        ChannelClosed, and TimeoutError if nobody logs in in time."""
        while self._state is not State.OVER:
            answer = self._answer(self._channel.receive(ALLOWED[self._state], self._left()))
            if answer is not None:
                self._channel.send(answer)
        if self._given:
            self._channel.close()
        elif self._sessions is not None:
            self._sessions.serve()
        return self._given

    def resume(self, identity: Identity) -> None:
        """Go on as this user. Raises PrivilegeError."""
        self._state = State.OVER
        self._become(identity, further=True).resume(self._channel, self._visit)

    def situation(self) -> tuple[Visit, str]:
        """Whose turn it is, and what may be asked."""
        if self._sessions is None:
            return self._visit, self._state.value
        return self._sessions.visit, self._sessions.state.value

    def _left(self) -> float:
        """Seconds of the time to log in, of which all attempts have a part, back end included."""
        return max(0.001, self._end - time.monotonic())

    def _answer(self, message: Message) -> FromAgent | None:
        match message:
            case LoginBegin(mechanism, initial_response):
                return self._begin_login(mechanism, initial_response)
            case LoginContinue(response):
                return self._respond(response)
            case LoginCancel():
                self._state = State.NOBODY
                return None
            case _:
                raise ProtocolError(f"a {type(message).__name__}, which is no question")

    def _begin_login(self, mechanism: str, initial_response: Secret | None) -> FromAgent | None:
        if mechanism not in self._snapshot.configuration.auth_mechanisms:
            raise ProtocolError("a LoginBegin with a mechanism that is not offered")
        self._mechanism = mechanism
        ready = self._ready()
        try:
            with self._limited():
                self._dialogue = self._open(mechanism)
        except ContextError as error:
            return self._refuse("", LoginError(Verdict.REFUSED, str(error), error.remedy), ready)
        challenge = next(self._dialogue)
        if initial_response is None:
            self._state = State.CHALLENGED
            return LoginChallenge(challenge)
        # It answers the first challenge, which the client does not get to see (RFC 4954, 4.).
        return self._respond(initial_response)

    def _respond(self, response: Secret) -> FromAgent | None:
        """Go on with a response, and check the login at its end. None: whoever takes over the session answers."""
        assert self._dialogue is not None
        ready = self._ready()
        try:
            with self._limited():
                challenge = self._dialogue.send(response.octets)
        except StopIteration as end:
            claim: PasswordLogin | TicketLogin = end.value
        except ContextError as error:
            return self._refuse("", LoginError(Verdict.REFUSED, str(error), error.remedy), ready)
        except SaslError as error:
            # Nothing was asked, so there is nothing that the time could tell.
            return self._refuse("", LoginError(Verdict.MALFORMED, str(error)), time.monotonic())
        else:
            self._state = State.CHALLENGED
            return LoginChallenge(challenge)
        name = claim.authcid if isinstance(claim, PasswordLogin) else claim.principal
        remembered = self._gate.wait(name, self._proof(claim), self._left())
        ready = self._ready()
        try:
            with self._limited():
                identity = self._verify(claim, remembered=remembered)
        except LoginError as error:
            self._gate.failed(refused=error.verdict is Verdict.REFUSED)
            return self._refuse(name, error, ready)
        # A ticket that the client has delegated is in this process.
        movable = self._channel if isinstance(claim, PasswordLogin) else None
        verdict = self._gate.passed(identity, self._mechanism, movable, self._left())
        if not verdict.granted:
            return self._turn_away(identity)
        self._state = State.OVER
        self._given = verdict.given
        if not self._given:
            principal, tickets = (claim.principal, claim.tickets) if isinstance(claim, TicketLogin) else (None, None)
            sessions = self._become(identity, further=movable is not None)
            sessions.begin(self._channel, self._visit, self._mechanism, principal, tickets)
        return None

    def _open(self, mechanism: str) -> sasl.Server:
        """The server side of a mechanism. Raises ContextError."""
        if mechanism != sasl.GSSAPI:
            return sasl.server(mechanism)
        configuration = self._snapshot.configuration
        context = kerberos.accept(
            configuration.krb5_keytab, constrained=configuration.krb5_constrained_delegation, warn=self._warn
        )
        return sasl.gssapi.server(context)

    def _warn(self, error: ContextError) -> None:
        self._log.warning(
            "no-delegation",
            rip=self._visit.client,
            session=self._visit.session,
            reason=str(error),
            remedy=error.remedy or None,
        )

    def _proof(self, claim: PasswordLogin | TicketLogin) -> bytes:
        """The proof (see CheckWanted) of a password that may be remembered; else empty."""
        configuration = self._snapshot.configuration
        can_recognise = login.AUTHENTICATORS[configuration.auth_backend](configuration).recognise is not None
        if not configuration.auth_cache or not can_recognise or not isinstance(claim, PasswordLogin):
            return b""
        return proof(self._snapshot.key, claim.authcid, claim.password.octets)

    def _verify(self, claim: PasswordLogin | TicketLogin, *, remembered: bool) -> Identity:
        """Raises LoginError."""
        configuration, client = self._snapshot.configuration, self._visit.client
        match claim:
            case PasswordLogin():
                authenticator = login.AUTHENTICATORS[configuration.auth_backend](configuration)
                return login.verify(claim, authenticator, configuration.valid_users, client, remembered=remembered)
            case TicketLogin():
                return login.verify_ticket(claim, configuration, client)

    def _ready(self) -> float:
        """The time before which the refusal of what has just come is not answered."""
        return time.monotonic() + self._pace.seconds()

    @contextmanager
    def _limited(self) -> Iterator[None]:
        """PAM's modules and libkrb5 may wait for ever. They are in C and do not listen: a signal ends the process."""
        signal.setitimer(signal.ITIMER_REAL, self._left())
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _refuse(self, user: str, error: LoginError, ready: float) -> LoginRefused:
        """Log at once, answer not before the time `ready`."""
        self._failures += 1
        final = self._failures >= self._snapshot.configuration.max_failed_logins
        self._log.warning(
            "auth-failure",
            rip=self._visit.client,
            mech=self._mechanism,
            user=user,
            reason=error.reason,
            remedy=error.remedy or None,
            session=self._visit.session,
        )
        time.sleep(max(0.0, ready - time.monotonic()))
        self._state = State.OVER if final else State.NOBODY
        return LoginRefused(error.verdict.value, final)

    def _turn_away(self, identity: Identity) -> LoginRefused:
        self._log.warning("too-many-sessions", rip=self._visit.client, user=identity.name, session=self._visit.session)
        self._state = State.OVER
        return LoginRefused(Verdict.CROWDED.value, True)

    def _become(self, identity: Identity, *, further: bool) -> Sessions:
        """Be this user for good, and look after `further` sessions or this one only. Raises PrivilegeError."""
        # The keytab's keys are within its reach.
        self._dialogue = None
        monitor = self._gate.leave(further=further)
        inherited = INHERITED if os.geteuid() == 0 else INHERITED | INHERITED_BY_OURSELVES
        kept = {name: value for name, value in os.environ.items() if name in inherited}
        privileges.drop_to(identity.uid, identity.gid, identity.name)
        os.environ.clear()
        os.environ.update(
            kept, HOME=identity.home, USER=identity.name, LOGNAME=identity.name, PATH="/usr/local/bin:/usr/bin:/bin"
        )
        kernel.set_title(f"sendooway [agent: {identity.name}]")
        self._sessions = Sessions(identity, self._snapshot, self._log, monitor)
        return self._sessions
