"""A smarthost that fails where it is told to: what a real one does once a year, on demand.

    with ScriptedSmarthost(tls=context, answers={Stage.DATA: [b"451 4.3.0 Disk full"]}) as smarthost:
        ...                                  # smarthost.port, smarthost.commands, smarthost.mails

Stages without an answer get the usual success. A list of answers is used up one by one, the last one again and again.
"""

import base64
import contextlib
import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from types import TracebackType
from typing import NoReturn

from servers.processes import PATIENCE


class Stage(Enum):
    GREETING = "greeting"
    EHLO = "EHLO"
    STARTTLS = "STARTTLS"
    TLS = "TLS"  # the handshake; only faults make sense here
    AUTH = "AUTH"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    BODY = "BODY"  # the first line after 354; only faults make sense here
    DOT = "DOT"  # the final dot, or the last chunk
    CHUNK = "CHUNK"  # every other one
    RSET = "RSET"
    QUIT = "QUIT"
    OTHER = "OTHER"


class Fault(Enum):
    """What can be done in place of a reply."""

    HANG = "say nothing until the other side goes away"
    CLOSE = "close the connection"
    RESET = "reset the connection"
    HALF_CLOSE = "say that nothing more will come, and listen on"
    SLOW = "begin a reply and send an octet of it now and then, without end"
    ENDLESS = "send lines of a reply as fast as they are taken, without end"


Answer = bytes | Fault
"""The octets of a reply, in which the CR LF at the end may be missing, or a fault."""

USUAL: dict[Stage, bytes] = {
    Stage.GREETING: b"220 scripted.test ESMTP",
    Stage.STARTTLS: b"220 2.0.0 Go ahead",
    Stage.AUTH: b"235 2.7.0 Welcome",
    Stage.MAIL: b"250 2.1.0 Sender OK",
    Stage.RCPT: b"250 2.1.5 Recipient OK",
    Stage.DATA: b"354 Go ahead",
    Stage.DOT: b"250 2.0.0 Queued as SCRIPTED",
    Stage.CHUNK: b"250 2.0.0 Chunk OK",
    Stage.RSET: b"250 2.0.0 Reset",
    Stage.QUIT: b"221 2.0.0 Bye",
    Stage.OTHER: b"250 2.0.0 Whatever",
}
CAPABILITIES = (b"PIPELINING", b"8BITMIME", b"SIZE 50000000", b"ENHANCEDSTATUSCODES", b"AUTH PLAIN LOGIN")


@dataclass
class Mail:
    """`data` grows as lines come after 354: dots stuffed, the final `.` CR LF included once it came.

    Or it grows with each chunk.
    """

    login: str
    sender: bytes
    recipients: tuple[bytes, ...]
    data: bytearray = field(default_factory=bytearray)
    complete: bool = False


