"""Behind a TCP balancer, as far as a client that sends the PROXY header itself can show it."""

import base64
import os
import pwd
import signal
import smtplib
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest
from end_to_end.messages import HEADER
from servers.processes import PATIENCE, free_port, wait_until
from servers.program import Sendooway, Start
from servers.scripted import ScriptedSmarthost
from servers.users import User

pytestmark = pytest.mark.slow

ME = pwd.getpwuid(os.geteuid()).pw_name
CONTENT = HEADER + b"Hello.\r\n"
NONE = "authBackend = none\nmailerEncryption = allowed\n"
TRUSTED = f"{NONE}proxyTrust = 192.0.2.1 127.0.0.1\n"
HEALTH_CHECK = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"
UNKNOWN = b"PROXY UNKNOWN\r\n"


def told(client: str) -> bytes:
    """The header of version 2 for a client of this address."""
    address = ip_address(client).packed
    content = address * 2 + b"\xdc\x04\x02\x4b"
    return b"\r\n\r\n\0\r\nQUIT\n\x21" + bytes((0x11 if len(address) == 4 else 0x21, 0, len(content))) + content


class Balanced(smtplib.SMTP):
    """A client with a balancer in front of it, at `balancer`, which sends the header. With `tls` TLS comes next."""

    def __init__(
        self, port: int, header: bytes, *, balancer: str = "127.0.0.1", tls: ssl.SSLContext | None = None
    ) -> None:
        self._header, self._balancer, self._tls = header, balancer, tls
        super().__init__("localhost", port, local_hostname="client.test", timeout=PATIENCE)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", port), timeout, (self._balancer, 0))
        sock.sendall(self._header)
        return self._tls.wrap_socket(sock, server_hostname=host) if self._tls else sock


Connect = Callable[..., Balanced]


@pytest.fixture
def connect() -> Iterator[Connect]:
    with ExitStack() as stack:

        def run(port: int, header: bytes, **more: object) -> Balanced:
            client = Balanced(port, header, **more)  # type: ignore[arg-type]
            stack.callback(client.close)
            return client

        yield run


def plain(name: str) -> str:
    """With a password that `authBackend = none` takes, and PAM does not."""
    return base64.b64encode(f"\0{name}\0wrong".encode()).decode()


def log_in(client: smtplib.SMTP, name: str = ME) -> int:
    return client.docmd("AUTH", f"PLAIN {plain(name)}")[0]


def is_closed(sock: socket.socket) -> bool:
    """Without a word."""
    try:
        return sock.recv(100) == b""
    except ConnectionResetError:
        return True


def knock(sendooway: Sendooway, octets: bytes, source: str = "127.0.0.1") -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", sendooway.port), PATIENCE, (source, 0))
    sock.sendall(octets)
    return sock


@pytest.mark.parametrize("client", ["192.0.2.7", "2001:db8::7"])
def test_the_log_and_received_name_the_client_and_not_the_balancer(client: str, start: Start, connect: Connect) -> None:
    with ScriptedSmarthost() as smarthost:
        mapping = f"smarthostMapping = direct:* localhost {smarthost.port} - - noAuth\n"
        sendooway = start(TRUSTED + mapping)
        smtp = connect(sendooway.port, told(client))
        smtp.ehlo()
        assert log_in(smtp) == 235
        smtp.sendmail("alice@moon.test", ["bob@mars.test"], CONTENT)
        smtp.quit()
        (mail,) = smarthost.mails
    literal = f"IPv6:{client}" if ":" in client else client
    assert bytes(mail.data).startswith(f"Received: from client.test ([{literal}])\r\n".encode())
    assert "127.0.0.1" not in mail.data.decode()
    sendooway.wait_for_log(" connect ", f" rip={client} balancer=127.0.0.1")
    for event in ("login", "mail"):
        assert f"rip={client} " in sendooway.wait_for_log(f" {event} ")


def test_pam_and_the_log_of_failures_name_the_client(
    start: Start, connect: Connect, alice: User, shared_folder: Path
) -> None:
    service, seen = Path("/etc/pam.d/sendooway"), shared_folder / "balanced-rhost"
    before, script = service.read_text(), shared_folder / "tell-balanced-rhost"
    script.write_text(f'#!/bin/sh\nprintf "%s" "$PAM_RHOST" > {seen}\n')
    script.chmod(0o755)
    sendooway = start("proxyTrust = 127.0.0.1\nmailerEncryption = allowed\n")
    service.write_text(f"auth required pam_exec.so quiet {script}\nauth required pam_deny.so\n")
    try:
        smtp = connect(sendooway.port, told("192.0.2.7"))
        smtp.ehlo()
        assert log_in(smtp, alice.name) == 535
    finally:
        service.write_text(before)
    assert seen.read_text() == "192.0.2.7"
    sendooway.wait_for_log("auth-failure rip=192.0.2.7 ")


