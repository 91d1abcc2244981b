"""One account tried out at its smarthost, from its addresses to MAIL and RSET: all but a mail.

What the daemon does with it is done here by the same code: `net/dial`, `net/tls`, `smtp/client` and `sasl`.
"""

import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from socket import AF_INET, AF_INET6, AddressFamily, socket

from sendooway.accounts.account import Account, Security
from sendooway.auth.identity import Identity
from sendooway.config import UserSettings
from sendooway.net import tls
from sendooway.net.deadline import Deadline
from sendooway.net.dial import Address, DialError, dial_addresses, resolve
from sendooway.net.stream import ConnectionLost, SocketTransport, Stream
from sendooway.net.together import together
from sendooway.privsep.messages import SaslResponse, SaslUnavailable
from sendooway.privsep.password import Passwords
from sendooway.privsep.smarthost_login import SmarthostLogin, describe, mechanisms
from sendooway.smarthost import CONNECT_SECONDS, PHASE_SECONDS, Smarthost, Wishes, prepare
from sendooway.smtp.client import BeginLogin, LoginMessage, Outcome, Secure, Send, SmarthostError, Stage, Step
from sendooway.smtp.command import Envelope, format_mail
from sendooway.smtp.reply import Reply, ReplyError

ALL_SECONDS = 120.0
EXPIRES_SOON = 14  # days
_DAY = 86400


class Phase(Enum):
    """What is looked at, in this order. The values are the words that users read."""

    IPV6 = "IPv6"
    IPV4 = "IPv4"
    TLS = "TLS"
    EHLO = "EHLO"
    MECHANISMS = "mechanisms"
    LOGIN = "login"
    MAIL = "MAIL"


class Verdict(Enum):
    """The values are those of --json."""

    GOOD = "good"
    DOUBTFUL = "doubtful"  # mail can be sent, but somebody should look
    BAD = "bad"


@dataclass(frozen=True)
class Result:
    """`text` is a few words for a table; `details`, empty where nothing more is known, is for the user to act on: the
    smarthost's own words, where it spoke. Neither holds a secret."""

    verdict: Verdict
    text: str
    details: str = ""


GOOD = Result(Verdict.GOOD, "ok")

# Without the phases that were not reached, or that this account does not have.
Results = dict[Phase, Result]


@dataclass(frozen=True)
class Way:
    """How accounts are tried: as the agents of this user do it. `context` trusts what they trust; `client_keytab` is a
    path, empty for none; `seconds` is the time that one account may take."""

    user: Identity
    settings: UserSettings
    context: ssl.SSLContext
    passwords: Passwords
    client_keytab: str
    seconds: float = ALL_SECONDS


def try_out(account: Account, senders: tuple[str, ...], way: Way, begin: Callable[[Phase], None]) -> Results:
    """Try an account, whose password is at hand, and MAIL with each of the senders; `begin` hears of each phase.

    It needs no signals, so that many accounts may be tried side by side, each in its thread.
    """
    trial = _Trial(account, way, begin)
    trial.run(senders)
    return {phase: trial.results[phase] for phase in Phase if phase in trial.results}


