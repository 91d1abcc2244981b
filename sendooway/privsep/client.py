"""The proxy's side of an agent: each question is a method, each with the time that its answer may take."""

import os
from collections.abc import Callable
from dataclasses import replace

from sendooway.net.deadline import Deadline
from sendooway.net.pause import Pause
from sendooway.net.stream import Stream
from sendooway.privsep import channel as channels
from sendooway.privsep.channel import Channel, ChannelClosed
from sendooway.privsep.messages import (
    MAX_CA_OCTETS,
    AccountFound,
    AccountMissing,
    AgentWanted,
    LoginBegin,
    LoginCancel,
    LoginChallenge,
    LoginContinue,
    LoginDone,
    LoginRefused,
    LookUp,
    LookUpFailed,
    Message,
    ProtocolError,
    SaslBegin,
    SaslContinue,
    SaslResponse,
    SaslUnavailable,
    ToAgent,
)
from sendooway.secret import Secret

# More than the agent grants itself, so that its own words arrive.
LOGIN_SECONDS = 10.0  # beyond the time to log in
PATIENCE = 0.25  # to wait for the answer in the thread; most logins are checked by then
ANSWER_SECONDS = 150.0  # three other sessions may be before this one, with questions that take as long as they may

_LOGIN_ANSWERS = frozenset({LoginChallenge, LoginDone, LoginRefused})
_LOOK_UP_ANSWERS = frozenset({AccountFound, AccountMissing, LookUpFailed})
_SASL_ANSWERS = frozenset({SaslResponse, SaslUnavailable})

LoginAnswer = LoginChallenge | LoginDone | LoginRefused


class AgentError(Exception):
    """There is no agent, or none any more, or it does not do as agreed. The session cannot go on."""