def test_failures_are_counted_for_the_client_and_not_for_the_balancer(
    start: Start, connect: Connect, alice: User
) -> None:
    sendooway = start("proxyTrust = 127.0.0.1\nmailerEncryption = allowed\nmaxFailedLogins = 1\n")

    def failure(client: str, name: str) -> None:
        smtp = connect(sendooway.port, told(client))
        smtp.ehlo()
        assert log_in(smtp, name) == 535

    failure("192.0.2.7", "x-nobody")
    failure("192.0.2.7", "y-nobody")
    failure("198.51.100.1", "z-nobody")
    assert "rip=192.0.2.7 user=y-nobody" in sendooway.wait_for_log("login-delayed")
    assert sendooway.log.count("login-delayed") == 1


def test_each_client_has_its_own_limits(start: Start, connect: Connect) -> None:
    sendooway = start(f"{TRUSTED}maxUnauthenticated = 15\nworkers = 1\n")  # 3 for each client, and no draw below 4
    for _ in range(3):
        assert connect(sendooway.port, told("192.0.2.7")).noop()[0] == 250
    with pytest.raises(smtplib.SMTPConnectError) as refusal:
        connect(sendooway.port, told("192.0.2.7"))
    assert (refusal.value.smtp_code, refusal.value.smtp_error[:5]) == (421, b"4.3.2")
    sendooway.wait_for_log("connection-refused rip=192.0.2.7 ", "maxUnauthenticated (a fifth")
    assert connect(sendooway.port, told("198.51.100.1")).noop()[0] == 250


@pytest.mark.parametrize("header", [told("192.0.2.7"), b"PROXY TCP4 192.0.2.7 192.0.2.1 56324 587\r\n"])
@pytest.mark.parametrize("configuration", [f"{NONE}proxyTrust = 192.0.2.1\n", NONE])
def test_a_header_of_anybody_else_is_a_faulty_command(header: bytes, configuration: str, start: Start) -> None:
    sendooway = start(configuration)
    with knock(sendooway, header + b"\r\nQUIT\r\n") as client, client.makefile("rb") as replies:
        lines = replies.read().split(b"\r\n")
    assert lines[0][:4] == b"220 "
    assert all(line[:1] == b"5" for line in lines[1:-2])
    assert len(lines) > 3
    assert "192.0.2.7" not in sendooway.log
    assert "balancer" not in sendooway.log


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (b"EHLO client.test\r\n", "there is no PROXY header"),
        (b"\x16\x03\x01\x02\0\x01", "there is no PROXY header"),
        (b"PROXY TCP4 192.0.2.7\r\n", "a PROXY line is malformed"),
    ],
)
def test_a_balancer_without_a_header_hears_nothing(octets: bytes, reason: str, start: Start) -> None:
    sendooway = start(TRUSTED)
    with knock(sendooway, octets) as client:
        assert is_closed(client)
    sendooway.wait_for_log("balancer-refused", "rip=127.0.0.1", reason)


def test_a_balancer_that_leaves_within_its_header_is_logged(start: Start) -> None:
    sendooway = start(TRUSTED)
    knock(sendooway, told("192.0.2.7")[:-1]).close()
    sendooway.wait_for_log("balancer-refused", "rip=127.0.0.1", "ended within a PROXY header")


def test_a_header_has_its_time_and_nobody_waits_for_it(start: Start, connect: Connect) -> None:
    sendooway = start(TRUSTED)
    with knock(sendooway, b"") as silent, knock(sendooway, told("192.0.2.7")[:20]) as slow:
        assert connect(sendooway.port, told("198.51.100.1")).noop()[0] == 250
        assert 'balancer-refused rip=127.0.0.1 reason="no' not in sendooway.log
        assert is_closed(silent)
        assert is_closed(slow)
    for reason in ("no PROXY header within 10 seconds", "no whole PROXY header within 10 seconds"):
        sendooway.wait_for_log("balancer-refused", "rip=127.0.0.1", reason)


