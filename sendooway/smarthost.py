"""A connection to a smarthost, from dialling to the point where mail can be sent.

Does what the dialogue of `smtp/client.py` says: sends, receives, begins TLS, and asks the agent what to say at login.
"""

import contextlib
import ssl
from binascii import b2a_base64
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Protocol

from sendooway.accounts.account import Security
from sendooway.log import Log
from sendooway.net import tls
from sendooway.net.deadline import Deadline
from sendooway.net.dial import DialError, dial
from sendooway.net.ourselves import Ourselves
from sendooway.net.stream import ConnectionLost, SocketTransport, Stream
from sendooway.privsep.messages import AccountFound, SaslResponse, SaslUnavailable
from sendooway.secret import Secret
from sendooway.smtp import client as dialogue
from sendooway.smtp.capabilities import Capabilities
from sendooway.smtp.client import (
    BeginLogin,
    ContinueLogin,
    LoginMessage,
    LoginUnavailable,
    Outcome,
    Receive,
    Secure,
    Send,
    SmarthostError,
    Stage,
    Step,
)
from sendooway.smtp.reply import Reply, ReplyError, ReplyReader

CONNECT_SECONDS = 30  # for all addresses together
# Greeting, EHLO, TLS and login each. RFC 5321, 4.5.3.2 allows 300, but the client waits 300 for the answer to its MAIL.
PHASE_SECONDS = 60
RESET_SECONDS = 10  # for an idle connection to prove that it is alive; a new one costs less than waiting


@dataclass(frozen=True)
class Wishes:
    """How to deal with any smarthost of this session. `timeout` caps every wait, in seconds, and `whole` all of them
    together; each may be None, for no such cap. A smarthost that turns out to be one of `ourselves` is left."""

    ehlo_name: str
    timeout: int | None
    context: ssl.SSLContext = field(repr=False)
    whole: Deadline | None = None
    ourselves: Ourselves = field(default_factory=Ourselves)

    def seconds(self, limit: float) -> float:
        """How long a wait with this limit, in seconds, may be. Raises TimeoutError where no time is left at all."""
        waits = [limit] if self.timeout is None else [limit, self.timeout]
        return min(waits if self.whole is None else [*waits, self.whole.left()])


class Login(Protocol):
    """Who says the messages of a login: an agent (see SaslBegin), or the process itself where it is the user's own."""

    def begin_sasl(
        self, number: int, offered: tuple[str, ...], refused: tuple[str, ...]
    ) -> SaslResponse | SaslUnavailable:
        """What to say first, see SaslBegin."""

    def continue_sasl(self, challenge: bytes) -> SaslResponse | SaslUnavailable:
        """What to say to a challenge, see SaslContinue."""


# Hears of each step that is done, and what came of it.
Watch = Callable[[Step, Outcome], None]


class Smarthost:
    """A smarthost that takes MAIL now, logged in for one account."""

    def __init__(self, account: AccountFound, stream: Stream, offers: Capabilities, secrets: list[bytes]) -> None:
        self.account = account
        self.stream = stream
        self.offers = offers
        self.in_mail = False  # a mail was begun and neither ended nor reset
        self.mails = 0  # begun on this connection
        self.born = monotonic()
        self._secrets = secrets

    @property
    def verified_tls(self) -> bool:
        """The connection is secured, and the certificate was found good."""
        transport = self.stream.transport
        return isinstance(transport, tls.TlsTransport) and transport.verified

    def withhold(self, reply: Reply) -> Reply:
        """The reply, without its words if they repeat what was said at login."""
        return _withhold(reply, self._secrets)

    def is_silent(self) -> bool:
        """Whether nothing has come, while nothing was asked: else it is a 421, or the end of the connection."""
        try:
            return self.stream.transport.receive_now() is None
        except ConnectionLost:
            return False

    def reset(self, wishes: Wishes) -> bool:
        """Makes it ready for the next mail; false if this connection is of no use any more."""
        limit = self.offers.mails_limit
        if limit is not None and self.mails >= limit:
            return False
        try:
            if not self.is_silent():
                return False
            if self.in_mail and self.ask(b"RSET\r\n", Deadline(wishes.seconds(RESET_SECONDS))).code != 250:
                return False
        except (ConnectionLost, TimeoutError, ReplyError):
            return False
        self.in_mail = False
        return True

    def ask(self, command: bytes, deadline: Deadline) -> Reply:
        """The reply to one command between mails. Raises ConnectionLost, TimeoutError, ReplyError."""
        self.stream.send(command, deadline)
        replies = ReplyReader()
        reply = _receive_reply(self.stream, replies, deadline)
        if not replies.empty:
            raise ReplyError("more than one reply")
        return reply

    def quit(self) -> None:
        """Says QUIT and closes, without waiting for an answer that changes nothing."""
        with contextlib.suppress(ConnectionLost):
            self.stream.transport.send_now(b"QUIT\r\n")
        self.cut()

    def cut(self) -> None:
        """Closes at once. A message that was not finished stays unfinished."""
        self.stream.close()


def connect(account: AccountFound, wishes: Wishes, login: Login, log: Log, stop: int | None) -> Smarthost:
    """Dials, secures and logs in as the account says. Raises SmarthostError naming the stage, and Stopping."""
    try:
        return _attempt(account, wishes, login, stop, wishes.context)
    except tls.CertificateError as error:
        if account.check_certificate:
            raise SmarthostError(Stage.TLS, f"its certificate is not valid: {error}") from error
        log.warning("certificate-ignored", smarthost=f"{account.host}:{account.port}", reason=str(error))
    # The handshake had to be given up to learn what is wrong with the certificate.
    return _attempt(account, wishes, login, stop, tls.unverified(wishes.context))


