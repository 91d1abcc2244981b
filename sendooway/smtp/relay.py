"""The relay: frames one mail's dialogue between a client and a smarthost, for any cutting of the octets.

It begins with MAIL, which it says itself, and ends with the reply to the end of the message, or before a command that
is the session's (RSET, EHLO, HELO, QUIT, and MAIL where this mail is over). In between, every command gets exactly one
reply, in order, although some commands are answered here and the others by the smarthost:

    the queue of expected replies    one entry a command: awaited from the smarthost, or known already
    the phase                        COMMANDS -> DATA_SENT -> MESSAGE -> FINAL -> DONE
                                     354 opens the message, any other reply goes back to COMMANDS;
                                     octets that nobody shall have are read to their end in DISCARD

A message behind BDAT comes in chunks (RFC 3030): MESSAGE is one of them, and COMMANDS comes between two. Chunks go on
as chunks to a smarthost with CHUNKING, else in one piece behind DATA, and the relay answers each but the last. DATA and
every chunk wait until all earlier replies are in: who has refused a recipient or a chunk does not get the next one.

The mail can be lost (`lost`): the smarthost vanished, fell out of step, or must not see the end of a message that we
cannot carry. Then its connection is to be cut at once, before that end, and the relay answers in its place.

The caller feeds what it receives, sends what stands in `for_client` and `for_smarthost`, and stops when `done`.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, StrEnum

from sendooway.smtp import command, parameters, reply
from sendooway.smtp.capabilities import Capabilities
from sendooway.smtp.command import Chunk, CommandError, Envelope
from sendooway.smtp.lines import LineFault, LineReader
from sendooway.smtp.message import Counted, Dotted, LineEnds, Stuffed, Unchanged
from sendooway.smtp.reply import Reply, ReplyError, ReplyReader

MAX_EXPECTED = 1000  # replies; a client that pipelines more has to wait
ROOM = 65536  # octets kept for one side before the other is no longer read
MAX_MESSAGE_OCTETS = 2**63 - 1  # by BDAT; a smarthost may count them in as many bits

_FAREWELL = Reply(421, "4.7.0", ("Too many errors, closing",))

# Their effect would reach beyond one line and one reply, or change who the smarthost thinks it talks to, or (the last
# three, RFC 5321, F.6) begin a mail whose sender nobody has looked up.
_NEVER_FORWARDED = frozenset({"XCLIENT", "XFORWARD", "ETRN", "TURN", "ATRN", "BURL", "LHLO", "SEND", "SOML", "SAML"})
# There were servers that look at four letters only: `MAILFROM:` would name them a sender that nobody looked up.
_OURS = frozenset({"RSET", "EHLO", "HELO", "QUIT", "MAIL", "AUTH", "STAR", "RCPT", "DATA", "BDAT"})
_SESSIONS = frozenset({"RSET", "EHLO", "HELO", "QUIT", "MAIL", "AUTH", "STARTTLS"})


class Phase(Enum):
    """How far this mail has come, see the drawing above."""

    COMMANDS = "commands"
    DATA_SENT = "DATA sent"
    MESSAGE = "message, or a chunk of it"
    DISCARD = "octets for nobody"
    FINAL = "end of the message sent"
    DONE = "done"


class Wait(StrEnum):
    """What the relay waits for, and so which time limit applies."""

    CLIENT_COMMAND = "client command"
    CLIENT_BODY = "client data"
    REPLY = "reply"
    DATA_REPLY = "reply to DATA"
    CHUNK_REPLY = "reply to BDAT"
    FINAL_REPLY = "reply to the final dot"


class _Asked(Enum):
    """A command whose reply is awaited from the smarthost."""

    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    DATA_FOR_BDAT = "DATA, in place of BDAT"
    CHUNK = "BDAT"
    END = "message"
    OTHER = "command"


@dataclass(frozen=True)
class Outcome:
    """How the message ended. `reply` is what the client was told at its end, or to the first chunk that was refused;
    `octets` are the message's, as the client sent it; `verdict` is the smarthost's own reply, None where there was
    none."""

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
        offers: Capabilities,
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
        self.ended = False  # the smarthost has answered the end of the message, so that its transaction is over
        self.refusal: Reply | None = None  # of MAIL, by the smarthost
        self.recipients = 0
        self.errors = 0
        self.dropped: dict[str, None] = {}  # parameters of RCPT that the smarthost does not offer, in order
        self.outcome: Outcome | None = None
        self.progress = 0  # grows whenever something arrived that ends a wait

        self._lines = lines
        self._replies = ReplyReader()
        self._offers = offers
        self._utf8 = "SMTPUTF8" in mail.parameters
        self._trace = trace
        most_octets = MAX_MESSAGE_OCTETS - len(trace)
        self._most_octets = most_octets if size_limit is None else min(size_limit, most_octets)
        self._most_recipients = most_recipients
        self._most_errors = most_errors
        self._farewell = farewell
        self._sign = sign
        self._withhold = withhold
        self._expected: deque[_Asked | Reply] = deque()
        self._held: bytes | LineFault | None = None
        self._client_gone = False
        self._no_room = False  # lines wait until the client has listened
        self._excuse = reply.reply(451, "4.4.2", "The smarthost is gone")  # where it cannot answer
        self._verdict: Reply | None = None  # or it has answered before the end of the message
        # The message
        self._part: Dotted | Counted = Dotted()  # all of it, or the chunk that is being received
        self._form: Unchanged | Stuffed = Unchanged(b".\r\n")  # in which it goes on
        self._line_ends = LineEnds()
        self._octets = 0
        self._open = False  # the smarthost takes all it is sent for the message, up to a final dot
        self._chunk: Chunk | None = None  # the latest; None: the message did not come by BDAT
        self._refused = False  # a chunk of it
        self._forward(_Asked.MAIL, command.format_mail(mail))
        self._advance()

    # What the caller asks

    @property
    def done(self) -> bool:
        return self.phase is Phase.DONE

    @property
    def wants_client(self) -> bool:
        """There is room for more octets of the client, and for our answers to them."""
        if self._client_gone or self.phase is Phase.DONE:
            return False
        return len(self.for_smarthost) < ROOM and len(self.for_client) < ROOM and len(self._lines) < ROOM

    @property
    def wants_smarthost(self) -> bool:
        """There is room for more octets of the smarthost."""
        return self.lost is None and len(self.for_client) < ROOM and self.phase is not Phase.DONE

    @property
    def wait(self) -> Wait:
        """What is waited for now, of the client or of the smarthost."""
        if self.phase in (Phase.MESSAGE, Phase.DISCARD):
            return Wait.CLIENT_BODY
        if self.phase is Phase.DATA_SENT:
            return Wait.DATA_REPLY
        if self.phase is Phase.FINAL:
            return Wait.FINAL_REPLY
        if self._chunk is not None and not self._refused:  # between two chunks, the message has begun
            return Wait.CHUNK_REPLY if self._expected else Wait.CLIENT_BODY
        return Wait.REPLY if self._expected else Wait.CLIENT_COMMAND

    # What the caller tells

    def receive_from_client(self, octets: bytes) -> None:
        """Octets of the client came, in any cutting."""
        if self.phase in (Phase.MESSAGE, Phase.DISCARD):
            self._receive_part(octets)
        else:
            self._lines.receive(octets)
        self._advance()

    def receive_from_smarthost(self, octets: bytes) -> None:
        """Octets of the smarthost came, in any cutting. What is no reply, or answers nothing, loses the smarthost."""
        self._replies.receive(octets)
        try:
            while self.lost is None and (answer := self._replies.next_reply()) is not None:
                self.progress += 1
                answer = self._withhold(answer)
                if self._expected:
                    self._answered(self._expected.popleft(), answer)
                    self._say_known_replies()
                elif answer.code >= 400 and (self._open or self.phase is Phase.MESSAGE):
                    # Its verdict on what it has seen so far; it need not see the rest.
                    self._verdict = answer
                    self._give_up_message(f"it said {answer.code} before the end of the message", answer)
                else:
                    # A 421 that ends an idle connection, or an answer too many. Either way the mail is over.
                    self.lose(f"it said {answer.code} unasked")
        except ReplyError as error:
            self.lose(f"what it said is no reply: {error}")
        self._advance()

    def client_closed(self) -> None:
        """The client sends no more; it may still read. An unfinished message must never look finished."""
        self._client_gone = True
        self._leave_part()
        self._advance()

    def client_listened(self) -> None:
        """Octets for the client went out: there may be room again for answers of ours."""
        if self._no_room:
            self._advance()

    def lose(self, reason: str) -> None:
        """Give the smarthost up, for this reason: it vanished, is late, or talks nonsense."""
        if self.lost is not None or self.phase is Phase.DONE:
            return
        self.lost = reason
        has_it_all = self.phase is Phase.FINAL and not self.for_smarthost
        unknown = ", whether it delivers the message is unknown" if has_it_all else ""
        self.for_smarthost.clear()
        if self.phase is not Phase.DISCARD:  # there it is known already why a chunk is refused
            self._excuse = self._sign(reply.reply(451, "4.4.2", f"The smarthost was lost{unknown}: {reason}"))
        while self._expected:
            expected = self._expected.popleft()
            if expected is not _Asked.DATA_FOR_BDAT:  # the chunk is answered when its octets are in
                self._say(self._excuse if isinstance(expected, _Asked) else expected)
        match self.phase:
            case Phase.DATA_SENT if self._chunk is not None:
                self._discard(self._excuse)
            case Phase.DATA_SENT:
                self.phase = Phase.COMMANDS
            case Phase.MESSAGE:
                self.phase = Phase.DISCARD
            case Phase.FINAL:
                self._end(self._excuse, None)
        self._advance()

    # Commands

    def _advance(self) -> None:
        while self.phase is Phase.COMMANDS:
            self._no_room = len(self.for_client) >= ROOM
            if self._no_room:
                return
            if self._errs_too_much():
                if not self._expected:
                    self._finish()
                return
            if self._held is None:
                if self._expected and (not self._offers.pipelining or len(self._expected) >= MAX_EXPECTED):
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
                case "DATA" | "BDAT" if self._expected:
                    return False
                case verb if verb in _SESSIONS and self._expected:
                    return False
                case "MAIL" | "AUTH" | "STARTTLS" if self.accepted and self.lost is None:
                    raise CommandError(503, "5.5.1", "Not within a mail, say RSET first")
                case verb if verb in _SESSIONS:
                    self._hand_back(line)
                case "BDAT":
                    self._bdat(line, parsed.argument)
                case "NOOP" if self._chunk is not None:
                    self._answer(reply.reply(250, "2.0.0", "Ok"))
                case _ if self._chunk is not None:
                    # The smarthost may be within the message. It is the same for all, so that clients can rely on it.
                    raise CommandError(503, "5.5.1", "Not between the chunks of a message, say RSET first")
                case "RCPT":
                    self._rcpt(parsed.argument)
                case "DATA":
                    self._data(parsed.argument)
                case verb if verb in _NEVER_FORWARDED or verb[:4] in _OURS:
                    raise CommandError(502, "5.5.1", "Command not implemented")
                case _ if not line.isascii() and not self._offers.smtputf8:
                    raise CommandError(553, "5.6.7", "The smarthost takes no UTF-8 addresses")
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

    def _hand_back(self, line: bytes) -> None:
        """The mail is over, and this line is the session's."""
        self._lines.push_back(line)
        self._finish()

    def _rcpt(self, argument: str) -> None:
        asked = command.parse_rcpt(argument)
        rcpt = parameters.adapt_rcpt(asked, self._offers, utf8=self._utf8)
        if isinstance(rcpt, Reply):
            self._answer(rcpt)
        elif (
            self._most_recipients is not None
            and self.recipients + self._expected.count(_Asked.RCPT) >= self._most_recipients
        ):
            self._answer(reply.reply(452, "4.5.3", f"Too many recipients, the limit is {self._most_recipients}"))
        else:
            self.dropped.update(dict.fromkeys(parameters.dropped(asked, rcpt)))
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
        early = bool(self.for_smarthost) and self._has_not_heard(asked)
        for_data = asked in (_Asked.DATA, _Asked.DATA_FOR_BDAT)
        if (
            (answer.code // 100 == 3) != (for_data and answer.code == 354)
            or (for_data and answer.positive)
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
                self._open_message(Dotted(), Unchanged(b".\r\n"))
                return
            case _Asked.DATA:
                self.phase = Phase.COMMANDS
            case _Asked.DATA_FOR_BDAT if answer.code == 354:
                self._open_message(self._part, Stuffed())
                return
            case _Asked.DATA_FOR_BDAT:
                self._verdict = answer
                self._discard(answer)
                return
            case _Asked.CHUNK if not answer.positive:
                self._verdict = answer
                self._refuse_chunk(answer)
            case _Asked.END:
                self.ended = True
                self._end(answer, answer)
        self._say(answer)

    def _has_not_heard(self, asked: _Asked) -> bool:
        """Whether the end of the command or message is not sent yet: the smarthost may have refused, but not agreed."""
        if asked in (_Asked.CHUNK, _Asked.END):
            return True  # behind octets of a message no other reply is awaited
        awaited = sum(isinstance(expected, _Asked) for expected in self._expected)
        return self.for_smarthost.count(b"\n") > awaited  # each line that has not left is a command

    def _end(self, told: Reply, verdict: Reply | None) -> None:
        self.outcome = self.outcome or Outcome(told, verdict, self._octets, self.recipients)
        self._finish()

    def _finish(self) -> None:
        self.phase = Phase.DONE
        if self.lost is None and self._open and not self.ended:
            # The connection can leave the message by its end only.
            self._give_up("the client left the message unfinished")
        if self.lost is None and (self.for_smarthost or not self._replies.empty):
            # It spoke before it had heard all, or said more than it was asked. This mail's replies stand, but to what
            # would those of the next one belong?
            self._give_up("it is out of step")

    def _give_up(self, reason: str) -> None:
        self.lost = reason
        self.for_smarthost.clear()

    # The message

    def _bdat(self, line: bytes, argument: str) -> None:
        try:
            chunk = command.parse_bdat(argument)
        except CommandError:
            # Where its octets end nobody knows, so that the session is over too.
            self._hand_back(line)
            return
        first = self._chunk is None
        self._chunk = chunk
        self._part = Counted(chunk.size)
        if self.lost is not None:
            self._discard(self._excuse)
        elif not self.accepted:
            self._discard(reply.reply(503, "5.5.1", "MAIL first"))
        elif self._refused:
            self._discard(reply.reply(503, "5.5.1", "A chunk was refused, say RSET first"))
        elif not self.recipients:
            self._discard(reply.reply(554, "5.5.1", "No valid recipients"))
        elif self._octets + chunk.size > self._most_octets:
            self._refuse_message(self._too_large())
            self._discard(self._excuse)
        elif self._offers.chunking:
            trace = self._trace if first else b""
            self._form = Unchanged(b"")
            self.for_smarthost += command.format_bdat(Chunk(len(trace) + chunk.size, chunk.last)) + trace
            self._begin_part(Phase.MESSAGE)
        elif first:
            self._forward(_Asked.DATA_FOR_BDAT, b"DATA\r\n")
            self.phase = Phase.DATA_SENT
        else:
            self._begin_part(Phase.MESSAGE)

    def _open_message(self, part: Dotted | Counted, form: Unchanged | Stuffed) -> None:
        """The smarthost said 354."""
        self._open = True
        self._part, self._form = part, form
        self.for_smarthost += self._trace
        self._begin_part(Phase.MESSAGE)

    def _discard(self, excuse: Reply) -> None:
        """Read the octets of this chunk for nobody, and say why."""
        self._excuse = excuse
        self._begin_part(Phase.DISCARD)

    def _begin_part(self, phase: Phase) -> None:
        self.phase = phase
        self._receive_part(self._lines.take(self._part.most))
        if self._client_gone:
            self._leave_part()

    def _leave_part(self) -> None:
        """The client is gone; if it did not finish the message, nobody will."""
        if self.phase in (Phase.MESSAGE, Phase.DISCARD):
            self.phase = Phase.DONE
            if self.lost is None:
                self._give_up("the client left in the middle of the message")

    def _receive_part(self, octets: bytes) -> None:
        """Takes octets of the message and hands on all that is certainly its own."""
        self.progress += 1
        text = self._part.receive(octets)
        complete = self._part.rest is not None
        self._octets += len(text)
        if self.phase is Phase.MESSAGE:
            # Only between two chunks, or two pieces of one, an LF may still follow a CR at the end.
            final = self._chunk is None or (complete and self._chunk.last)
            if not self._line_ends.carriable(text, final=final):
                self._refuse_message(reply.reply(550, "5.6.0", "The message has a bare CR, bare LF or NUL"))
            elif self._octets > self._most_octets:
                self._refuse_message(self._too_large())
            else:
                self.for_smarthost += self._form.send(text)
        if self._part.rest is not None:
            self._lines.receive(self._part.rest)
            self._end_part()

    def _end_part(self) -> None:
        if self.phase is Phase.MESSAGE:
            if self._chunk is None or self._chunk.last:
                self.for_smarthost += self._form.end()
                self.phase = Phase.FINAL
                self._expected.append(_Asked.END)
                return
            self.phase = Phase.COMMANDS
            if self._offers.chunking:
                self._expected.append(_Asked.CHUNK)
            else:
                self._answer(reply.reply(250, "2.0.0", f"{self._octets} octets received"))
            return
        self._say(self._excuse)
        self.phase = Phase.COMMANDS
        if self._chunk is not None:
            self._refuse_chunk(self._excuse)
        if self._chunk is None or (self._chunk.last and self.accepted):
            self._end(self._excuse, self._verdict)

    def _refuse_chunk(self, refusal: Reply) -> None:
        """A chunk was refused: the smarthost must not get another one of this message."""
        self._refused = True
        if self.accepted and self.outcome is None:
            self.outcome = Outcome(refusal, self._verdict, self._octets, self.recipients)

    def _too_large(self) -> Reply:
        return reply.reply(552, "5.3.4", f"Message too large, the limit is {self._most_octets} octets")

    def _refuse_message(self, refusal: Reply) -> None:
        self._give_up_message(" ".join(refusal.text), self._sign(refusal))

    def _give_up_message(self, reason: str, excuse: Reply) -> None:
        """The smarthost must not see the end of this message. The client hears why when it has sent all of it."""
        self._give_up(reason)
        self._excuse = excuse
        if self.phase is Phase.MESSAGE:
            self.phase = Phase.DISCARD
