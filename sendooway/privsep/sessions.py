"""The sessions that an agent looks after once it is the user: the one that has logged in there, and others of this user
that the monitor gives to it.

Of each session it answers, one after the other, what the table ALLOWED has for its state.
"""

import os
import select
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum

from sendooway.auth.identity import Identity
from sendooway.log import Log
from sendooway.privsep import channel
from sendooway.privsep.channel import Channel, ChannelClosed
from sendooway.privsep.messages import (
    FromAgent,
    LoginDone,
    LookUp,
    Message,
    ProtocolError,
    SaslBegin,
    SaslContinue,
    SaslResponse,
    SessionGiven,
    SessionOver,
)
from sendooway.privsep.snapshot import Snapshot
from sendooway.privsep.user import Holdings, User
from sendooway.privsep.visit import Visit


class State(Enum):
    USER = "the process is the user"
    SASL = "and a login at a smarthost has begun"


ALLOWED: dict[State, frozenset[type[Message]]] = {
    State.USER: frozenset({LookUp, SaslBegin}),
    # A smarthost may refuse at any point, or be left for another.
    State.SASL: frozenset({LookUp, SaslBegin, SaslContinue}),
}


class _Session:
    """One of them. `channel` is the one to its proxy."""

    def __init__(self, channel: Channel, visit: Visit, user: User) -> None:
        self.channel = channel
        self.visit = visit
        self.state = State.USER
        self._user = user

    def welcome(self, name: str) -> None:
        settings = self._user.settings
        self._send(
            LoginDone(
                user=name,
                localname=settings.localname,
                clone_ehlo=settings.clone_ehlo,
                add_received_field=settings.add_received_field,
                timeout=settings.timeout,
                own_ca=self._user.own_ca is not None,
            )
        )

    def resume(self) -> None:
        """Another agent has told all that `welcome` tells."""
        self._close(self._take_ca())

    def serve(self) -> None:
        """One question, which is there. Raises what Channel.receive and Channel.send raise."""
        answer = self._answer(self.channel.receive(ALLOWED[self.state], 1.0))
        self.state = State.SASL if isinstance(answer, SaslResponse) else State.USER
        self._send(answer)

    def _answer(self, message: Message) -> FromAgent:
        match message:
            case LookUp(reverse_path, ahead):
                return self._user.look_up(reverse_path, ahead=ahead)
            case SaslBegin(number, offered, refused):
                return self._user.begin_sasl(number, offered, refused)
            case SaslContinue(challenge):
                return self._user.continue_sasl(challenge)
            case _:
                raise ProtocolError(f"a {type(message).__name__}, which is no question")

    def _send(self, answer: FromAgent) -> None:
        """Send an answer, with the certificates that belong to it."""
        beside = self._take_ca()
        try:
            # Who asks one question at a time has room for the answer; for another proxy nobody else is to wait.
            self.channel.send(answer, beside, wait=False)
        finally:
            self._close(beside)

    def _take_ca(self) -> tuple[int, ...]:
        descriptor, self._user.own_ca = self._user.own_ca, None
        return () if descriptor is None else (descriptor,)

    def _close(self, descriptors: tuple[int, ...]) -> None:
        for descriptor in descriptors:
            os.close(descriptor)


class Sessions:
    """`visit` and `state` are those of the session whose turn it is.

    `monitor` gives further sessions, and hears when one is over; None: there are none to come.
    """

    def __init__(self, identity: Identity, snapshot: Snapshot, log: Log, monitor: Channel | None) -> None:
        self._identity = identity
        self._holdings = Holdings(identity, snapshot)
        self._log = log
        self._monitor = monitor
        self._more = monitor is not None  # sessions may come
        self._sessions: dict[int, _Session] = {}  # by the descriptor of its channel
        self._poll = select.poll()
        if monitor is not None:
            self._poll.register(monitor.fileno(), select.POLLIN)

    def begin(
        self,
        proxy: Channel,
        visit: Visit,
        mechanism: str,
        principal: str | None = None,
        tickets: object | None = None,
    ) -> None:
        """This user has logged in."""
        self._log.event(
            "login",
            rip=visit.client,
            user=self._identity.name,
            mech=mechanism,
            principal=principal,
            session=visit.session,
        )
        session = self._add(proxy, visit, tickets)
        with self._attended(session):
            session.welcome(self._identity.name)

    def resume(self, proxy: Channel, visit: Visit) -> None:
        """This user has logged in before, and another agent has looked after the session since."""
        self._add(proxy, visit, None).resume()

    def _add(self, proxy: Channel, visit: Visit, tickets: object | None) -> _Session:
        self.visit, self.state = visit, State.USER
        session = _Session(proxy, visit, User(self._holdings, self._log.bind(session=visit.session), tickets))
        self._sessions[proxy.fileno()] = session
        self._poll.register(proxy.fileno(), select.POLLIN)
        return session

    def serve(self) -> None:
        """Answer until no session is left and none can come. Raises ProtocolError for what is not allowed."""
        while self._sessions or self._more:
            for descriptor, _ in self._poll.poll():
                if descriptor in self._sessions:
                    self._serve(self._sessions[descriptor])
                elif self._more:
                    self._hear()

    def _serve(self, session: _Session) -> None:
        self.visit, self.state = session.visit, session.state
        with self._attended(session):
            session.serve()

    @contextmanager
    def _attended(self, session: _Session) -> Iterator[None]:
        """A session whose proxy is gone, or does not listen, is over."""
        try:
            yield
        except (ChannelClosed, TimeoutError):
            self._end(session)
        except Exception:
            # The process ends by it, and no other agent is to go on with what has brought it there.
            self._end(session)
            raise

    def _end(self, session: _Session) -> None:
        del self._sessions[session.channel.fileno()]
        self._poll.unregister(session.channel.fileno())
        session.channel.close()
        if self._monitor is not None:
            # Nobody to tell it to: the monitor has ended, and we will, too.
            with suppress(ChannelClosed, TimeoutError):
                self._monitor.send(SessionOver(session.visit.session))

    def _hear(self) -> None:
        assert self._monitor is not None
        try:
            message, descriptors = self._monitor.receive_descriptors(frozenset({SessionGiven}), 1.0, 1)
        except (ChannelClosed, OSError) as error:
            self._more = False
            self._poll.unregister(self._monitor.fileno())
            if isinstance(error, OSError):
                # No room for its channel, and nobody knows which session has lost it.
                self._monitor.close()
                self._monitor = None
            return
        assert isinstance(message, SessionGiven)
        self.begin(channel.given(descriptors), Visit(message.session, message.client), message.mechanism)