def _attempt(
    account: AccountFound, wishes: Wishes, login: Login, stop: int | None, context: ssl.SSLContext
) -> Smarthost:
    """One connection. Raises tls.CertificateError beside what `connect` raises."""
    try:
        sock = dial(account.host, account.port, Deadline(wishes.seconds(CONNECT_SECONDS)), stop)
    except (DialError, TimeoutError) as error:
        raise SmarthostError(Stage.CONNECT, str(error), broken=True) from error
    stream = Stream(SocketTransport(sock), stop)
    try:
        if wishes.ourselves.answers(sock):
            raise SmarthostError(Stage.CONNECT, "it is this server itself, which is no smarthost", broken=True)
        return prepare(account, wishes, login, stream, context, _unseen)
    except BaseException:
        stream.close()
        raise


def prepare(
    account: AccountFound, wishes: Wishes, login: Login, stream: Stream, context: ssl.SSLContext, watch: Watch
) -> Smarthost:
    """Secures a connection that has just been made, and logs in, as the account says; `watch` hears of each step.

    The stream stays open whatever comes. Raises SmarthostError naming the stage, tls.CertificateError and Stopping.
    """
    return _Preparation(account, wishes, login, stream, context, watch).run()


def _unseen(step: Step, outcome: Outcome) -> None:
    pass


class _Preparation:
    """One call of `prepare`: does the steps of the dialogue; keeps the stage for errors, and what was said at login."""

    def __init__(
        self,
        account: AccountFound,
        wishes: Wishes,
        login: Login,
        stream: Stream,
        context: ssl.SSLContext,
        watch: Watch,
    ) -> None:
        self._account = account
        self._wishes = wishes
        self._login = login
        self._watch = watch
        self._stream = stream
        self._context = context
        self._replies = ReplyReader()
        self._secrets: list[bytes] = []
        self._stage = Stage.CONNECT

    def run(self) -> Smarthost:
        account = self._account
        security = Security(account.security)
        try:
            if security is Security.SMTPS:
                self._secure()
                self._watch(Secure(), None)
            steps = dialogue.prepare(
                account.ehlo_name or self._wishes.ehlo_name,
                starttls=security is Security.STARTTLS,
                log_in=bool(account.username),
            )
            offers = self._drive(steps)
            if not self._replies.empty:
                raise SmarthostError(self._stage, "it says more than it was asked", broken=True)
            return Smarthost(account, self._stream, offers, self._secrets)
        except SmarthostError as error:
            if error.reply is not None:
                error.reply = _withhold(error.reply, self._secrets)
            raise
        except (ConnectionLost, TimeoutError, ReplyError) as error:
            raise SmarthostError(self._stage, str(error), broken=True) from error
        except tls.CertificateError:
            raise
        except tls.TlsError as error:
            raise SmarthostError(self._stage, str(error)) from error

    def _drive(self, steps: dialogue.Dialogue) -> Capabilities:
        outcome: Outcome = None
        try:
            while True:
                step = steps.send(outcome)
                outcome = self._do(step)
                self._watch(step, outcome)
        except StopIteration as end:
            offers: Capabilities = end.value
            return offers

    def _do(self, step: Step) -> Outcome:
        match step:
            case Receive(stage):
                return self._receive(self._deadline(stage))
            case Send(stage, octets):
                deadline = self._deadline(stage)
                self._stream.send(octets, deadline)
                return self._receive(deadline)
            case Secure():
                if not self._replies.empty:
                    # What stands in the buffer would be taken for what came through TLS (CVE-2021-22947).
                    raise SmarthostError(Stage.TLS, "it went on in clear after STARTTLS")
                self._secure()
                return None
            case BeginLogin(offered, refused):
                return self._say(self._login.begin_sasl(self._account.number, offered, refused))
            case ContinueLogin(challenge):
                return self._say(self._login.continue_sasl(challenge))

    def _deadline(self, stage: Stage) -> Deadline:
        self._stage = stage
        return Deadline(self._wishes.seconds(PHASE_SECONDS))

    def _receive(self, deadline: Deadline) -> Reply:
        return _receive_reply(self._stream, self._replies, deadline)

    def _secure(self) -> None:
        account = self._account
        tls.connect(self._stream, self._context, account.host, self._deadline(Stage.TLS), account.certificate_sha256)

    def _say(self, answer: SaslResponse | SaslUnavailable) -> Outcome:
        match answer:
            case SaslUnavailable(reason):
                return LoginUnavailable(reason)
            case SaslResponse(mechanism, None):
                return LoginMessage(mechanism, None)
            case SaslResponse(mechanism, Secret(octets)):
                said = [*octets.split(b"\0"), b2a_base64(octets, newline=False)]
                # What is as short as this would be found in any text.
                self._secrets += [part for part in said if len(part) > 3 and part != self._account.username.encode()]
                return LoginMessage(mechanism, octets)
        raise AssertionError(answer)


def _receive_reply(stream: Stream, replies: ReplyReader, deadline: Deadline) -> Reply:
    while (reply := replies.next_reply()) is None:
        octets = stream.receive(deadline)
        if not octets:
            raise ConnectionLost("it closed the connection")
        replies.receive(octets)
    return reply


def _withhold(reply: Reply, secrets: list[bytes]) -> Reply:
    words = " ".join(reply.text).encode("utf-8", "surrogateescape")
    if any(map(words.__contains__, secrets)):
        return Reply(reply.code, reply.enhanced, ("(words withheld, they repeat the password)",))
    return reply
