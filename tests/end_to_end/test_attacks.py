"""What somebody with bad intentions says to the server, leaves in a folder, or does on the same machine.

Smuggling is in tests/dialogues, a proxy that has been taken over in tests/privsep/test_taken_over.py, guessing in
test_limits.py, certificates and TLS that is withheld in test_faults.py.
"""

import base64
import ctypes
import os
import pwd
import signal
import smtplib
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from end_to_end.messages import HEADER
from servers.processes import PATIENCE, wait_until
from servers.program import Connect, Sendooway, Start
from servers.scripted import ScriptedSmarthost
from servers.users import User

pytestmark = pytest.mark.slow

CONTENT = HEADER + b"Hello.\r\n"
ME = (pwd.getpwuid(os.geteuid()).pw_name, "not checked")
NONE = "authBackend = none\n"
SMARTHOST = "smarthostMapping = direct:* localhost {port} - - noAuth\n"


class Raw:
    """A connection without a mail program's manners."""

    def __init__(self, sendooway: Sendooway) -> None:
        self.sock = socket.create_connection(("localhost", sendooway.port), PATIENCE)
        self.file = self.sock.makefile("rb")
        assert self.reply()[:3] == b"220"

    def reply(self) -> bytes:
        """The last line of the next reply; nothing at the end."""
        while (line := self.file.readline())[3:4] == b"-":
            pass
        return line

    def ask(self, octets: bytes) -> bytes:
        self.sock.sendall(octets)
        return self.reply()

    def close(self) -> None:
        self.file.close()
        self.sock.close()


# Commands that cross the border to TLS


def test_what_comes_with_starttls_is_not_taken_for_what_came_through_tls(start: Start) -> None:
    sendooway = start(NONE)
    client = Raw(sendooway)
    client.ask(b"EHLO client.test\r\n")
    assert client.ask(b"STARTTLS\r\nMAIL FROM:<alice@moon.test>\r\n").startswith(b"554 5.7.0")
    assert client.reply() == b""
    client.close()
    assert "starttls-injection" in sendooway.wait_for_log("starttls")


def test_what_was_said_before_tls_is_forgotten(start: Start, tls: ssl.SSLContext) -> None:
    with ScriptedSmarthost() as smarthost:
        sendooway = start(f"{NONE}cloneEhlo = yes\n{SMARTHOST.format(port=smarthost.port)}")
        client = smtplib.SMTP("localhost", sendooway.port, local_hostname="honest.test")
        client.docmd("EHLO", "injected.test")
        client.starttls(context=tls)
        client.login(*ME)
        client.sendmail("alice@moon.test", ["bob@mars.test"], CONTENT)
        client.close()
        assert b"EHLO honest.test" in smarthost.commands
        assert b"injected" not in b"".join(smarthost.commands) + smarthost.mails[0].data


# Line ends, NULs and other octets where they do not belong

HOSTILE = [
    "a\rb",
    "a\nb",
    "a\0b",
    "a\r\nb",
    "a\x1b[31mb",
    "a\x85b",
    "a\u2028b",
    "a b",
    "a\tb",
    "é",
    "a>b",
    "a<b",
    "x" * 600,
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text)[:12])
@pytest.mark.parametrize(
    "line",
    [
        "EHLO {}",
        "MAIL FROM:<{}@moon.test>",
        "MAIL FROM:<alice@moon.test> BODY={}",
        "MAIL FROM:<alice@moon.test> {}=1",
        "RCPT TO:<{}@mars.test>",
        "RCPT TO:<bob@mars.test> NOTIFY={}",
        "VRFY {}",
        "X{}",
    ],
    ids=lambda line: line.partition("{")[0],
)
def test_no_octet_of_an_argument_ends_a_line_elsewhere(
    hostile: tuple[Sendooway, ScriptedSmarthost], line: str, text: str
) -> None:
    sendooway, smarthost = hostile
    before = len(smarthost.commands)
    with closing(smtplib.SMTP("localhost", sendooway.port, local_hostname="client.test")) as client:
        client.login(*ME)
        if not line.startswith(("EHLO", "MAIL")):
            assert client.mail("alice@moon.test")[0] == 250
        client.send(line.format(text).encode() + b"\r\nQUIT\r\n")
        # However many lines the server sees, it answers each of them, and goes on.
        while client.getreply()[0] not in (221, 421):
            pass
    for said in smarthost.commands[before:]:
        assert said.isascii() or b"\xc3\xa9" in said
        assert not any(octet < 32 or octet == 127 for octet in said), said
        assert said.split(b" ")[0].split(b":")[0] in {
            b"EHLO",
            b"MAIL",
            b"RCPT",
            b"NOOP",
            b"RSET",
            b"QUIT",
            b"VRFY",
        } or (said.startswith((b"X", b"b"))), said
    assert_log_is_sound(sendooway)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Sendooway, ScriptedSmarthost]]:
    with (
        ScriptedSmarthost() as smarthost,
        Sendooway(
            tmp_path_factory.mktemp("hostile"),
            f"{NONE}mailerEncryption = allowed\ncloneEhlo = yes\nmaxErrors = 100\nsmarthostIdle = 0\n"
            + SMARTHOST.format(port=smarthost.port),
        ) as sendooway,
    ):
        yield sendooway, smarthost


