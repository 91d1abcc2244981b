"""The client's side: sessions, and what they take of the server's time and of the client's."""

import contextlib
import hashlib
import os
import smtplib
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.smarthost import START, Smarthost

SENDER, RECIPIENT = "alice@moon.test", "bob@mars.test"
_TICKS = os.sysconf("SC_CLK_TCK")
_LINE = b"\r\n" + b"0123456789abcdef" * 4 + b"01234567"
_END = b"\r\n.\r\n"  # with that of the last line
_LINES_OF_A_PIECE = 4000


@dataclass(frozen=True)
class Server:
    """Where a client logs in. `pid` is the first of its processes; None: there is nothing between client and
    smarthost."""

    name: str
    port: int
    username: str
    password: str
    pid: int | None


class Message:
    """About so many octets, of which few are held at a time. `digest` is what the smarthost has to tell of it."""

    def __init__(self, octets: int) -> None:
        self._lines = octets // len(_LINE)
        self.octets = len(START) + self._lines * len(_LINE)
        digest = hashlib.sha256()
        for piece in self.pieces(b""):
            digest.update(piece)
        self.digest = digest.digest()

    def pieces(self, end: bytes = _END) -> Iterator[bytes]:
        """What is sent behind DATA."""
        piece = START
        for _ in range(self._lines // _LINES_OF_A_PIECE):
            yield piece + _LINE * _LINES_OF_A_PIECE
            piece = b""
        yield piece + _LINE * (self._lines % _LINES_OF_A_PIECE) + end


def send(server: Server, smarthost: Smarthost, tls: ssl.SSLContext, message: Message, mails: int) -> float:
    """One session. Returns how many seconds a mail took from the connection, or the end of the one before, until it was
    accepted. AssertionError unless each arrives as it is."""
    begun = time.monotonic()
    with session(server, tls) as client:
        for _ in range(mails):
            submit(client, message)
        taken = time.monotonic() - begun
    expect(smarthost, message, mails)
    return taken / mails


@contextlib.contextmanager
def session(server: Server, tls: ssl.SSLContext) -> Iterator[smtplib.SMTP]:
    """A client that has logged in."""
    with smtplib.SMTP("localhost", server.port, local_hostname="client.test", timeout=300) as client:
        client.starttls(context=tls)
        client.login(server.username, server.password)
        yield client


def submit(client: smtplib.SMTP, message: Message, sender: str = SENDER) -> None:
    """One mail, until it is accepted."""
    _expect(250, client.mail(sender))
    _expect(250, client.rcpt(RECIPIENT))
    _expect(354, client.docmd("DATA"))
    for piece in message.pieces():
        client.send(piece)
    _expect(250, client.getreply())


def expect(smarthost: Smarthost, message: Message, mails: int) -> None:
    """Wait until so many mails have arrived. AssertionError unless each is as it was sent."""
    for _ in range(mails):
        assert smarthost.take() == message.digest, "the message was changed"


def _expect(code: int, answer: tuple[int, bytes]) -> None:
    assert answer[0] == code, answer


def cpu_seconds(pid: int) -> float:
    """What a process and all that it began have taken until now, with those of them that have ended."""
    times: dict[int, float] = {}
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                stat = (folder / "stat").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue
            fields = stat.rpartition(")")[2].split()
            children.setdefault(int(fields[1]), []).append(int(folder.name))
            # Its own, and that of the children that it has waited for (proc(5)).
            times[int(folder.name)] = sum(map(int, fields[11:15])) / _TICKS
    total, family = 0.0, [pid]
    while family:
        one = family.pop()
        total += times.get(one, 0.0)
        family += children.get(one, [])
    return total


def settled_cpu_seconds(pid: int) -> float:
    """The same, when nothing more comes of what clients have asked for; after ten seconds in any case."""
    now = cpu_seconds(pid)
    for _ in range(50):
        time.sleep(0.2)
        before, now = now, cpu_seconds(pid)
        if now == before:
            break
    return now
