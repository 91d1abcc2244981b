"""The client's side: sessions, and what they take of the server's time and of the client's."""

import hashlib
import os
import smtplib
import ssl
import time
from dataclasses import dataclass
from pathlib import Path

from bench.smarthost import START, Smarthost

SENDER, RECIPIENT = "alice@moon.test", "bob@mars.test"
_TICKS = os.sysconf("SC_CLK_TCK")
_LINE = b"0123456789abcdef" * 4 + b"01234567\r\n"


@dataclass(frozen=True)
class Server:
    """Where a client logs in. `pid` is the first of its processes; None: there is nothing between client and
    smarthost."""

    name: str
    port: int
    username: str
    password: str
    pid: int | None


def message(octets: int) -> bytes:
    """Of about so many octets."""
    return START + b"\r\n" + _LINE * (octets // len(_LINE))


def send(server: Server, smarthost: Smarthost, tls: ssl.SSLContext, octets: bytes, mails: int) -> float:
    """One session. Returns how many seconds a mail took from the connection, or the end of the one before, until it was
    accepted. AssertionError unless each arrives as it is."""
    begun = time.monotonic()
    with smtplib.SMTP("localhost", server.port, local_hostname="client.test", timeout=120) as client:
        client.starttls(context=tls)
        client.login(server.username, server.password)
        for _ in range(mails):
            _expect(250, client.mail(SENDER))
            _expect(250, client.rcpt(RECIPIENT))
            _expect(354, client.docmd("DATA"))
            client.send(octets + b".\r\n")
            _expect(250, client.getreply())
        taken = time.monotonic() - begun
    digest = hashlib.sha256(octets.removesuffix(b"\r\n")).digest()
    for _ in range(mails):
        assert smarthost.take() == digest, f"{server.name} has changed the message"
    return taken / mails


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
