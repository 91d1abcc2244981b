"""One client's connection from greeting to end: turns the decisions of `smtp/` into effects.

One thread at a time owns it all: the client's stream, its agent, and the smarthost at hand (`routing.py`). While the
agent takes its time with a login, there is none; while a smarthost is dialled early, the agent is that thread's.
"""

import contextlib
import os
import select
import ssl
from binascii import b2a_base64
from collections.abc import Callable
from dataclasses import dataclass, field
from time import localtime, monotonic, strftime

from sendooway import sasl
from sendooway.config import Configuration, EightBitMime, Encryption
from sendooway.early import EarlyDials
from sendooway.log import Log
from sendooway.net import tls
from sendooway.net.deadline import Deadline
from sendooway.net.ourselves import Ourselves
from sendooway.net.pause import Pause
from sendooway.net.pump import ClientTimeout, splice
from sendooway.net.stream import ConnectionLost, Stopping, Stream
from sendooway.pool import Pool
from sendooway.privsep.channel import Channel
from sendooway.privsep.client import Agent, AgentError, LoginAnswer
from sendooway.privsep.messages import LoginChallenge, LoginDone, LoginRefused
from sendooway.routing import NoRoute, Routing, known_as
from sendooway.smarthost import Smarthost, Wishes
from sendooway.smtp import command, reply, trace
from sendooway.smtp.client import Stage
from sendooway.smtp.command import CommandError, Envelope
from sendooway.smtp.lines import LineFault, LineReader
from sendooway.smtp.parameters import adapt_mail, dropped
from sendooway.smtp.relay import Relay, Wait
from sendooway.smtp.reply import Reply
from sendooway.smtp.server import (
    Authenticate,
    Close,
    Decision,
    Discard,
    Forward,
    Policy,
    Respond,
    Server,
    StartTls,
    too_many_errors,
)

# In seconds; RFC 5321, 4.5.3.2.
LIMITS = {
    Wait.CLIENT_COMMAND: 300,
    Wait.CLIENT_BODY: 180,
    Wait.REPLY: 300,
    Wait.DATA_REPLY: 120,
    Wait.CHUNK_REPLY: 300,
    Wait.FINAL_REPLY: 600,
}


@dataclass(frozen=True)
class Proxy:
    """What all sessions of a proxy process share. `monitor` is the channel to ask for agents. `stop` is a descriptor
    that becomes readable when sessions must end; None: they need not. No smarthost may be one of `ourselves`. `early`
    is None where nothing is dialled early."""

    configuration: Configuration
    server_context: ssl.SSLContext | None  # None: no certificate, so no TLS
    client_context: ssl.SSLContext
    monitor: Channel
    log: Log
    pool: Pool
    stop: int | None
    ourselves: Ourselves = field(default_factory=Ourselves)
    early: EarlyDials | None = None


@dataclass(frozen=True)
class Peer:
    """Who is at the other end. `address` is numeric, empty where there is no network between us, as with pipes.

    `local`: what is said crosses no network, as on loopback. `balancer` is the address of the balancer that has told
    `address`, empty where the connection itself tells it. `tls`: the connection begins with a handshake. `can_tls`: it
    is a socket, so that STARTTLS is possible. `lf_ends_line`: people type there, and scripts echo.
    """

    address: str
    local: bool
    balancer: str = ""
    tls: bool = False
    can_tls: bool = True
    lf_ends_line: bool = False


@dataclass(frozen=True)
class _User:
    """Who logged in, and how this user's mails are to be sent."""

    name: str
    localname: str
    clone_ehlo: bool
    add_received_field: bool
    timeout: int | None
    context: ssl.SSLContext = field(repr=False)


class _ClientGone(Exception):
    """The client left without QUIT."""


