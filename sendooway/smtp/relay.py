"""The relay: frames one mail's dialogue between a client and a smarthost, for any cutting of the octets.

It begins with MAIL, which it says itself, and ends with the reply to the final dot, or before a command that is the
session's (RSET, EHLO, HELO, QUIT, and MAIL where this mail is over). In between, every command gets exactly one
reply, in order, although some commands are answered here and the others by the smarthost:

    the queue of expected replies    one entry a command: awaited from the smarthost, or known already
    the phase                        COMMANDS -> DATA_SENT -> BODY -> FINAL -> DONE
                                     354 opens the body, any other reply goes back to COMMANDS;
                                     a body nobody shall have is read to its end in DISCARD

The mail can be lost (`lost`): the smarthost vanished, fell out of step, or must not see the end of a body that we
cannot carry. Then its connection is to be cut at once, without a final dot, and the relay answers in its place.

The caller feeds what it receives, sends what stands in `for_client` and `for_smarthost`, and stops when `done`.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from io import IncrementalNewlineDecoder

from sendooway.smtp import capabilities, command, reply
from sendooway.smtp.command import CommandError, Envelope
from sendooway.smtp.lines import LineFault, LineReader
from sendooway.smtp.reply import Reply, ReplyError, ReplyReader

MOST_EXPECTED = 1000  # replies; a client that pipelines more has to wait
ROOM = 65536  # octets kept for one side before the other is no longer read

_END = b"\r\n.\r\n"
_FAREWELL = Reply(421, "4.7.0", ("Too many errors, closing",))

# Their effect would reach beyond one line and one reply, or change who the smarthost thinks it talks to, or (the last
# three, RFC 5321, F.6) begin a mail whose sender nobody has looked up.
_NEVER_FORWARDED = frozenset(
    {"XCLIENT", "XFORWARD", "ETRN", "TURN", "ATRN", "BURL", "LHLO", "BDAT", "SEND", "SOML", "SAML"}
)


# There were servers that look at four letters only: `MAILFROM:` would name them a sender that nobody looked up.
_OURS = frozenset({"RSET", "EHLO", "HELO", "QUIT", "MAIL", "AUTH", "STAR", "RCPT", "DATA"})


class Phase(Enum):
    COMMANDS = "commands"
    DATA_SENT = "DATA sent"
    BODY = "body"
    DISCARD = "body for nobody"
    FINAL = "final dot sent"
    DONE = "done"


class Wait(Enum):
    """What the relay waits for, and so which time limit applies."""

    CLIENT_COMMAND = "client command"
    CLIENT_BODY = "client data"
    REPLY = "reply"
    DATA_REPLY = "reply to DATA"
    FINAL_REPLY = "reply to the final dot"


class _Asked(Enum):
    """A command whose reply is awaited from the smarthost."""

    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    BODY = "message"
    OTHER = "command"


@dataclass(frozen=True)
class Outcome:
    """How the message ended. `reply` is what the client was told after the final dot; `octets` are the message's,
    as the client sent it; `verdict` is the smarthost's own reply, None where there was none."""

    reply: Reply
    verdict: Reply | None
    octets: int
    recipients: int


