"""inetd, xinetd and systemd's sockets: real ones start the program, with what they take from and add to its world."""

import os
import smtplib
import socket
import ssl
from pathlib import Path

import pytest
from end_to_end.conftest import basic_configuration
from end_to_end.messages import HEADER, without_received
from servers import super_servers
from servers.certificates import Certificates
from servers.postfix import Postfix
from servers.processes import descendants, read_status, title, wait_until
from servers.super_servers import FOR_ALL, FOR_EACH, ON_STANDARD_INPUT, SuperServer
from servers.users import User

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become other users"),
]

CONTENT = HEADER + b"Hello.\r\n"


@pytest.fixture
def configuration(tmp_path: Path, certificates: Certificates) -> Path:
    path = tmp_path / "sendooway.conf"
    path.touch(0o600)
    path.write_text(basic_configuration(certificates))
    return path


def log_in(port: int, user: User, tls: ssl.SSLContext) -> smtplib.SMTP:
    client = smtplib.SMTP("localhost", port, local_hostname="client.test", timeout=60)
    client.starttls(context=tls)
    client.login(user.name, user.password)
    return client


@pytest.mark.parametrize("server", [*FOR_EACH, FOR_ALL], ids=str)
def test_a_user_logs_in_and_sends_a_mail_and_no_process_has_more_rights_than_it_needs(
    server: SuperServer,
    tmp_path: Path,
    configuration: Path,
    alice_with_two_identities: User,
    postfix: Postfix,
    tls: ssl.SSLContext,
) -> None:
    user = alice_with_two_identities
    with super_servers.running(server, tmp_path, "-l", str(tmp_path / "log")) as (port, pid):
        with log_in(port, user, tls) as client:
            titles = {title(one): read_status(one) for one in (pid, *descendants(pid))}
            assert {0}.isdisjoint(titles["sendooway [proxy]"].uids)
            assert titles["sendooway [proxy]"].effective_capabilities == 0
            assert titles[f"sendooway [agent: {user.name}]"].uids == (user.uid,) * 4
            client.sendmail("alice@moon.test", ["super@mars.test"], CONTENT)
            login, delivery = postfix.take("super@mars.test")
            assert login == "alice-moon"
            assert without_received(delivery.content) == CONTENT
        wait_until(lambda: " disconnect " in (tmp_path / "log").read_text(), "the end of the session")
        with log_in(port, user, tls) as client:
            assert client.noop()[0] == 250
    log = (tmp_path / "log").read_text()
    assert log.count(" login ") == 2
    assert "rip=127.0.0.1" in log
    assert "Traceback" not in log


@pytest.mark.parametrize("server", FOR_EACH, ids=str)
def test_what_goes_to_standard_error_reaches_no_client_but_the_log(
    server: SuperServer, tmp_path: Path, configuration: Path
) -> None:
    configuration.write_text("timeout = soon\n")
    with (
        super_servers.running(server, tmp_path, "-l", str(tmp_path / "log")) as (port, _),
        socket.create_connection(("127.0.0.1", port), timeout=60) as client,
        client.makefile("rb") as replies,
    ):
        assert {line[:4] for line in replies} <= {b"220 ", b"421 "}
    assert "sendooway.conf:1: timeout: 'soon'" in (tmp_path / "log").read_text()


@pytest.mark.parametrize("server", ON_STANDARD_INPUT[:2], ids=str)
def test_standard_error_is_the_log_while_it_would_be_the_connection(
    server: SuperServer, tmp_path: Path, configuration: Path
) -> None:
    with (
        super_servers.running(server, tmp_path, "-l", str(tmp_path / "log")) as (port, pid),
        socket.create_connection(("127.0.0.1", port), timeout=60) as client,
    ):
        with client.makefile("rb") as replies:
            assert replies.readline().startswith(b"220 ")
            client.sendall(b"NOOP\r\n")
            assert replies.readline().startswith(b"250 ")

        def ours() -> list[int]:
            return [one for one in descendants(pid) if title(one) in ("sendooway [proxy]", "sendooway [agent]")]

        wait_until(lambda: len(ours()) == 2, "proxy and agent, by their titles")
        for one in ours():
            assert os.readlink(f"/proc/{one}/fd/2") == str(tmp_path / "log")