class ScriptedSmarthost:
    """Serves 127.0.0.1:`port` inside a `with`. `commands` are the lines received, without CR LF, on all connections.

    `tls`: the server context; None: STARTTLS is not offered. `implicit`: TLS from the first octet. `port` 0: any free
    one.
    """

    def __init__(
        self,
        *,
        tls: ssl.SSLContext | None = None,
        implicit: bool = False,
        port: int = 0,
        capabilities: Sequence[bytes] = CAPABILITIES,
        answers: Mapping[Stage, Sequence[Answer]] | None = None,
    ) -> None:
        self.tls, self.implicit, self.capabilities = tls, implicit, capabilities
        self.commands: list[bytes] = []
        self.mails: list[Mail] = []
        self.logins: list[str] = []
        self.hurried: list[bytes] = []  # commands behind which more octets had come already
        self.ended = threading.Event()  # set when a connection has ended, whoever ended it
        self._answers = {stage: list(answer) for stage, answer in (answers or {}).items()}
        self._listener = socket.create_server(("127.0.0.1", port))
        self._stop, self._stopper = socket.socketpair()
        self._threads: list[threading.Thread] = []
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> "ScriptedSmarthost":
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopper.close()
        for thread in self._threads:
            thread.join(PATIENCE)
        self._listener.close()
        self._stop.close()
        assert not any(thread.is_alive() for thread in self._threads)

    def answer(self, stage: Stage) -> Answer:
        answers = self._answers.get(stage)
        if not answers:
            return USUAL[stage]
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def script(self, answers: Mapping[Stage, Sequence[Answer]]) -> None:
        """From now on answer so."""
        self._answers = {stage: list(answer) for stage, answer in answers.items()}

    def has_answer(self, stage: Stage) -> bool:
        return stage in self._answers

    def _start(self, run: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=run, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while self._listener in select.select([self._listener, self._stop], [], [])[0]:
            connection, _ = self._listener.accept()
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        # A test that ends with a connection still open closes `_stop`, and that ends the connection here.
        session = _Session(self, connection, self._stop)
        with contextlib.suppress(OSError, _Ended):
            session.run()
        session.close()
        self.ended.set()


class _Ended(Exception):
    """This connection is over."""


class _Session:
    def __init__(self, smarthost: ScriptedSmarthost, connection: socket.socket, stop: socket.socket) -> None:
        self.smarthost, self.connection, self.stop = smarthost, connection, stop
        self.login = ""
        self.received = bytearray()
        self.encrypted = False

    def run(self) -> None:
        if self.smarthost.implicit:
            self.start_tls()
        self.do(Stage.GREETING)
        sender: bytes | None = None
        recipients: list[bytes] = []
        mail: Mail | None = None  # that comes in chunks
        while True:
            line = self.receive_line()
            self.smarthost.commands.append(line)
            if self.received:
                self.smarthost.hurried.append(line)
            verb = line.split(b" ")[0].upper().decode("latin-1")
            match verb:
                case "EHLO":
                    if self.smarthost.has_answer(Stage.EHLO):
                        self.do(Stage.EHLO)
                    else:
                        self.say_capabilities()
                case "STARTTLS":
                    self.do(Stage.STARTTLS)
                    self.start_tls()
                case "AUTH":
                    self.authenticate(line)
                case "MAIL":
                    if self.do(Stage.MAIL):
                        sender, recipients = _address(line), []
                        mail = None
                case "RCPT" | "DATA" | "BDAT" if sender is None:
                    self.send(b"503 5.5.1 MAIL first")
                case "RCPT":
                    if self.do(Stage.RCPT):
                        recipients.append(_address(line))
                case "DATA":
                    if sender is not None and self.do(Stage.DATA):
                        self.receive_mail(sender, recipients)
                        sender = None
                case "BDAT":
                    assert sender is not None
                    if mail is None:
                        mail = Mail(self.login, sender, tuple(recipients))
                        self.smarthost.mails.append(mail)
                    self.receive_chunk(mail, line)
                case "RSET":
                    sender = None
                    self.do(Stage.RSET)
                case "QUIT":
                    self.do(Stage.QUIT)
                    raise _Ended
                case _:
                    self.do(Stage.OTHER)

    def do(self, stage: Stage) -> bool:
        """Answer as scripted; whether that was a success."""
        answer = self.smarthost.answer(stage)
        match answer:
            case Fault.HANG:
                while True:
                    self.receive()
            case Fault.CLOSE:
                raise _Ended
            case Fault.HALF_CLOSE:
                self.connection.shutdown(socket.SHUT_WR)
                while True:
                    self.receive()
            case Fault.SLOW:
                self.connection.sendall(b"250-")
                self.repeat(b"x", 0.02)
            case Fault.ENDLESS:
                self.repeat(b"250-and more\r\n" * 1000, 0)
            case Fault.RESET:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                raise _Ended
            case bytes():
                self.send(answer)
                if answer.startswith(b"421"):  # by which a server says that it closes (RFC 5321, 3.8)
                    raise _Ended
        return answer[:1] in (b"2", b"3")

    def repeat(self, octets: bytes, seconds: float) -> NoReturn:
        """Until the other side goes away, with so much time between."""
        while not select.select([self.stop], [], [], seconds)[0]:
            self.connection.sendall(octets)
        raise _Ended

    def authenticate(self, line: bytes) -> None:
        if self.smarthost.has_answer(Stage.AUTH):
            self.do(Stage.AUTH)
            return
        words = line.split(b" ")
        match words[1].upper():
            case b"PLAIN":
                response = words[2] if len(words) > 2 else self.ask(b"")
                self.login = base64.b64decode(response).split(b"\0")[1].decode()
            case b"LOGIN":
                response = words[2] if len(words) > 2 else self.ask(b"Username:")
                self.login = base64.b64decode(response).decode()
                self.ask(b"Password:")
            case _:
                self.send(b"504 5.5.4 Not here")
                return
        self.smarthost.logins.append(self.login)
        self.do(Stage.AUTH)

    def ask(self, challenge: bytes) -> bytes:
        self.send(b"334 " + base64.b64encode(challenge))
        return self.receive_line()

    def receive_mail(self, sender: bytes, recipients: list[bytes]) -> None:
        mail = Mail(self.login, sender, tuple(recipients))
        self.smarthost.mails.append(mail)
        while not mail.complete:
            line = self.receive_line()
            if self.smarthost.has_answer(Stage.BODY):
                self.do(Stage.BODY)
            mail.complete = line == b"."
            mail.data += line + b"\r\n"
        self.do(Stage.DOT)

    def receive_chunk(self, mail: Mail, line: bytes) -> None:
        _, size, *last = line.split()
        while len(self.received) < int(size):
            self.received += self.receive()
        mail.data += self.received[: int(size)]
        del self.received[: int(size)]
        mail.complete = bool(last)
        self.do(Stage.DOT if last else Stage.CHUNK)

    def receive_line(self) -> bytes:
        """Without its CR LF."""
        while (end := self.received.find(b"\r\n")) < 0:
            self.received += self.receive()
        line = bytes(self.received[:end])
        del self.received[: end + 2]
        return line

    def receive(self) -> bytes:
        """At least one octet; raises _Ended when the other side has gone, or the test is over."""
        pending = self.connection.pending() if isinstance(self.connection, ssl.SSLSocket) else 0
        if not pending and self.stop in select.select([self.connection, self.stop], [], [])[0]:
            raise _Ended
        if octets := self.connection.recv(65536):
            return octets
        raise _Ended

    def send(self, answer: bytes) -> None:
        self.connection.sendall(answer if answer.endswith(b"\n") else answer + b"\r\n")

    def say_capabilities(self) -> None:
        extensions = list(self.smarthost.capabilities)
        if self.smarthost.tls and not self.encrypted:
            extensions.append(b"STARTTLS")
        lines = [b"scripted.test", *extensions]
        self.send(b"".join(b"250-" + line + b"\r\n" for line in lines[:-1]) + b"250 " + lines[-1])

    def start_tls(self) -> None:
        assert self.smarthost.tls
        assert not self.received, "octets came with STARTTLS"
        if self.smarthost.has_answer(Stage.TLS):
            self.do(Stage.TLS)
        self.connection = self.smarthost.tls.wrap_socket(self.connection, server_side=True)
        self.encrypted = True

    def close(self) -> None:
        self.connection.close()


def _address(line: bytes) -> bytes:
    return line.partition(b"<")[2].partition(b">")[0]