class Session:
    """Serves one client. `run` never raises what the client, the smarthost or the agent can cause."""

    def __init__(
        self,
        proxy: Proxy,
        client: Stream,
        peer: Peer,
        *,
        logged_in: Callable[[], None] = lambda: None,
        greeted: bool = False,
    ) -> None:
        """`logged_in` is called once, when somebody has. `greeted`: the client has read the greeting already."""
        self._proxy = proxy
        self._client = client
        self._peer = peer
        self._tell_login = logged_in
        self._greeted = greeted
        self.id = os.urandom(4).hex()
        self._log = proxy.log.bind(session=self.id)
        self._lines = LineReader(lf_ends_line=peer.lf_ends_line)
        self._server = Server(self._policy(), tls=peer.tls)
        self._agent: Agent | None = None
        self._pause: Pause | None = None  # the last one
        self._farewell = "quit"  # why the session is over, for the log
        self._user: _User | None = None
        self._routing: Routing | None = None
        self._limits = _limits(proxy.configuration.user_settings.timeout)
        # The end of the time to log in, then of the time until the next mail.
        self._due = Deadline(proxy.configuration.login_timeout)

    def _policy(self) -> Policy:
        configuration = self._proxy.configuration
        encryption = configuration.mailer_encryption
        if encryption is None:
            encryption = Encryption.ALLOWED if self._peer.local else Encryption.REQUIRED
        can_tls = self._proxy.server_context is not None and self._peer.can_tls
        return Policy(
            localname=configuration.user_settings.localname,
            starttls=can_tls and encryption is not Encryption.FORBIDDEN,
            login_needs_tls=encryption is Encryption.REQUIRED,
            mechanisms=configuration.auth_mechanisms,
            eight_bit_mime=configuration.ext_8bit_mime is not EightBitMime.DISABLE,
            size_limit=configuration.ext_message_size,
            most_errors=configuration.max_errors,
            most_failed_logins=configuration.max_failed_logins,
        )

    def run(self) -> Pause | None:
        """Go on until the session is over (None), or until a pause: then it is to be called again, in whatever thread.

        Called before the end of the pause, it waits for that by itself.
        """
        pause, reason = None, "crash"  # unless we find out
        try:
            pause = self._converse()
            reason = self._farewell if self._server.errors_left else "too many errors"
        except _ClientGone:
            reason = "client left"
        except (ConnectionLost, tls.TlsError) as error:
            reason = str(error)
        except (TimeoutError, ClientTimeout) as error:
            reason = str(error)
            self._say_goodbye("4.4.2", "Timeout, closing")
        except Stopping as error:
            reason = str(error)
            self._say_goodbye("4.3.2", "The server stops, try again")
        except AgentError as error:
            reason = f"agent: {error}"
            self._log.error("agent-lost", reason=str(error))
            self._say_goodbye("4.3.0", "Nobody can look after this session now, try again later")
        finally:
            if pause is None:
                self._end(reason)
        return pause

    def _converse(self) -> Pause | None:
        then = self._greet() if self._pause is None else self._log_in_further(self._pause)
        while then is True:
            then = self._carry_out(self._server.receive(self._read_line()))
        return then or None

    def _greet(self) -> bool:
        self._log.event("connect", rip=self._peer.address or None, balancer=self._peer.balancer or None)
        if self._peer.tls:
            self._start_tls()
        if not self._greeted:
            self._send(self._server.greeting())
        return True

    def _end(self, reason: str) -> None:
        early = self._routing.leave_early() if self._routing is not None else None
        if self._agent is not None:
            self._agent.close()
        self._log.event("disconnect", reason=reason, early=early.value if early else None)
        self._client.close()
        if self._routing is not None:
            self._routing.leave()  # nobody waits any more

    # The client

    def _read_line(self) -> bytes | LineFault:
        deadline = self._client_deadline(Wait.CLIENT_COMMAND)
        while (line := self._lines.next_line()) is None:
            octets = self._client.receive(deadline)
            if not octets:
                raise _ClientGone
            self._lines.receive(octets)
        return line

    def _discard(self, octets: int) -> None:
        octets -= len(self._lines.take(octets))
        while octets:
            received = self._client.receive(self._client_deadline(Wait.CLIENT_BODY))
            if not received:
                raise _ClientGone
            self._lines.receive(received)
            octets -= len(self._lines.take(octets))

    def _client_deadline(self, wait: Wait) -> Deadline:
        """No later than what is due: a login, or a mail."""
        return self._due.sooner(self._limits[wait])

    def _send(self, *replies: Reply) -> None:
        octets = b"".join(map(reply.format, replies))
        self._client.send(octets, self._client_deadline(Wait.CLIENT_COMMAND))

    def _say_goodbye(self, enhanced: str, text: str) -> None:
        """421 where the client may still listen."""
        answer = reply.reply(421, enhanced, f"{self._proxy.configuration.user_settings.localname} {text}")
        try:
            self._client.transport.send_now(reply.format(self._sign(answer)))
        except ConnectionLost:
            return  # it does not

    def _sign(self, failure: Reply) -> Reply:
        """The reply with the session's id behind it, to find the cause in the log."""
        *lines, last = failure.text
        return Reply(failure.code, failure.enhanced, (*lines, f"{last} [{self.id}]"))

    def _carry_out(self, decision: Decision) -> bool | Pause:
        """True: read the next line; False: the session is over; a pause: the agent has to answer first."""
        match decision:
            case Respond(answer):
                self._send(answer)
            case Close(answer):
                self._send(answer)
                if answer.code >= 500:  # it was no QUIT
                    self._farewell = str(answer)
                return False
            case StartTls(answer):
                return self._starttls(answer)
            case Authenticate(mechanism, initial_response):
                return self._log_in(mechanism, initial_response)
            case Forward(mail):
                return self._forward(mail)
            case Discard(octets, then):
                self._discard(octets)
                return self._carry_out(then)
        return True

    def _starttls(self, answer: Reply) -> bool:
        if len(self._lines):
            # Commands behind STARTTLS in one piece may be somebody else's, put there before TLS protects the rest.
            self._log.warning("starttls-injection")
            self._send(reply.reply(554, "5.7.0", "Nothing may follow STARTTLS, closing"))
            return False
        self._send(answer)
        self._start_tls()
        self._server.tls_started()
        return True

    def _start_tls(self) -> None:
        assert self._proxy.server_context is not None  # else TLS is not offered, and `listen ... tls` is an error
        try:
            tls.accept(self._client, self._proxy.server_context, self._client_deadline(Wait.CLIENT_COMMAND))
        except tls.TlsError as error:
            self._log.warning("tls-failed", rip=self._peer.address or None, reason=str(error))
            raise
        transport = self._client.transport
        assert isinstance(transport, tls.TlsTransport)
        self._log.event("tls", version=transport.version, cipher=transport.cipher)

    # Login

    def _log_in(self, mechanism: str, initial_response: bytes | None) -> bool | Pause:
        if self._agent is None:
            login_timeout = self._proxy.configuration.login_timeout
            told = self._peer.address if self._peer.balancer else ""
            user = sasl.claimed(mechanism, initial_response)
            self._agent = Agent.request(self._proxy.monitor, self.id, self._client, login_timeout, told=told, user=user)
        return self._answer_login(self._agent.begin_login(mechanism, initial_response))

    def _log_in_further(self, pause: Pause) -> bool | Pause:
        assert self._agent is not None
        with contextlib.suppress(TimeoutError):  # then there is no answer
            self._client.wait(pause.descriptor, select.POLLIN, pause.deadline)
        return self._answer_login(self._agent.login_answer())

    def _answer_login(self, answer: LoginAnswer | Pause) -> bool | Pause:
        """Bring what the agent says to the client, and its responses back, to the end of the login. Returns as
        `_carry_out` does."""
        assert self._agent is not None
        while isinstance(answer, LoginChallenge):
            try:
                response = self._ask(answer.challenge)
            except CommandError as error:
                self._agent.cancel_login()
                return self._carry_out(self._server.fault(Reply(error.code, error.enhanced, (error.text,))))
            answer = self._agent.continue_login(response)
        match answer:
            case Pause():
                self._pause = answer
                return answer
            case LoginDone():
                routing = self._logged_in(answer)
                self._send(reply.reply(235, "2.7.0", "Authentication successful"))
                routing.dial_early()
                return True
            case LoginRefused(verdict, final):
                return self._refuse_login(verdict, final)

    def _ask(self, challenge: bytes) -> bytes:
        """The client's response to a challenge. Raises CommandError 501 if it cancels or sends what is not base64."""
        self._send(reply.reply(334, "", b2a_base64(challenge, newline=False).decode("ascii")))
        line = self._read_line()
        if isinstance(line, LineFault):
            raise CommandError(500, "5.5.6", line.value)  # RFC 4954, 6.
        if line == b"*":
            raise CommandError(501, "5.7.0", "Authentication cancelled")
        return command.parse_base64(line) if line else b""

    def _logged_in(self, done: LoginDone) -> Routing:
        assert self._agent is not None
        own_ca = self._agent.take_ca()
        try:
            context = self._proxy.client_context if own_ca is None else tls.client_context(own_ca)
        except tls.TlsError as error:
            # Better no mail than one through a smarthost that nobody vouches for.
            self._log.error("ca-refused", user=done.user, reason=str(error))
            context = tls.trusting_nobody()
        self._user = _User(done.user, done.localname, done.clone_ehlo, done.add_received_field, done.timeout, context)
        self._limits = _limits(done.timeout)
        self._log = self._log.bind(user=done.user)
        pool, dials = self._proxy.pool, self._proxy.early
        self._routing = Routing(done.user, self._agent, pool, dials, self._wishes(), self._client, self._log)
        self._server.login_succeeded()
        self._tell_login()
        self._expect_mail()
        return self._routing

    def _wishes(self) -> Wishes:
        """How to deal with smarthosts, by the settings of the user and the client's latest EHLO."""
        assert self._user is not None
        name = self._server.client_name if self._user.clone_ehlo else ""
        return Wishes(
            name or self._user.localname,
            self._user.timeout,
            self._user.context,
            ourselves=self._proxy.ourselves,
        )

    def _expect_mail(self) -> None:
        self._due = Deadline(self._proxy.configuration.idle_timeout)

    def _refuse_login(self, verdict: str, final: bool) -> bool:
        last = self._server.login_failed() or final
        match verdict:
            case "malformed":
                answer = reply.reply(501, "5.5.2", "Malformed authentication")
            case "later":
                answer = self._sign(reply.reply(454, "4.7.0", "Authentication is out of order, try again later"))
            case "crowded":
                limit = self._proxy.configuration.max_sessions_per_user
                answer = self._sign(reply.reply(454, "4.7.0", f"Too many sessions of this user, the limit is {limit}"))
            case _:
                answer = reply.reply(535, "5.7.8", "Authentication failed")
        self._send(answer)
        if last:
            self._farewell = "too many sessions" if verdict == "crowded" else "too many failed logins"
            self._say_goodbye("4.7.0", "No more logins on this connection, closing")
        return not last

    # Mail

    def _forward(self, mail: Envelope) -> bool:
        """One mail, from its MAIL to its end or to a command that is the session's. False when the session is over."""
        assert self._user is not None
        assert self._routing is not None
        begun = monotonic()
        self._routing.wishes = self._wishes()  # the client may have said EHLO again
        try:
            smarthost = self._routing.reach(mail.address)
        except NoRoute as none:
            self._send(self._sign(none.reply))
            return True
        received = self._received(mail, smarthost) if self._user.add_received_field else b""
        configuration = self._proxy.configuration
        adapted = adapt_mail(
            mail,
            smarthost.offers,
            eight_bit_needed=configuration.ext_8bit_mime is EightBitMime.FORCE,
            size_limit=configuration.ext_message_size or None,
            added=len(received),
            verified_tls=smarthost.verified_tls,
        )
        if isinstance(adapted, Reply):
            self._log.event("mail-refused", sender=f"<{mail.address}>", reply=str(adapted))
            self._send(adapted)
            return True
        relay = self._relay(adapted, received, smarthost)
        smarthost.in_mail = True
        smarthost.mails += 1
        failure: str | None = None
        try:
            self._splice(smarthost.stream, relay)
        except (ClientTimeout, Stopping) as error:
            failure = str(error)
            raise
        finally:
            if relay.lost is not None or not relay.done:
                self._routing.cut()
            smarthost.in_mail = relay.accepted and not relay.ended
            unmet = [*dropped(mail, adapted), *relay.dropped]
            self._log_mail(mail, unmet, smarthost, relay, failure, monotonic() - begun)
        self._mail_ended(mail, smarthost, relay)
        return self._server.errors_left > 0

    def _relay(self, mail: Envelope, received: bytes, smarthost: Smarthost) -> Relay:
        """What frames this mail, which is as the smarthost can have it."""
        configuration = self._proxy.configuration
        return Relay(
            self._lines,
            mail,
            smarthost.offers,
            trace=received,
            size_limit=configuration.ext_message_size or None,
            most_recipients=configuration.max_recipients,
            most_errors=self._server.errors_left,
            farewell=too_many_errors(configuration.user_settings.localname),
            sign=lambda told: self._sign_lost(told, smarthost),
            withhold=smarthost.withhold,
        )

    def _splice(self, smarthost: Stream, relay: Relay) -> None:
        try:
            splice(self._client, smarthost, relay, self._limits, self._due)
        except Stopping as error:
            # What was asked gets its answer, above all a message whose delivery is unknown now.
            relay.lose(str(error))
            with contextlib.suppress(ConnectionLost):
                self._client.transport.send_now(relay.for_client)
            raise

    def _mail_ended(self, mail: Envelope, smarthost: Smarthost, relay: Relay) -> None:
        assert self._user is not None
        verdict = relay.outcome.verdict if relay.outcome is not None else None
        accepted = verdict is not None and verdict.positive
        if accepted and self._proxy.early is not None:
            self._proxy.early.accepted(self._user.name, mail.address, smarthost.account.fingerprint)
        self._server.mail_ended(relay.errors, accepted=accepted)
        if relay.outcome is not None:
            self._expect_mail()

    def _received(self, mail: Envelope, smarthost: Smarthost) -> bytes:
        """The trace field for this mail."""
        assert self._user is not None
        return trace.received(
            client_name=self._server.client_name,
            client_address=self._peer.address,
            localname=self._user.localname,
            session=self.id,
            date=strftime("%a, %d %b %Y %H:%M:%S %z", localtime()),
            tls=isinstance(self._client.transport, tls.TlsTransport),
            utf8="SMTPUTF8" in mail.parameters and smarthost.offers.smtputf8,
        )

    def _sign_lost(self, failure: Reply, smarthost: Smarthost) -> Reply:
        where = f"{known_as(smarthost.account)}: {Stage.MAIL.value}"
        return self._sign(Reply(failure.code, failure.enhanced, (where, *failure.text)))

    def _log_mail(
        self,
        mail: Envelope,
        unmet: list[str],
        smarthost: Smarthost,
        relay: Relay,
        failure: str | None,
        seconds: float,
    ) -> None:
        account, outcome = smarthost.account, relay.outcome
        answer = outcome.reply if outcome else relay.refusal
        if outcome is not None and outcome.verdict is not None:
            name, record = "mail", self._log.event
        elif failure or relay.lost:
            name, record = "mail-failed", self._log.warning
        else:
            name, record = "mail-refused" if relay.refusal else "mail-abandoned", self._log.event
        record(
            name,
            rip=self._peer.address or None,
            sender=f"<{mail.address}>",
            account=account.username or None,
            smarthost=f"{account.host}:{account.port}",
            recipients=relay.recipients,
            octets=outcome.octets if outcome else None,
            reply=str(answer) if answer else None,
            reason=failure or relay.lost,
            dropped=" ".join(unmet) or None,
            seconds=seconds,
        )


def _limits(timeout: float | None) -> dict[Wait, float]:
    """LIMITS, none of them longer than `timeout` seconds; None: as they are."""
    return {wait: limit if timeout is None else min(limit, timeout) for wait, limit in LIMITS.items()}
