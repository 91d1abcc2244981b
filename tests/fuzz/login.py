"""Both logins alone, without sockets: the client's at our server, and ours at a smarthost.

Of the client before its login must be true: each line has exactly one reply, no mail is begun, too many faults end the
session. Of a smarthost that says anything must be true: the dialogue ends with what it offers or with one of the two
documented errors; what it is sent are whole lines; the password is sent only in answer to an offer of a mechanism,
and where STARTTLS is asked for, only after it.
"""

from base64 import b64encode

import dialogue
from fuzz.conversation import CLIENT, SMARTHOST, Conversation, Event
from fuzz.oracle import answers, exchanges, in_chunk, require

from sendooway import sasl
from sendooway.secret import Secret
from sendooway.smtp import client
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
)
from sendooway.smtp.reply import Reply, ReplyError, ReplyReader

USER, PASSWORD = "alice", b"correct horse"

SMARTHOST_SEEDS = [
    Conversation(tuple(Event(SMARTHOST, line) for line in lines))
    for lines in (
        [b"220 Hi\r\n", b"250-me\r\n250 STARTTLS\r\n", b"220 Go\r\n", b"250-me\r\n250 AUTH PLAIN\r\n", b"235 In\r\n"],
        [
            *(b"220-Hi\r\n220 there\r\n", b"250-me\r\n250-PIPELINING\r\n250 AUTH CRAM-MD5 LOGIN PLAIN\r\n"),
            *(b"334 PDE4OTYuNjk3MTcwOTUyQHg+\r\n", b"535 5.7.8 No\r\n", b"334 VXNlcm5hbWU6\r\n"),
            *(b"334 UGFzc3dvcmQ6\r\n", b"504 ?\r\n", b"235 2.7.0 In\r\n"),
        ],
        [b"220 Hi\r\n", b"502 What?\r\n", b"250 Hello\r\n"],
        [b"220 Hi\r\n", b"250-me\r\n250 AUTH=LOGIN\r\n", b"334 \r\n", b"334 =\r\n", b"235 In\r\n"],
        [b"554 Go away\r\n"],
    )
]


def run_client(conversation: Conversation) -> None:
    """What the client says, to a server at which nobody can log in."""
    said = b"".join(event.octets for event in conversation.events if event.kind == CLIENT)
    session = dialogue.PaperSession(lf_ends_line=False)
    heard = session.take()
    for event in conversation.events:
        if event.kind == CLIENT:
            session.receive(event.octets)
            heard += session.take()
    replies = list(answers(heard))
    require(replies and replies[-1].end == len(heard), "what the client heard is no reply", heard)
    _, rest = exchanges(said, replies[1:])
    if session.open:
        require(b"\n" not in rest or in_chunk(rest), "each line has one reply", rest, replies)
        refusals = sum(reply.code >= 500 for reply in replies)
        require(refusals < dialogue.POLICY.most_errors + 5, "too many faults end the session", refusals)
    for reply in replies:
        require(reply.code not in (235, 354), "nobody has logged in", reply)


def run_smarthost(conversation: Conversation) -> None:
    """What the smarthost says, with and without STARTTLS."""
    said = [event.octets for event in conversation.events if event.kind == SMARTHOST]
    for starttls in (False, True):
        _Login(said, starttls).run()


class _Login:
    def __init__(self, said: list[bytes], starttls: bool) -> None:
        self._said = iter(said)
        self._starttls = starttls
        self._secured = False
        self._replies = ReplyReader()
        self._mechanism: sasl.Client | None = None
        self._offered: tuple[str, ...] = ()

    def run(self) -> None:
        steps = client.prepare("client.test", starttls=self._starttls, log_in=True)
        outcome: Outcome = None
        try:
            while True:
                step = steps.send(outcome)
                match step:
                    case Receive():
                        outcome = self._receive()
                    case Send(_, octets):
                        self._check(octets)
                        outcome = self._receive()
                    case Secure():
                        require(self._starttls and not self._secured, "TLS that nobody asked for")
                        self._secured = True
                        outcome = None
                    case BeginLogin(offered, refused):
                        self._offered = offered
                        outcome = self._begin(offered, refused)
                    case ContinueLogin(challenge):
                        outcome = self._continue(challenge)
        except StopIteration:
            require(self._secured or not self._starttls, "no login without the TLS that was asked for")
        except (SmarthostError, ReplyError, EOFError):
            return

    def _receive(self) -> Reply:
        while (reply := self._replies.next_reply()) is None:
            piece = next(self._said, None)
            if piece is None:
                raise EOFError
            self._replies.receive(piece)
        return reply

    def _check(self, octets: bytes) -> None:
        require(octets.endswith(b"\r\n") and octets.count(b"\n") == 1 == octets.count(b"\r"), "not one line", octets)
        secret = any(form in octets for form in (PASSWORD, b64encode(PASSWORD), b64encode(b"\0alice\0" + PASSWORD)))
        require(not secret or self._offered, "the password was sent and nobody offered a login", octets)
        require(not secret or self._secured or not self._starttls, "the password was sent in clear", octets)
        if self._starttls and not self._secured:
            require(octets[:4] in (b"EHLO", b"HELO", b"STAR"), "said in clear what belongs into TLS", octets)

    def _begin(self, offered: tuple[str, ...], refused: tuple[str, ...]) -> LoginMessage | LoginUnavailable:
        name = sasl.choose(offered, (), {sasl.GSSAPI}, refused)
        if name is None:
            return LoginUnavailable("nothing left")
        self._mechanism = sasl.client(name, USER, Secret(PASSWORD))
        self._name = name
        return LoginMessage(name, next(self._mechanism))

    def _continue(self, challenge: bytes) -> LoginMessage | LoginUnavailable:
        assert self._mechanism is not None
        try:
            return LoginMessage(self._name, self._mechanism.send(challenge))
        except (sasl.SaslError, StopIteration) as error:
            return LoginUnavailable(str(error))
