"""The agent: one process for one session. It is born with its parent's rights, checks one login, and is that user then.

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
from sendooway.privsep import kernel, privileges
from sendooway.privsep.channel import Channel, ChannelClosed
from sendooway.privsep.gate import Gate
from sendooway.privsep.messages import (
    FromAgent,
    LoginBegin,
    LoginCancel,
    LoginChallenge,
    LoginContinue,
    LoginDone,
    LoginRefused,
    LookUp,
    Message,
    ProtocolError,
    SaslBegin,
    SaslContinue,
    SaslUnavailable,
)
from sendooway.privsep.privileges import PrivilegeError
from sendooway.privsep.remembered import proof
from sendooway.privsep.snapshot import Snapshot
from sendooway.privsep.user import User
from sendooway.sasl import ContextError, PasswordLogin, SaslError, TicketLogin
from sendooway.secret import Secret


class State(Enum):
    NOBODY = "nobody has logged in"
    CHALLENGED = "a challenge of ours is open"
    USER = "the process is the user"
    SASL = "and a login at a smarthost has begun"
    OVER = "nothing more will be answered"


ALLOWED: dict[State, frozenset[type[Message]]] = {
    State.NOBODY: frozenset({LoginBegin}),
    State.CHALLENGED: frozenset({LoginContinue, LoginCancel}),
    State.USER: frozenset({LookUp, SaslBegin}),
    # A smarthost may refuse at any point, or be left for another.
    State.SASL: frozenset({LookUp, SaslBegin, SaslContinue}),
}


# Where the realm is, whoever started the program decides for all users; where tickets are, only for itself.
INHERITED = frozenset({"KRB5_CONFIG"})
INHERITED_BY_OURSELVES = frozenset({"KRB5CCNAME", "KRB5_CLIENT_KTNAME"})


@dataclass(frozen=True)
class Pace:
    """How slowly a refused login is answered. Times in seconds.

    A refusal comes no sooner after the check began, the same for every reason: far above what any back end takes, so
    that the time tells nothing. The jitter hides what is left of it.
    """

    delay: float = 2.0
    jitter: float = 1.0


@dataclass(frozen=True)
class Visit:
    """Whom the agent works for: the session's id and the client's address, both told by the parent, not the proxy."""

    session: str
    client: str  # `local` where there is no network between us


def run(
    channel: Channel, snapshot: Snapshot, visit: Visit, log: Log, pace: Pace, monitor: Channel | None = None
) -> int:
    """Serve one session; returns the process's exit status, 0 if nothing was wrong.

    `monitor` is asked before each login is checked, and closed when somebody has logged in.
    """
    agent = _Agent(snapshot, visit, log, pace, Gate(monitor))
    try:
        while agent.state is not State.OVER:
            message = channel.receive(ALLOWED[agent.state], agent.patience())
            answer = agent.answer(message)
            if answer is not None:
                beside = agent.take_descriptors()
                channel.send(answer, beside)
                for descriptor in beside:
                    os.close(descriptor)
    except ChannelClosed:
        return 0
    except TimeoutError:
        log.event("login-timeout", rip=visit.client, session=visit.session)
        return 0
    except (ProtocolError, PrivilegeError) as error:
        log.error("agent-ends", rip=visit.client, session=visit.session, state=agent.state.value, reason=str(error))
        return os.EX_SOFTWARE
    except Exception as error:
        # Its text and the local variables may hold a password, so only its place is told.
        log.error("agent-failed", rip=visit.client, session=visit.session, reason=describe(error))
        return os.EX_SOFTWARE
    return 0


class _Agent:
    def __init__(self, snapshot: Snapshot, visit: Visit, log: Log, pace: Pace, gate: Gate) -> None:
        self.state = State.NOBODY
        self._snapshot = snapshot
        self._visit = visit
        self._log = log
        self._pace = pace
        self._gate = gate
        self._end = time.monotonic() + snapshot.configuration.login_timeout
        self._failures = 0
        self._mechanism = ""
        self._dialogue: sasl.Server | None = None
        self._user: User | None = None

    def patience(self) -> float | None:
        """How many seconds to wait for the next message; None: as long as the session lasts."""
        return None if self._user is not None else self._left()

    def _left(self) -> float:
        """Seconds of the time to log in, of which all attempts have a part, back end included."""
        return max(0.001, self._end - time.monotonic())

    def take_descriptors(self) -> tuple[int, ...]:
        """What to send beside the answer; it is the caller's then."""
        if self._user is None or self._user.own_ca is None:
            return ()
        descriptor, self._user.own_ca = self._user.own_ca, None
        return (descriptor,)

    def answer(self, message: Message) -> FromAgent | None:
        """Raises ProtocolError for a message that makes no sense now, PrivilegeError if it cannot become the user."""
        match message:
            case LoginBegin(mechanism, initial_response):
                return self._begin_login(mechanism, initial_response)
            case LoginContinue(response):
                return self._respond(response)
            case LoginCancel():
                self.state = State.NOBODY
                return None
            case LookUp(reverse_path, ahead):
                self.state = State.USER
                return self._acting().look_up(reverse_path, ahead=ahead)
            case SaslBegin(number, offered, refused):
                answer = self._acting().begin_sasl(number, offered, refused)
                self.state = State.USER if isinstance(answer, SaslUnavailable) else State.SASL
                return answer
            case SaslContinue(challenge):
                answer = self._acting().continue_sasl(challenge)
                self.state = State.USER if isinstance(answer, SaslUnavailable) else State.SASL
                return answer
            case _:
                raise ProtocolError(f"a {type(message).__name__}, which is no question")

    def _acting(self) -> User:
        if self._user is None:
            raise ProtocolError("a question that only a user may ask")
        return self._user

    def _begin_login(self, mechanism: str, initial_response: Secret | None) -> FromAgent:
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
            self.state = State.CHALLENGED
            return LoginChallenge(challenge)
        # It answers the first challenge, which the client does not get to see (RFC 4954, 4.).
        return self._respond(initial_response)

    def _respond(self, response: Secret) -> FromAgent:
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
            self.state = State.CHALLENGED
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
        if not self._gate.passed(identity.name, self._left()):
            return self._turn_away(identity)
        return self._become(identity, claim)

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
        """Of a password that may be remembered; else empty."""
        configuration = self._snapshot.configuration
        can_recognise = login.AUTHENTICATORS[configuration.auth_backend](configuration).recognise is not None
        if not configuration.auth_cache or not can_recognise or not isinstance(claim, PasswordLogin):
            return b""
        return proof(self._snapshot.key(), claim.authcid, claim.password.octets)

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
        return time.monotonic() + self._pace.delay + self._pace.jitter * os.urandom(1)[0] / 255

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
        self.state = State.OVER if final else State.NOBODY
        return LoginRefused(error.verdict.value, final)

    def _turn_away(self, identity: Identity) -> LoginRefused:
        self._log.warning("too-many-sessions", rip=self._visit.client, user=identity.name, session=self._visit.session)
        self.state = State.OVER
        return LoginRefused(Verdict.CROWDED.value, True)

    def _become(self, identity: Identity, claim: PasswordLogin | TicketLogin) -> LoginDone:
        # The keytab's keys are within its reach.
        self._dialogue = None
        self._gate.close()
        inherited = INHERITED if os.geteuid() == 0 else INHERITED | INHERITED_BY_OURSELVES
        kept = {name: value for name, value in os.environ.items() if name in inherited}
        privileges.drop_to(identity.uid, identity.gid, identity.name)
        os.environ.clear()
        os.environ.update(
            kept, HOME=identity.home, USER=identity.name, LOGNAME=identity.name, PATH="/usr/local/bin:/usr/bin:/bin"
        )
        kernel.set_title(f"sendooway [agent: {identity.name}]")
        self._log.event(
            "login",
            rip=self._visit.client,
            user=identity.name,
            mech=self._mechanism,
            principal=claim.principal if isinstance(claim, TicketLogin) else None,
            session=self._visit.session,
        )
        tickets = claim.tickets if isinstance(claim, TicketLogin) else None
        self._user = User(identity, self._snapshot, self._log.bind(session=self._visit.session), tickets)
        self.state = State.USER
        settings = self._user.settings
        return LoginDone(
            user=identity.name,
            localname=settings.localname,
            clone_ehlo=settings.clone_ehlo,
            add_received_field=settings.add_received_field,
            timeout=settings.timeout,
            own_ca=self._user.own_ca is not None,
        )
