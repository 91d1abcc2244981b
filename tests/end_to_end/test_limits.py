"""Each limit at its edge, over real sockets: what is still granted, what is not, and what comes back by itself."""

import base64
import os
import pwd
import smtplib
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
from end_to_end.conftest import is_served
from end_to_end.messages import HEADER
from servers.processes import PATIENCE, free_port, wait_until
from servers.program import Connect, Sendooway, Start
from servers.scripted import ScriptedSmarthost

from sendooway.net.threads import MAX_IDLE

pytestmark = pytest.mark.slow

CONTENT = HEADER + b"Hello.\r\n"
ME = (pwd.getpwuid(os.geteuid()).pw_name, "not checked")
NONE = "authBackend = none\n"
CLOSED = smtplib.SMTPServerDisconnected


@contextmanager
def with_a_smarthost(start: Start, configuration: str) -> Iterator[tuple[Sendooway, ScriptedSmarthost]]:
    with ScriptedSmarthost() as smarthost:
        yield (
            start(f"{NONE}smarthostMapping = direct:* localhost {smarthost.port} - - noAuth\n{configuration}"),
            smarthost,
        )


def log_in(client: smtplib.SMTP, user: str, password: str) -> tuple[int, bytes]:
    """Once, other than smtplib's login, which tries one mechanism after the other."""
    return client.docmd("AUTH", "PLAIN " + plain(user, password))


def plain(user: str, password: str) -> str:
    return base64.b64encode(f"\0{user}\0{password}".encode()).decode()


def failed_login(client: smtplib.SMTP) -> int:
    return log_in(client, "nobody-here", "wrong")[0]


def test_recipients_of_a_mail(start: Start, connect: Connect) -> None:
    with with_a_smarthost(start, "maxRecipients = 3") as (sendooway, smarthost):
        client = connect(sendooway, ME)
        for _ in range(2):
            client.mail("alice@moon.test")
            assert [client.rcpt(f"{name}@mars.test")[0] for name in "abc"] == [250] * 3
            code, text = client.rcpt("d@mars.test")
            assert (code, text) == (452, b"4.5.3 Too many recipients, the limit is 3")
            assert client.data(CONTENT)[0] == 250
        assert [len(mail.recipients) for mail in smarthost.mails] == [3, 3]


def test_errors_count_within_mails_and_outside(start: Start, connect: Connect) -> None:
    with with_a_smarthost(start, "maxErrors = 4") as (sendooway, _):
        client = connect(sendooway, ME)
        assert client.docmd("WHAT")[0] == 502
        client.mail("alice@moon.test")
        assert client.docmd("RCPT", "to nobody")[0] in (500, 501)
        client.rset()
        assert client.docmd("RCPT", "TO:<bob@mars.test>")[0] == 503
        client.mail("alice@moon.test")
        assert client.docmd("ETRN", "moon.test") == (421, b"4.7.0 proxy.test Too many errors, closing")
        with pytest.raises(CLOSED):
            client.noop()
        sendooway.wait_for_log("disconnect", 'reason="too many errors"')


def test_an_accepted_mail_makes_up_for_errors(start: Start, connect: Connect) -> None:
    with with_a_smarthost(start, "maxErrors = 2") as (sendooway, _):
        client = connect(sendooway, ME)
        for _ in range(3):
            assert client.docmd("WHAT")[0] == 502
            client.sendmail("alice@moon.test", ["bob@mars.test"], CONTENT)


@pytest.mark.parametrize("says", [b"", b"E", b"NOOP\r\n"], ids=["nothing", "octets", "noop"])
def test_time_to_log_in_whatever_the_client_says_meanwhile(says: bytes, start: Start, connect: Connect) -> None:
    sendooway = start(f"{NONE}loginTimeout = 3")
    client = connect(sendooway, secure=False)
    assert client.sock
    client.sock.settimeout(0.1)
    begin, heard = time.monotonic(), b""
    while b"421 4.4.2" not in heard and 'disconnect reason="no answer within 3 seconds"' not in sendooway.log:
        assert time.monotonic() - begin < PATIENCE
        # It may be gone while we speak.
        with suppress(TimeoutError, ConnectionError):
            if says:
                client.sock.sendall(says)
            heard += client.sock.recv(65536)
    assert says or b"421 4.4.2" in heard
    assert sendooway.wait_for_log("disconnect", "within 3 seconds")