class Agent:
    """The agent of one session. After an AgentError it is of no more use."""

    def __init__(
        self,
        channel: Channel,
        login_timeout: float,
        patience: float = PATIENCE,
        successor: Callable[[], Channel] | None = None,
    ) -> None:
        """`login_timeout` is how many seconds a login may take in all. Who has no `patience` is told to come again.

        `successor` gives the channel to another agent if this one dies, or raises AgentError.
        """
        self._channel = channel
        self._successor = successor
        self._login_timeout = login_timeout
        self._patience = patience
        # Each agent numbers the accounts from 0 on. Here a number means one account for as long as the session lasts.
        self._first_number = 0  # of the agent of now
        self._next_number = 0
        self._answered_by = Deadline(0)
        self._own_ca: bytes | None = None

    @classmethod
    def request(
        cls, monitor: Channel, session: str, client: Stream, login_timeout: float, *, told: str = "", user: str = ""
    ) -> "Agent":
        """Ask the monitor for an agent. It reads the address of `client` from the connection itself, unless a balancer,
        which it trusts too, has `told` another. `user` is who wants to log in, where that is known.

        Raises AgentError; a monitor that refuses is noticed at the first question.
        """

        def ask(user: str = "") -> Channel:
            try:
                ours, theirs = channels.pair()
            except OSError as error:
                raise AgentError(f"no channel to an agent: {error.strerror}") from error
            try:
                monitor.send(AgentWanted(session, told, user), (theirs.fileno(), client.transport.descriptors()[0]))
            except (ChannelClosed, OSError) as error:
                ours.close()
                raise AgentError("the monitor cannot be asked for an agent") from error
            finally:
                theirs.close()
            return ours

        return cls(ask(user), login_timeout, successor=ask)

    def begin_login(self, mechanism: str, initial_response: bytes | None) -> LoginAnswer | Pause:
        """AUTH. A pause: the answer is there at its end, for `login_answer`. Raises AgentError."""
        response = None if initial_response is None else Secret(initial_response)
        return self._log_in(LoginBegin(mechanism, response))

    def continue_login(self, response: bytes) -> LoginAnswer | Pause:
        """The client's response to the last challenge. Answers and raises as `begin_login` does."""
        return self._log_in(LoginContinue(Secret(response)))

    def cancel_login(self) -> None:
        """The client gave up the login, to which a challenge was the last answer. Raises AgentError."""
        self._send(LoginCancel())

    def take_ca(self) -> bytes | None:
        """After LoginDone and AccountFound, once: the contents of the file of trusted certificates that came with it.

        None: none came.
        """
        own_ca, self._own_ca = self._own_ca, None
        return own_ca

    def look_up(self, reverse_path: str, *, ahead: bool = False) -> AccountFound | AccountMissing | LookUpFailed:
        """Which account serves this sender? `ahead` of any mail: see LookUp. If the agent was killed, its successor is
        asked. Raises AgentError."""
        question = LookUp(reverse_path, ahead)
        try:
            answer = self._look_up(question)
        except AgentError as error:
            if self._successor is None or not _has_ended(error):
                raise
            self._channel.close()
            self._channel = self._successor()
            self._first_number = self._next_number
            answer = self._look_up(question)
        assert isinstance(answer, AccountFound | AccountMissing | LookUpFailed)
        if not isinstance(answer, AccountFound):
            return answer
        number = self._first_number + answer.number
        self._next_number = max(self._next_number, number + 1)
        return replace(answer, number=number)

    def _look_up(self, question: LookUp) -> Message:
        self._send(question)
        return self._receive_with_ca(_LOOK_UP_ANSWERS, ANSWER_SECONDS)

    def begin_sasl(
        self, number: int, offered: tuple[str, ...], refused: tuple[str, ...]
    ) -> SaslResponse | SaslUnavailable:
        """Begin a login at a smarthost, see SaslBegin. If the agent was killed, there is none: the next look-up has
        another agent. Raises AgentError."""
        return self._sasl(SaslBegin(number - self._first_number, offered, refused))

    def continue_sasl(self, challenge: bytes) -> SaslResponse | SaslUnavailable:
        """The smarthost's challenge, without base64. Answers and raises as `begin_sasl` does."""
        return self._sasl(SaslContinue(challenge))

    def fileno(self) -> int:
        """To be polled: readable between questions means that the agent is gone."""
        return self._channel.fileno()

    def close(self) -> None:
        """The agent ends when it notices."""
        self._channel.close()

    def _log_in(self, question: ToAgent) -> LoginAnswer | Pause:
        self._send(question)
        self._answered_by = Deadline(self._login_timeout + LOGIN_SECONDS)
        pause = Pause(self._channel.fileno(), self._answered_by)
        answered = Pause(pause.descriptor, Deadline(self._patience)).wait()
        return self.login_answer() if answered or not pause.seconds() else pause

    def login_answer(self) -> LoginAnswer:
        """After a pause. Raises AgentError."""
        try:
            seconds = self._answered_by.left()
        except TimeoutError as error:
            raise _agent_error(error) from error
        answer = self._receive_with_ca(_LOGIN_ANSWERS, seconds)
        assert isinstance(answer, LoginChallenge | LoginDone | LoginRefused)
        return answer

    def _receive_with_ca(self, allowed: frozenset[type[Message]], seconds: float) -> Message:
        """An answer beside which a file of trusted certificates may come, for `take_ca`."""
        answer, descriptors = self._receive_descriptors(allowed, seconds, 1)
        own_ca = isinstance(answer, LoginDone | AccountFound) and answer.own_ca
        self._own_ca = None
        try:
            if len(descriptors) != own_ca:
                raise AgentError("its answer came without its descriptor, or with one too many")
            if own_ca:
                self._own_ca = _read(descriptors[0])
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return answer

    def _sasl(self, question: ToAgent) -> SaslResponse | SaslUnavailable:
        try:
            self._send(question)
            answer = self._receive(_SASL_ANSWERS, ANSWER_SECONDS)
        except AgentError as error:
            if self._successor is None or not _has_ended(error):
                raise
            return SaslUnavailable("the user's agent has ended")
        assert isinstance(answer, SaslResponse | SaslUnavailable)
        return answer

    def _send(self, question: ToAgent) -> None:
        try:
            self._channel.send(question)
        except (ChannelClosed, ProtocolError, OSError) as error:
            raise _agent_error(error) from error

    def _receive(self, allowed: frozenset[type[Message]], seconds: float) -> Message:
        answer, _ = self._receive_descriptors(allowed, seconds, 0)
        return answer

    def _receive_descriptors(
        self, allowed: frozenset[type[Message]], seconds: float, limit: int
    ) -> tuple[Message, list[int]]:
        try:
            return self._channel.receive_descriptors(allowed, seconds, limit)
        except (ChannelClosed, ProtocolError, OSError) as error:
            raise _agent_error(error) from error


def _has_ended(error: AgentError) -> bool:
    return isinstance(error.__cause__, ChannelClosed)


def _agent_error(error: Exception) -> AgentError:
    match error:
        case ChannelClosed():
            return AgentError("it has ended")
        case TimeoutError():
            return AgentError("it does not answer")
        case _:
            return AgentError(f"it sent {error}" if isinstance(error, ProtocolError) else str(error))


def _read(descriptor: int) -> bytes:
    try:
        octets = os.pread(descriptor, MAX_CA_OCTETS + 1, 0)
    except OSError as error:
        raise AgentError(f"the user's trusted certificates cannot be read: {error.strerror}") from error
    if len(octets) > MAX_CA_OCTETS:
        raise AgentError(f"the user's trusted certificates are longer than {MAX_CA_OCTETS} octets")
    return octets
