"""Our side of the dialogue with a smarthost, up to the point where mail can be sent.

The dialogue is a generator: it yields a step and is sent what came of it. Whoever drives it does the I/O:

    Receive()            -> the next Reply
    Send(octets)         -> the Reply to it
    Secure()             -> None, once the TLS handshake is done and the certificate verified
    BeginLogin(...)      -> LoginMessage, or LoginUnavailable if no mechanism is left
    ContinueLogin(...)   -> LoginMessage, or LoginUnavailable if the challenge makes no sense
"""

from binascii import b2a_base64
from collections.abc import Generator
from dataclasses import dataclass, field
from enum import Enum

from sendooway.smtp import capabilities as capabilities_
from sendooway.smtp.capabilities import Capabilities
from sendooway.smtp.command import MAX_OCTETS, CommandError, parse_base64
from sendooway.smtp.reply import Reply


class Stage(Enum):
    """Where in the way to a smarthost something went wrong. The values are the words that users read."""

    CONNECT = "connect"
    GREETING = "greeting"
    EHLO = "EHLO"
    STARTTLS = "STARTTLS"
    TLS = "TLS"
    LOGIN = "login"
    MAIL = "mail"


class SmarthostError(Exception):
    """No mail can be sent through this smarthost now. `reason` says why and holds no secret; `reply` is what the
    smarthost said, None where it said nothing; `broken`: there is no usable connection, which is another matter than
    TLS or a login that is refused."""

    def __init__(self, stage: Stage, reason: str, reply: Reply | None = None, *, broken: bool = False) -> None:
        super().__init__(reason)
        self.stage = stage
        self.reason = reason
        self.reply = reply
        self.broken = broken


@dataclass(frozen=True)
class Receive:
    """Receive one reply."""

    stage: Stage


@dataclass(frozen=True)
class Send:
    """Send these octets: whole lines."""

    stage: Stage
    octets: bytes = field(repr=False)  # with AUTH, they hold a password


@dataclass(frozen=True)
class Secure:
    """Begin TLS now."""


@dataclass(frozen=True)
class BeginLogin:
    """Ask what to say first, by one of the mechanisms `offered` that the smarthost has not `refused` here before."""

    offered: tuple[str, ...]
    refused: tuple[str, ...]


@dataclass(frozen=True)
class ContinueLogin:
    """Ask for the response to the smarthost's challenge, which is without base64."""

    challenge: bytes


@dataclass(frozen=True)
class LoginMessage:
    """What the mechanism says, without base64; `response` None: nothing yet, the smarthost speaks first."""

    mechanism: str
    response: bytes | None = field(repr=False)


@dataclass(frozen=True)
class LoginUnavailable:
    """There is nothing to say: no mechanism or password is left, or the challenge makes no sense. `reason` holds no
    secret."""

    reason: str


Step = Receive | Send | Secure | BeginLogin | ContinueLogin
Outcome = Reply | LoginMessage | LoginUnavailable | None
Dialogue = Generator[Step, Outcome, Capabilities]

# The smarthost does not want this mechanism, or not these credentials by it (RFC 4954, 6.): another may do.
_TRY_ANOTHER = frozenset({504, 534, 535})


def prepare(ehlo_name: str, *, starttls: bool, log_in: bool) -> Dialogue:
    """From the greeting to the point where MAIL may be said. Returns what the smarthost offers there.

    `ehlo_name` is ours, in ASCII. Raises SmarthostError, naming the stage, for everything that stands in the way.
    """
    greeting = yield from _expect(Receive(Stage.GREETING))
    if greeting.code != 220:
        raise SmarthostError(Stage.GREETING, "it is not ready", greeting, broken=True)
    offers = yield from _ehlo(ehlo_name)
    if starttls:
        if not offers.starttls:
            raise SmarthostError(Stage.STARTTLS, "it does not offer STARTTLS")
        answer = yield from _expect(Send(Stage.STARTTLS, b"STARTTLS\r\n"))
        if answer.code != 220:
            raise SmarthostError(Stage.STARTTLS, "it refused STARTTLS", answer)
        yield Secure()
        # What it said in clear may have been an attacker's word (RFC 3207, 4.2).
        offers = yield from _ehlo(ehlo_name)
    if log_in:
        yield from _log_in(offers)
    return offers


def _expect(step: Receive | Send) -> Generator[Step, Outcome, Reply]:
    answer = yield step
    assert isinstance(answer, Reply)
    return answer


def _ehlo(name: str) -> Generator[Step, Outcome, Capabilities]:
    answer = yield from _expect(Send(Stage.EHLO, f"EHLO {name}\r\n".encode("ascii")))
    if answer.code == 250:
        return capabilities_.parse(answer)
    if answer.code in (500, 502, 504):
        answer = yield from _expect(Send(Stage.EHLO, f"HELO {name}\r\n".encode("ascii")))
        if answer.code == 250:
            return capabilities_.NONE
    raise SmarthostError(Stage.EHLO, "it refused EHLO", answer, broken=True)


def _log_in(offers: Capabilities) -> Generator[Step, Outcome, None]:
    refused: tuple[str, ...] = ()
    answer: Reply | None = None
    while True:
        message = yield BeginLogin(offers.mechanisms, refused)
        if answer is not None and isinstance(message, LoginUnavailable):
            raise SmarthostError(Stage.LOGIN, "it refused the login", answer)
        message = _message(message)
        answer = yield from _exchange(message)
        if answer.code == 235:
            return
        if answer.code not in _TRY_ANOTHER:
            raise SmarthostError(Stage.LOGIN, "it refused the login", answer)
        refused += (message.mechanism,)


def _exchange(message: LoginMessage) -> Generator[Step, Outcome, Reply]:
    """One mechanism from AUTH to its final reply (RFC 4954, 4.)."""
    line = f"AUTH {message.mechanism}".encode("ascii")
    unsaid = message.response
    if unsaid is not None:
        with_response = line + b" " + (_base64(unsaid) or b"=")
        # An initial response is sent only if the line stays within the limit of command lines.
        if len(with_response) + 2 <= MAX_OCTETS:
            line, unsaid = with_response, None
    answer = yield from _expect(Send(Stage.LOGIN, line + b"\r\n"))
    while answer.code == 334:
        if unsaid is not None:
            # Some servers say text where an empty challenge belongs; it means nothing.
            response, unsaid = unsaid, None
        else:
            response = _message((yield ContinueLogin(_challenge(answer)))).response or b""
        answer = yield from _expect(Send(Stage.LOGIN, _base64(response) + b"\r\n"))
    return answer


def _message(outcome: Outcome) -> LoginMessage:
    if isinstance(outcome, LoginUnavailable):
        raise SmarthostError(Stage.LOGIN, outcome.reason)
    assert isinstance(outcome, LoginMessage)
    return outcome


def _challenge(answer: Reply) -> bytes:
    text = answer.text[0].strip()
    try:
        return parse_base64(text.encode("utf-8", "surrogateescape")) if text else b""
    except CommandError:
        raise SmarthostError(Stage.LOGIN, "its challenge is not base64") from None


def _base64(octets: bytes) -> bytes:
    return b2a_base64(octets, newline=False)