def test_time_to_log_in_with_a_challenge_unanswered(start: Start, connect: Connect) -> None:
    sendooway = start(f"{NONE}loginTimeout = 3")
    client = connect(sendooway)
    assert client.docmd("AUTH", "LOGIN")[0] == 334
    assert client.getreply()[0] == 421
    wait_until(lambda: not sendooway.role("agent"), "the end of the agent")


def test_time_without_a_mail_whatever_the_client_says_meanwhile(start: Start, connect: Connect) -> None:
    with with_a_smarthost(start, "idleTimeout = 4") as (sendooway, _):
        silent, talking, in_a_mail = (connect(sendooway, ME) for _ in range(3))
        in_a_mail.mail("alice@moon.test")
        last = {}
        for client in (talking, in_a_mail):
            code = 250
            while code == 250:
                code, text = client.noop()
            last[client] = (code, text[:5])
        assert list(last.values()) == [(421, b"4.4.2")] * 2
        assert silent.getreply()[0] == 421


def test_connections_in_all(start: Start, connect: Connect) -> None:
    sendooway = start(f"{NONE}maxSessions = 2\nworkers = 1")
    # The test's own look whether it is there may not have ended yet.
    wait_until(lambda: sendooway.log.count("disconnect") == 1, "the end of the first look")
    first, _ = connect(sendooway), connect(sendooway)
    with pytest.raises(smtplib.SMTPConnectError) as refusal:
        connect(sendooway)
    assert (refusal.value.smtp_code, refusal.value.smtp_error[:5]) == (421, b"4.3.2")
    sendooway.wait_for_log("connection-refused", "limit=maxSessions")
    first.quit()
    wait_until(lambda: is_served(sendooway, connect, ME), "a place for one more")