@pytest.mark.parametrize("header", [HEALTH_CHECK, UNKNOWN])
def test_a_health_check_is_the_balancers_own_connection(header: bytes, start: Start, connect: Connect) -> None:
    sendooway = start(TRUSTED)
    smtp = connect(sendooway.port, header)
    assert smtp.ehlo()[0] == 250
    assert smtp.quit()[0] == 221
    assert "balancer=" not in sendooway.wait_for_log(" connect ", " rip=127.0.0.1")


def test_tls_from_the_first_octet_comes_after_the_header(start: Start, connect: Connect, tls: ssl.SSLContext) -> None:
    port = free_port()
    sendooway = start(f"{TRUSTED}listen = 127.0.0.1:{port} tls\n")
    smtp = connect(port, told("192.0.2.7"), tls=tls)
    smtp.ehlo()
    assert log_in(smtp) == 235
    sendooway.wait_for_log("tls ", "version=")
    sendooway.wait_for_log(" login ", "rip=192.0.2.7 ")


def test_what_comes_in_one_piece_with_the_header_is_not_lost(start: Start) -> None:
    sendooway = start(TRUSTED)
    with knock(sendooway, told("192.0.2.7") + b"NOOP\r\nQUIT\r\n") as client, client.makefile("rb") as replies:
        codes = [line[:3] for line in replies.read().split(b"\r\n")]
    assert codes == [b"220", b"250", b"221", b""]


def test_a_client_elsewhere_needs_tls_although_the_balancer_is_here(
    start: Start, connect: Connect, tls: ssl.SSLContext
) -> None:
    sendooway = start("authBackend = none\nproxyTrust = 127.0.0.1\n")
    smtp = connect(sendooway.port, told("192.0.2.7"))
    smtp.ehlo()
    assert not smtp.has_extn("auth")
    assert log_in(smtp) != 235
    smtp.starttls(context=tls)
    smtp.ehlo()
    assert log_in(smtp) == 235
    # One that is here itself, as its balancer tells, needs none.
    here = connect(sendooway.port, told("127.0.0.3"))
    here.ehlo()
    assert log_in(here) == 235
    sendooway.wait_for_log(" login ", "rip=127.0.0.3 ")


def test_a_new_configuration_trusts_others(start: Start, connect: Connect) -> None:
    sendooway = start(TRUSTED)
    sendooway.configure(f"localname = proxy.test\n{NONE}proxyTrust = 127.0.0.2\n")
    sendooway.process.send_signal(signal.SIGHUP)

    def is_believed() -> bool:
        # The old proxy may still be the one that accepts: for it this is anybody, who says faulty commands.
        log_in(connect(sendooway.port, told("192.0.2.7"), balancer="127.0.0.2"))
        return "rip=192.0.2.7 balancer=127.0.0.2" in sendooway.log

    wait_until(is_believed, "the new configuration")
    sendooway.wait_for_log(" login ", "rip=192.0.2.7 ")


@contextmanager
def under_a_super_server(start: Start) -> Iterator[tuple[Sendooway, socket.socket]]:
    """What serves one connection from a balancer, and the balancer's end of it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        balancer = socket.create_connection(listener.getsockname(), timeout=PATIENCE)
        server, _ = listener.accept()
    with balancer:
        sendooway = start(TRUSTED, "-i", stdin=server.fileno(), stdout=server.fileno())
        server.close()
        yield sendooway, balancer


def test_under_a_super_server_the_header_comes_first_too(start: Start) -> None:
    with under_a_super_server(start) as (sendooway, balancer), balancer.makefile("rb") as replies:
        balancer.sendall(told("192.0.2.7"))
        assert replies.readline().startswith(b"220 ")
        balancer.sendall(b"EHLO client.test\r\nAUTH PLAIN %b\r\nQUIT\r\n" % plain(ME).encode())
        assert [line[:3] for line in replies.read().split(b"\r\n")][-3:] == [b"235", b"221", b""]
        sendooway.wait_for_log(" connect ", " rip=192.0.2.7 balancer=127.0.0.1")
        sendooway.wait_for_log(" login ", " rip=192.0.2.7 ")


@pytest.mark.parametrize("octets", [b"EHLO client.test\r\n", b""])
def test_under_a_super_server_a_balancer_without_a_header_hears_nothing(octets: bytes, start: Start) -> None:
    with under_a_super_server(start) as (sendooway, balancer):
        balancer.sendall(octets)
        balancer.shutdown(socket.SHUT_WR)
        assert is_closed(balancer)
        sendooway.wait_for_log("balancer-refused", "rip=127.0.0.1")