class Relay:
    """One mail. `mail` fits what the smarthost `offers`; `trace` is put in front of the message.

    `size_limit` is in octets; None, here and below, for no limit. At the last of `most_errors` faulty commands the
    client is told `farewell`, and no more of it is read; `errors` is how many there were. `sign` is given each reply
    that reports our own trouble, before it goes out, and may add to its text; `withhold` each reply of the smarthost,
    and may take its text away.
    """

    def __init__(
        self,
        lines: LineReader,
        mail: Envelope,
        offers: capabilities.Capabilities,
        *,
        trace: bytes = b"",
        size_limit: int | None = None,
        most_recipients: int | None = None,
        most_errors: int | None = None,
        farewell: Reply = _FAREWELL,
        sign: Callable[[Reply], Reply] = lambda reply: reply,
        withhold: Callable[[Reply], Reply] = lambda reply: reply,
    ) -> None:
        self.for_client = bytearray()
        self.for_smarthost = bytearray()
        self.phase = Phase.COMMANDS
        self.lost: str | None = None  # why the smarthost's connection must be cut
        self.accepted = False  # the smarthost took MAIL
        self.refusal: Reply | None = None  # or this is why not
        self.recipients = 0
        self.errors = 0
        self.outcome: Outcome | None = None
        self.progress = 0  # grows whenever something arrived that ends a wait

        self._lines = lines
        self._replies = ReplyReader()
        self._pipelining = offers.pipelining
        self._trace = trace
        self._size_limit = size_limit
        self._most_recipients = most_recipients
        self._most_errors = most_errors
        self._farewell = farewell
        self._sign = sign
        self._withhold = withhold
        self._expected: deque[_Asked | Reply] = deque()
        self._held: bytes | LineFault | None = None
        self._client_gone = False
        self._tail = b""  # the end of what was received of the body, if it may begin the end of the data
        self._unsent = 0  # octets at the start of the tail that are not the body's
        self._octets = 0
        self._excuse = reply.reply(451, "4.4.2", "The smarthost is gone")  # where it cannot answer
        self._verdict: Reply | None = None  # or it has answered before the end of the message
        self._forward(_Asked.MAIL, command.format_mail(mail))
        self._advance()

    # What the caller asks

    @property
    def done(self) -> bool:
        return self.phase is Phase.DONE

    @property
    def wants_client(self) -> bool:
        """There is room for more octets of the client, and for our answers to them."""
        room = len(self._lines) < ROOM and len(self.for_smarthost) < ROOM and len(self.for_client) < ROOM
        return room and not self._client_gone

    @property
    def wants_smarthost(self) -> bool:
        """There is room for more octets of the smarthost."""
        return self.lost is None and len(self.for_client) < ROOM

    @property
    def wait(self) -> Wait:
        if self.phase in (Phase.BODY, Phase.DISCARD):
            return Wait.CLIENT_BODY
        if self.phase is Phase.DATA_SENT:
            return Wait.DATA_REPLY
        if self.phase is Phase.FINAL:
            return Wait.FINAL_REPLY
        return Wait.REPLY if self._expected else Wait.CLIENT_COMMAND

    # What the caller tells

    def receive_from_client(self, octets: bytes) -> None:
        if self.phase in (Phase.BODY, Phase.DISCARD):
            self._body(octets)
        else:
            self._lines.receive(octets)
        self._advance()

    def receive_from_smarthost(self, octets: bytes) -> None:
        self._replies.receive(octets)
        try:
            while self.lost is None and (answer := self._replies.next_reply()) is not None:
                self.progress += 1
                answer = self._withhold(answer)
                if self._expected:
                    self._answered(self._expected.popleft(), answer)
                    self._say_known_replies()
                elif self.phase is Phase.BODY and answer.code >= 400:
                    # Its verdict on what it has seen so far; it need not see the rest.
                    self._verdict = answer
                    self._give_up_body(f"it said {answer.code} before the end of the message", answer)
                else:
                    # A 421 that ends an idle connection, or an answer too many. Either way the mail is over.
                    self.lose(f"it said {answer.code} unasked")
        except ReplyError as error:
            self.lose(f"what it said is no reply: {error}")
        self._advance()

    def client_closed(self) -> None:
        """The client sends no more; it may still read. An unfinished message must never look finished."""
        self._client_gone = True
        self._leave_body()
        self._advance()

    def client_listened(self) -> None:
        """Octets for the client went out: there may be room again for answers of ours."""
        self._advance()

    def lose(self, reason: str) -> None:
        """Give the smarthost up, for this reason: it vanished, is late, or talks nonsense."""
        if self.lost is not None or self.phase is Phase.DONE:
            return
        self.lost = reason
        has_it_all = self.phase is Phase.FINAL and not self.for_smarthost
        unknown = ", whether it delivers the message is unknown" if has_it_all else ""
        self.for_smarthost.clear()
        self._excuse = self._sign(reply.reply(451, "4.4.2", f"The smarthost was lost{unknown}: {reason}"))
        while self._expected:
            expected = self._expected.popleft()
            self._say(self._excuse if isinstance(expected, _Asked) else expected)
        match self.phase:
            case Phase.DATA_SENT:
                self.phase = Phase.COMMANDS
            case Phase.BODY:
                self.phase = Phase.DISCARD
            case Phase.FINAL:
                self._end(self._excuse, None)
        self._advance()

    # Commands

    def _advance(self) -> None:
        while self.phase is Phase.COMMANDS:
            if len(self.for_client) >= ROOM:
                return
            if self._errs_too_much():
                if not self._expected:
                    self._finish()
                return
            if self._held is None:
                if self._expected and (not self._pipelining or len(self._expected) >= MOST_EXPECTED):
                    return
                self._held = self._lines.next_line()
                if self._held is None:
                    if self._client_gone and not self._expected:
                        self._finish()
                    return
                self.progress += 1
            if not self._act(self._held):
                return
            self._held = None

    def _act(self, line: bytes | LineFault) -> bool:
        """Deals with one line; false if it has to wait for replies that are still expected."""
        try:
            if isinstance(line, LineFault):
                raise CommandError(500, "5.5.2", line.value)
            parsed = command.parse(line)
            match parsed.verb:
                case "RSET" | "EHLO" | "HELO" | "QUIT" | "MAIL" | "AUTH" | "STARTTLS" | "DATA" if self._expected:
                    return False
                case "MAIL" | "AUTH" | "STARTTLS" if self.accepted and self.lost is None:
                    raise CommandError(503, "5.5.1", "Not within a mail, say RSET first")
                case "RSET" | "EHLO" | "HELO" | "QUIT" | "MAIL" | "AUTH" | "STARTTLS":
                    self._lines.push_back(line)
                    self._finish()
                case "RCPT":
                    self._rcpt(parsed.argument)
                case "DATA":
                    self._data(parsed.argument)
                case verb if verb in _NEVER_FORWARDED or verb[:4] in _OURS:
                    raise CommandError(502, "5.5.1", "Command not implemented")
                case _:
                    self._forward(_Asked.OTHER, line + b"\r\n")
        except CommandError as error:
            self._fault(reply.reply(error.code, error.enhanced, error.text))
        return True

    def _fault(self, refusal: Reply) -> None:
        self.errors += 1
        last = self._errs_too_much()
        self._client_gone |= last  # for us it is
        self._answer(self._farewell if last else refusal)

    def _errs_too_much(self) -> bool:
        return self._most_errors is not None and self.errors >= self._most_errors

    def _rcpt(self, argument: str) -> None:
        rcpt = capabilities.adapt_rcpt(command.parse_rcpt(argument))
        if isinstance(rcpt, Reply):
            self._answer(rcpt)
        elif (
            self._most_recipients is not None
            and self.recipients + self._expected.count(_Asked.RCPT) >= self._most_recipients
        ):
            self._answer(reply.reply(452, "4.5.3", f"Too many recipients, the limit is {self._most_recipients}"))
        else:
            self._forward(_Asked.RCPT, command.format_rcpt(rcpt))

    def _data(self, argument: str) -> None:
        if argument:
            raise CommandError(500, "5.5.2", "Syntax error, this command takes no argument")
        if self.lost is None and not self.accepted:
            raise CommandError(503, "5.5.1", "MAIL first")
        if self.lost is None and not self.recipients:
            raise CommandError(554, "5.5.1", "No valid recipients")
        if self._forward(_Asked.DATA, b"DATA\r\n"):
            self.phase = Phase.DATA_SENT

    def _forward(self, asked: _Asked, line: bytes) -> bool:
        """Hands a command on, or says why that is no longer possible."""
        if self.lost is not None:
            self._answer(self._excuse)
            return False
        self.for_smarthost += line
        self._expected.append(asked)
        return True

    def _answer(self, answer: Reply) -> None:
        """A reply of ours, in its turn."""
        self._expected.append(answer)
        self._say_known_replies()

    def _say_known_replies(self) -> None:
        while self._expected and isinstance(known := self._expected[0], Reply):
            self._expected.popleft()
            self._say(known)

    def _say(self, answer: Reply) -> None:
        self.for_client += reply.format(reply.with_enhanced(answer))

    # Replies

    def _answered(self, asked: _Asked | Reply, answer: Reply) -> None:
        """The smarthost's reply to what it was asked."""
        assert isinstance(asked, _Asked)  # known replies never stay at the head of the queue
        # The end of what it was asked is still here. It can have had enough already, but not have agreed. Each line
        # that has not left is a command whose reply is awaited; behind a message, no other reply is.
        awaited = sum(isinstance(expected, _Asked) for expected in self._expected)
        early = self.for_smarthost.count(b"\n") > awaited
        if (
            (answer.code // 100 == 3) != (asked is _Asked.DATA and answer.code == 354)
            or (asked is _Asked.DATA and answer.positive)
            or (early and answer.code < 400)
        ):
            # It answers something else than what it was asked, and nothing after this can be trusted.
            self._expected.appendleft(asked)
            self.lose(f"it said {answer.code} to {asked.value}")
            return
        match asked:
            case _Asked.MAIL:
                self.accepted = answer.positive
                self.refusal = None if answer.positive else answer
            case _Asked.RCPT:
                self.recipients += answer.positive
            case _Asked.DATA if answer.code == 354:
                self._say(answer)
                self._open_body()
                return
            case _Asked.DATA:
                self.phase = Phase.COMMANDS
            case _Asked.BODY:
                self._end(answer, answer)
        self._say(answer)

    def _end(self, told: Reply, verdict: Reply | None) -> None:
        self.outcome = Outcome(told, verdict, self._octets, self.recipients)
        self._finish()

    def _finish(self) -> None:
        self.phase = Phase.DONE
        if self.lost is None and (self.for_smarthost or not self._replies.empty):
            # It spoke before it had heard all, or said more than it was asked. This mail's replies stand, but to what
            # would those of the next one belong?
            self.lost = "it is out of step"
            self.for_smarthost.clear()

    # The message

    def _open_body(self) -> None:
        self.phase = Phase.BODY
        self.for_smarthost += self._trace
        # The first line stands behind a line end too: `DATA CRLF . CRLF` is an empty message (RFC 5321, 4.1.1.4).
        self._tail, self._unsent = b"\r\n", 2
        self._body(self._lines.take())
        if self._client_gone:
            self._leave_body()

    def _leave_body(self) -> None:
        """The client is gone; if it did not finish the message, nobody will."""
        if self.phase in (Phase.BODY, Phase.DISCARD):
            self.lost = self.lost or "the client left in the middle of the message"
            self.for_smarthost.clear()
            self.phase = Phase.DONE

    def _body(self, octets: bytes) -> None:
        """Takes octets of the message and hands on all that cannot be part of its end."""
        self.progress += 1
        octets = self._tail + octets
        end = octets.find(_END)
        kept = len(octets) - end - len(_END) if end >= 0 else _held_back(octets)
        ready = octets[: len(octets) - kept]
        rest = octets[len(octets) - kept :]
        self._octets += len(ready) - (len(b".\r\n") if end >= 0 else 0)
        unsent, self._unsent = self._unsent, max(0, self._unsent - len(ready))
        self._octets -= unsent - self._unsent
        if self.phase is Phase.BODY:
            if not _carriable(ready):
                self._refuse_body(550, "5.6.0", "The message has a bare CR, bare LF or NUL")
            elif self._size_limit is not None and self._octets > self._size_limit:
                self._refuse_body(552, "5.3.4", f"Message too large, the limit is {self._size_limit} octets")
            else:
                self.for_smarthost += ready[unsent:] if unsent else ready
        if end < 0:
            self._tail = rest
            return
        self._tail = b""
        self._lines.receive(rest)
        if self.phase is Phase.BODY:
            self.phase = Phase.FINAL
            self._expected.append(_Asked.BODY)
        else:
            self._say(self._excuse)
            self._end(self._excuse, self._verdict)

    def _refuse_body(self, code: int, enhanced: str, text: str) -> None:
        self._give_up_body(text, self._sign(reply.reply(code, enhanced, text)))

    def _give_up_body(self, reason: str, excuse: Reply) -> None:
        """The smarthost must not see the end of this message, and the client hears why when it has said all of it."""
        self.lost = reason
        self.for_smarthost.clear()
        self._excuse = excuse
        self.phase = Phase.DISCARD


def _held_back(octets: bytes) -> int:
    """How many of the last octets may be the beginning of the end of the data."""
    for length in range(min(len(_END) - 1, len(octets)), 0, -1):
        if octets.endswith(_END[:length]):
            return length
    return 0


def _carriable(octets: bytes) -> bool:
    """No bare CR, bare LF or NUL. Lenient receivers take the first two for line ends, and some of them drop NULs, so a
    message with one could carry a second message inside (SMTP smuggling, CVE-2023-51764)."""
    # Far faster than counting: the decoder of text files, which tells the kinds of line ends that it has seen.
    decoder = IncrementalNewlineDecoder(None, False)
    decoder.decode(octets.decode("latin-1"), True)
    return decoder.newlines in (None, "\r\n") and b"\0" not in octets