def assert_log_is_sound(sendooway: Sendooway) -> None:
    """Each line is one of ours, and holds nothing that a terminal or a parser could take for something else."""
    for line in sendooway.log.split("\n")[:-1]:
        assert line.isprintable(), line
        stamp, program, _ = line.split(" ", 2)
        assert stamp[4] == "-"
        assert program.startswith("sendooway["), line


NAMES = [
    "alice\r\n2026-01-01T00:00:00.000+00:00 sendooway[1]: auth-failure rip=192.0.2.7 user=bob",
    'bob" rip=192.0.2.7 x="',
    "../../etc/passwd",
    "..",
    "a/b",
    "%u",
    "-rf",
    "x" * 5000,
    "\u2028auth-failure",
    "\x1b[2J",
]


def test_no_name_that_is_typed_forges_a_line_of_the_log(hostile: tuple[Sendooway, ScriptedSmarthost]) -> None:
    sendooway, _ = hostile
    before = sendooway.log.count(": auth-failure ")
    clients = [Raw(sendooway) for _ in NAMES]
    for client, name in zip(clients, NAMES, strict=True):
        client.sock.sendall(b"AUTH PLAIN " + base64.b64encode(f"\0{name}\0secret-word".encode()) + b"\r\n")
    for client in clients:
        assert client.reply().startswith(b"535 5.7.8 Authentication failed")
        client.close()
    assert_log_is_sound(sendooway)
    failures = [line.split(": auth-failure ")[1] for line in sendooway.log.splitlines() if ": auth-failure " in line]
    assert len(failures) == before + len(NAMES)
    assert all(failure.startswith("rip=127.0.0.1 mech=PLAIN user=") for failure in failures)
    assert "secret-word" not in sendooway.log


@pytest.mark.parametrize(
    "line",
    [
        b"PROXY TCP4 192.0.2.99 192.0.2.1 1025 587\r\n",
        b"\r\n\r\n\0\r\nQUIT\n!\x11\0\x0c\xc0\0\x02c\xc0\0\x02\x01\x04\x01\x02K\r\n",
        b"XCLIENT ADDR=192.0.2.99 NAME=friend.test\r\n",
        b"XFORWARD ADDR=192.0.2.99\r\n",
    ],
    ids=["PROXY", "PROXY v2", "XCLIENT", "XFORWARD"],
)
def test_a_stranger_cannot_claim_another_address(hostile: tuple[Sendooway, ScriptedSmarthost], line: bytes) -> None:
    sendooway, smarthost = hostile
    client = Raw(sendooway)
    assert client.ask(line)[:1] == b"5"
    client.sock.sendall(b"EHLO client.test\r\n")
    while not (reply := client.reply()).startswith(b"250 "):
        assert reply[:1] == b"5"
    assert client.ask(b"AUTH PLAIN " + base64.b64encode(f"\0{ME[0]}\0x".encode()) + b"\r\n").startswith(b"235")
    assert client.ask(b"MAIL FROM:<alice@moon.test>\r\n").startswith(b"250")
    if line[:1] == b"X":
        assert client.ask(line).startswith(b"502")
    client.close()
    assert "192.0.2.99" not in sendooway.log
    assert not any(b"192.0.2.99" in said for said in smarthost.commands)


# What a user leaves in the place of a file


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 30)