@pytest.fixture
def own_address() -> str:
    """One of this machine's own that is not loopback: what is said to it crosses no network all the same."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # no datagram is sent
        except OSError as error:
            pytest.skip(f"this machine has no address but loopback: {error.strerror}")
        return str(probe.getsockname()[0])


def over(address: str, port: int, stack: ExitStack) -> smtplib.SMTP:
    client = smtplib.SMTP(address, port, local_hostname="client.test", timeout=PATIENCE)
    stack.callback(client.close)
    return client


def listening(address: str, port: int) -> str:
    return f"{NONE}mailerEncryption = allowed\nlisten = {address}:{port}\n"


def test_connections_and_failed_logins_of_an_address(start: Start, own_address: str) -> None:
    port = free_port()
    sendooway = start(listening(own_address, port) + "maxSessionsPerClient = 2\nmaxFailedLogins = 2\nworkers = 1\n")
    with ExitStack() as stack:
        first, second = (over(own_address, port, stack) for _ in range(2))
        with pytest.raises(smtplib.SMTPConnectError) as refusal:
            over(own_address, port, stack)
        assert refusal.value.smtp_code == 421
        sendooway.wait_for_log("connection-refused", f"rip={own_address}", "limit=maxSessionsPerClient")
        # Others have places still.
        smtplib.SMTP("localhost", sendooway.port, timeout=PATIENCE).close()
        # Whoever it tries to be: the third failure of an address is one too many.
        assert [log_in(first, f"nobody-{number}", "x")[0] for number in range(2)] == [535, 535]
        second.putcmd("AUTH", "PLAIN " + plain("nobody-3", "x"))
        sendooway.wait_for_log("login-delayed", f"rip={own_address}", "user=nobody-3", "seconds=2.000")
        first.close()

        def is_free() -> bool:
            with suppress(smtplib.SMTPConnectError):
                return over(own_address, port, stack).noop()[0] == 250
            return False

        wait_until(is_free, "a place for one more")


def test_sessions_of_a_user_from_other_machines(start: Start, connect: Connect, own_address: str) -> None:
    port = free_port()
    sendooway = start(listening(own_address, port) + "maxSessionsPerUser = 2\nworkers = 2\n")
    with ExitStack() as stack:
        first, second, third = (over(own_address, port, stack) for _ in range(3))
        assert [log_in(client, *ME)[0] for client in (first, second)] == [235, 235]
        code, text = log_in(third, *ME)
        assert (code, text[:52]) == (454, b"4.7.0 Too many sessions of this user, the limit is 2")
        assert third.getreply()[0] == 421
        sendooway.wait_for_log("disconnect", 'reason="too many sessions"')
        sendooway.wait_for_log("too-many-sessions", f"user={ME[0]}", f"rip={own_address}")
        # This machine, on which a webmail may speak for many, has no such limit.
        assert connect(sendooway, ME).noop()[0] == 250
        first.quit()
        wait_until(lambda: log_in(over(own_address, port, stack), *ME)[0] == 235, "a place for one more")


def test_connections_on_which_nobody_has_logged_in(start: Start, connect: Connect) -> None:
    sendooway = start(f"{NONE}maxUnauthenticated = 2\nworkers = 1")
    wait_until(lambda: sendooway.log.count("disconnect") == 1, "the end of the first look")
    first, _ = connect(sendooway), connect(sendooway)
    with pytest.raises(smtplib.SMTPConnectError):
        connect(sendooway)
    sendooway.wait_for_log("connection-refused", "limit=maxUnauthenticated")
    first.login(*ME)
    assert connect(sendooway, ME).noop()[0] == 250
    assert connect(sendooway, ME).noop()[0] == 250


def test_failed_logins_of_a_connection(start: Start, connect: Connect) -> None:
    sendooway = start(f"{NONE}maxFailedLogins = 2")
    client = connect(sendooway)
    assert failed_login(client) == 535
    assert failed_login(client) == 535
    assert client.getreply()[0] == 421
    with pytest.raises(CLOSED):
        client.noop()
    sendooway.wait_for_log("disconnect", 'reason="too many failed logins"')


def test_a_login_that_has_to_wait_has_no_thread_and_others_do_not_wait(start: Start, connect: Connect) -> None:
    sendooway = start(f"{NONE}maxFailedLogins = 1\nworkers = 1")
    connect(sendooway).quit()
    (proxy,) = sendooway.role("proxy")
    tasks = f"/proc/{proxy.pid}/task"
    users = [f"nobody-{number}" for number in range(MAX_IDLE + 8)]
    for number in (1, 2):
        clients = [connect(sendooway) for _ in users]
        for client, user in zip(clients, users, strict=True):
            client.putcmd("AUTH", "PLAIN " + plain(user, "wrong"))
        if number == 2:
            wait_until(lambda: sendooway.log.count("login-delayed") == len(users), "all to wait")
            wait_until(lambda: len(os.listdir(tasks)) <= 1 + MAX_IDLE, "no thread but the first and idle ones")
            # Meanwhile, another user.
            assert connect(sendooway, ME).noop()[0] == 250
        for client in clients:
            assert client.getreply()[0] == 535
            assert client.getreply()[0] == 421
            client.close()
    wait_until(lambda: not sendooway.role("agent]"), "the end of all agents but those of users")


def has_failures(sendooway: Sendooway, number: int) -> bool:
    return sendooway.log.count("auth-failure") == number


def test_who_hangs_up_and_comes_again_waits_all_the_same(start: Start, connect: Connect) -> None:
    sendooway = start(f"{NONE}maxFailedLogins = 1")
    for number in range(3):
        client = connect(sendooway)
        client.send(b"AUTH PLAIN AG5vYm9keS1oZXJlAHdyb25n\r\n")
        wait_until(partial(has_failures, sendooway, number + 1), "the failure")
        client.close()
    assert [line.split("seconds=")[1].split()[0] for line in sendooway.log.splitlines() if "login-delayed" in line] == [
        "2.000",
        "4.000",
    ]


def test_memory_of_a_session(start: Start, connect: Connect) -> None:
    """The figure of DESIGN.md: a session takes less than half a megabyte."""
    sendooway = start(f"{NONE}workers = 1")
    connect(sendooway, ME)
    (proxy,) = sendooway.role("proxy")
    before = resident(proxy.pid)
    for _ in range(40):
        connect(sendooway, ME)
    assert (resident(proxy.pid) - before) / 40 < 512


def test_memory_before_a_login(start: Start, connect: Connect) -> None:
    """The figure of DESIGN.md is half of it."""
    sendooway = start(f"{NONE}workers = 1")
    (proxy,) = sendooway.role("proxy")
    connect(sendooway)
    before = resident(proxy.pid)
    for _ in range(80):
        connect(sendooway)
    assert (resident(proxy.pid) - before) / 80 < 115


def resident(pid: int) -> int:
    """In KiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])