class _Trial:
    """One call of `try_out`: the Login of its own dialogue, which it also watches."""

    def __init__(self, account: Account, way: Way, begin: Callable[[Phase], None]) -> None:
        self.results: Results = {}
        self._account = account
        self._way = way
        self._begin = begin
        self._mechanism = ""
        self._found = describe(account, way.user)
        self._warnings: list[str] = []
        self._login = SmarthostLogin(
            account, way.settings, way.passwords, None, way.client_keytab, lambda _, error: self._warn(error)
        )

    def run(self, senders: tuple[str, ...]) -> None:
        sock = self._connect()
        if sock is None:
            return
        way = self._way
        try:
            ca_file = self._account.ca_file
            context = tls.client_context(ca_file) if ca_file else way.context
            wishes = Wishes(way.settings.localname, way.settings.timeout, context, Deadline(way.seconds))
            smarthost = self._prepare(sock, wishes)
        except tls.TlsError as error:
            sock.close()
            self._fail(SmarthostError(Stage.TLS, str(error)))
            return
        except SmarthostError as error:
            self._fail(error)
            return
        if smarthost is None:
            return
        if senders:
            self._begin(Phase.MAIL)
            self.results[Phase.MAIL] = _mail(smarthost, senders, wishes)
        smarthost.quit()

    def _connect(self) -> socket | None:
        """A connection over the first family that has one; both are tried."""
        host, port = self._account.host, self._account.port
        self._begin(Phase.IPV6)
        deadline = Deadline(min(CONNECT_SECONDS, self._way.settings.timeout or CONNECT_SECONDS))
        try:
            addresses = resolve(host, port, deadline)
        except (DialError, TimeoutError) as error:
            self.results[Phase.IPV4] = Result(Verdict.BAD, "unknown host", f"{host}: {error}")
            return None
        of_family = {phase: [address for address in addresses if address[0] == _FAMILIES[phase]] for phase in _FAMILIES}
        phases = [phase for phase in _FAMILIES if of_family[phase]]
        ends = together([partial(_dial, of_family[phase], deadline) for phase in phases])
        socks = [end for end in ends if isinstance(end, socket)]
        for phase, end in zip(phases, ends, strict=True):
            if isinstance(end, socket):
                self.results[phase] = GOOD
            else:
                # One family is enough. Many hosts have addresses of the other that this network cannot reach.
                self.results[phase] = Result(Verdict.DOUBTFUL if socks else Verdict.BAD, "no answer", f"{host}: {end}")
        for sock in socks[1:]:
            sock.close()
        return socks[0] if socks else None

    def _prepare(self, sock: socket, wishes: Wishes) -> Smarthost | None:
        """The smarthost, ready for MAIL. None: its certificate is not valid, and has to be. Raises SmarthostError."""
        try:
            peer: Address = (sock.family, sock.getpeername())
        except OSError as error:
            raise SmarthostError(Stage.CONNECT, str(error.strerror)) from error
        try:
            return self._attempt(sock, wishes, wishes.context)
        except tls.CertificateError as error:
            reason = f"{self._account.host}: its certificate is not valid: {error}"
            if self._account.check_certificate:
                self.results[Phase.TLS] = Result(Verdict.BAD, "bad certificate", reason)
                return None
        try:
            again = dial_addresses([peer], Deadline(wishes.seconds(CONNECT_SECONDS)))
        except (DialError, TimeoutError) as error:
            raise SmarthostError(Stage.CONNECT, str(error)) from error
        smarthost = self._attempt(again, wishes, tls.unverified(wishes.context))
        self.results[Phase.TLS] = Result(Verdict.DOUBTFUL, "unchecked", f"{reason} (noCertCheck)")
        return smarthost

    def _attempt(self, sock: socket, wishes: Wishes, context: ssl.SSLContext) -> Smarthost:
        stream = Stream(SocketTransport(sock))
        if self._account.security is Security.NONE:
            self.results[Phase.TLS] = Result(Verdict.DOUBTFUL, "none", f"{self._account.host}: all goes in clear")
        self._begin(Phase.TLS if self._account.security is Security.SMTPS else Phase.EHLO)
        try:
            return prepare(self._found, wishes, self, stream, context, lambda *done: self._watch(stream, *done))
        except BaseException:
            stream.close()
            raise

    def _watch(self, stream: Stream, step: Step, outcome: Outcome) -> None:
        match step:
            case Secure():
                self.results[Phase.TLS] = _certificate(stream, self._account.host)
                self._begin(Phase.EHLO)
            case Send(Stage.EHLO) if isinstance(outcome, Reply) and outcome.code == 250:
                self.results[Phase.EHLO] = GOOD
            case BeginLogin(offered, refused):
                if not refused:
                    self.results[Phase.MECHANISMS] = Result(Verdict.GOOD, " ".join(offered) or "none")
                if isinstance(outcome, LoginMessage):
                    self._mechanism = outcome.mechanism
            case Send(Stage.LOGIN) if isinstance(outcome, Reply) and outcome.code == 235:
                self.results[Phase.LOGIN] = self._logged_in()

    def _logged_in(self) -> Result:
        if self._warnings:
            return Result(Verdict.DOUBTFUL, self._mechanism, "; ".join(self._warnings))
        return Result(Verdict.GOOD, self._mechanism)

    def _fail(self, error: SmarthostError) -> None:
        phase = _PHASES[error.stage]
        if phase is Phase.LOGIN:
            usable = " ".join(mechanisms(self._account, self._way.settings))
            words = f"{self._account.host}: {error.reason}" + (f" of {self._found.username}" if usable else "")
        else:
            words = f"{self._account.host}: {error.stage.value}: {error.reason}"
        if error.reply is not None:
            words += f"; it said: {error.reply}"
        words = "; ".join([words, *self._warnings])
        self.results[phase] = Result(Verdict.BAD, "refused" if error.reply else "failed", words)

    def _warn(self, error: Exception) -> None:
        remedy = getattr(error, "remedy", "")
        self._warnings.append(f"{error}; {remedy}" if remedy else str(error))

    def begin_sasl(
        self, number: int, offered: tuple[str, ...], refused: tuple[str, ...]
    ) -> SaslResponse | SaslUnavailable:
        self._begin(Phase.LOGIN)
        return self._login.begin(offered, refused)

    def continue_sasl(self, challenge: bytes) -> SaslResponse | SaslUnavailable:
        return self._login.respond(challenge)