PLACES: dict[str, Callable[[Path], None]] = {
    "a symbolic link to a file of root": lambda path: path.symlink_to("/etc/shadow"),
    "a symbolic link to a device": lambda path: path.symlink_to("/dev/zero"),
    "a symbolic link to itself": lambda path: path.symlink_to(path.name),
    "a symbolic link to another's folder": lambda path: path.symlink_to(
        path.parent.parent / "sendooway-bob/.fetchmailrc"
    ),
    "a pipe": lambda path: os.mkfifo(path, 0o600),
    "a folder": lambda path: path.mkdir(0o700),
    "a gigabyte of nothing": sparse,
}


@pytest.mark.parametrize("place", PLACES)
def test_what_stands_in_the_place_of_a_file_harms_nobody(
    place: str, start: Start, connect: Connect, alice: User, bob: User
) -> None:
    bob.write(
        ".fetchmailrc", "poll x.test user a pass b\n#sendooway:server x.test\n#sendooway:address alice@moon.test\n"
    )
    path = alice.home / ".fetchmailrc"
    PLACES[place](path)
    os.chown(path, alice.uid, alice.gid, follow_symlinks=False)
    if place == "a gigabyte of nothing":
        path.chmod(0o600)
    sendooway = start()
    client = connect(sendooway, alice)
    code, text = client.mail("alice@moon.test")
    assert (code, text[:5]) == (451, b"4.3.0")
    assert str(path) in text.decode()
    assert client.noop()[0] == 250
    assert_log_is_sound(sendooway)


def test_a_device_of_an_administrators_mapping_does_no_harm_either(start: Start, connect: Connect) -> None:
    client = connect(start(f"{NONE}smarthostMapping = fetchmail:/dev/zero"), ME)
    assert client.mail("alice@moon.test")[0] == 451


# Others on the same machine


def seen_by(uid: int, gid: int, pid: int) -> set[str]:
    """What a process of that user finds out about another: how reading it, tracing it and ending it went."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        said = set()
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
        for name in ("mem", "environ", "maps", "fd/0", "fd/4", "cwd", "root", "stack", "auxv"):
            try:
                with open(f"/proc/{pid}/{name}", "rb") as file:
                    said.add(f"{name} read: {file.read(1)!r}")
            except OSError as error:
                said.add(str(error.strerror))
        libc = ctypes.CDLL(None, use_errno=True)
        traced = libc.ptrace(16, pid, 0, 0)
        said.add("traced" if traced == 0 else os.strerror(ctypes.get_errno()))
        os.write(writing, "\n".join(said).encode())
        os._exit(0)
    os.close(writing)
    with open(reading) as file:
        said = set(file.read().split("\n"))
    os.waitpid(child, 0)
    return said


DENIED = {"Permission denied", "Operation not permitted", "No such file or directory"}


def test_no_user_can_look_into_a_process_of_ours(start: Start, connect: Connect, alice: User, bob: User) -> None:
    sendooway = start()
    connect(sendooway, alice)
    proxy = sendooway.role("proxy")[0]
    for user in (alice, bob):
        for pid in sendooway.processes():
            assert seen_by(user.uid, user.gid, pid) <= DENIED, (user.name, pid)
    # Nor one that runs as the proxy does.
    for pid in sendooway.processes():
        assert seen_by(proxy.uids[0], proxy.gids[0], pid) <= DENIED


def test_an_agent_that_its_user_stops_is_replaced(start: Start, connect: Connect, alice: User, bob: User) -> None:
    with ScriptedSmarthost() as smarthost:
        sendooway = start(SMARTHOST.format(port=smarthost.port))
        client, other = connect(sendooway, alice), connect(sendooway, bob)
        (agent,) = sendooway.role(f"agent: {alice.name}")
        os.kill(agent.pid, signal.SIGSTOP)
        # Else it would keep its place among the agents when its session is gone.
        wait_until(lambda: not sendooway.role(f"agent: {alice.name}"), "the end of the agent")
        sendooway.wait_for_log("process-stopped", f"process={agent.pid}")
        assert client.mail("alice@moon.test")[0] == 250
        assert other.mail("bob@moon.test")[0] == 250


def test_a_proxy_that_is_stopped_is_replaced(start: Start, connect: Connect) -> None:
    sendooway = start(f"{NONE}workers = 1")
    connect(sendooway, ME)
    (proxy,) = sendooway.role("proxy")
    os.kill(proxy.pid, signal.SIGSTOP)
    wait_until(lambda: [status.pid for status in sendooway.role("proxy")] not in ([], [proxy.pid]), "another proxy")
    assert connect(sendooway, ME).noop()[0] == 250