_FAMILIES: dict[Phase, AddressFamily] = {Phase.IPV6: AF_INET6, Phase.IPV4: AF_INET}

_PHASES = {
    Stage.CONNECT: Phase.IPV4,
    Stage.GREETING: Phase.EHLO,
    Stage.EHLO: Phase.EHLO,
    Stage.STARTTLS: Phase.TLS,
    Stage.TLS: Phase.TLS,
    Stage.LOGIN: Phase.LOGIN,
    Stage.MAIL: Phase.MAIL,
}


def _dial(addresses: list[Address], deadline: Deadline) -> socket | str:
    """A connected socket, or why there is none."""
    try:
        return dial_addresses(addresses, deadline)
    except (DialError, TimeoutError) as error:
        return str(error)


def _certificate(stream: Stream, host: str) -> Result:
    """How long the host's certificate, just found good, is still valid; of an unverified one nothing is known."""
    assert isinstance(stream.transport, tls.TlsTransport)
    certificate = stream.transport.socket.getpeercert() or {}
    end = str(certificate.get("notAfter", ""))
    if not end:
        return GOOD
    days = int(ssl.cert_time_to_seconds(end) - time.time()) // _DAY
    left = f"{days} day{'' if days == 1 else 's'}"
    if days >= EXPIRES_SOON:
        return Result(Verdict.GOOD, f"ok, {left}")
    return Result(Verdict.DOUBTFUL, f"{left} left", f"{host}: its certificate expires soon, on {end}")


def _mail(smarthost: Smarthost, senders: tuple[str, ...], wishes: Wishes) -> Result:
    """MAIL and RSET with each sender."""
    refused = []
    for sender in senders:
        mail = Envelope(sender, {} if sender.isascii() else {"SMTPUTF8": ""})
        if not smarthost.offers.smtputf8 and not mail.is_ascii:
            refused.append(f"MAIL FROM:<{sender}>: it takes no UTF-8 addresses, it does not offer SMTPUTF8")
            continue
        try:
            for command in (format_mail(mail), b"RSET\r\n"):
                reply = smarthost.ask(command, Deadline(wishes.seconds(PHASE_SECONDS)))
                if reply.code != 250:
                    name = command.decode().strip()
                    refused.append(f"{name}: it said: {smarthost.withhold(reply)}")
        except (ConnectionLost, TimeoutError, ReplyError) as error:
            refused.append(f"MAIL FROM:<{sender}>: {error}")
            break
    if refused:
        return Result(Verdict.BAD, "refused", f"{smarthost.account.host}: {'; '.join(refused)}")
    return GOOD
