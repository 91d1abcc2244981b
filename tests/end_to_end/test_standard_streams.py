"""Standard input is the connection: under inetd a socket, by hand a pair of pipes."""

import base64
import os
import pwd
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from end_to_end.messages import HEADER, without_received
from servers.postfix import Postfix
from servers.processes import PATIENCE, wait_until
from servers.program import ROOT, Sendooway, Start, command
from servers.scripted import Fault, ScriptedSmarthost, Stage
from servers.users import User

pytestmark = pytest.mark.slow

ME = pwd.getpwuid(os.geteuid()).pw_name
CONTENT = HEADER + b"Hello.\r\n"


class Lines:
    """A client on a socket that reads whole replies."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._file = connection.makefile("rb")

    def reply(self) -> tuple[int, bytes]:
        text = b""
        while True:
            line = self._file.readline()
            assert line.endswith(b"\r\n"), text + line
            text += line[4:]
            if line[3:4] == b" ":
                return int(line[:3]), text

    def ask(self, octets: bytes) -> int:
        self.connection.sendall(octets)
        return self.reply()[0]

    def close(self) -> None:
        self._file.close()
        self.connection.close()


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A connection over loopback, as inetd would hand it over: the client's end and the server's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname(), timeout=PATIENCE)
        server, _ = listener.accept()
    with client, server:
        yield client, server


def serve(start: Start, theirs: socket.socket, configuration: str = "authBackend = none") -> Sendooway:
    """Sendooway, started for one connection as inetd does it. The connection is its own then."""
    sendooway: Sendooway = start(configuration, "-i", stdin=theirs.fileno(), stdout=theirs.fileno())
    theirs.close()
    return sendooway


def test_under_inetd_one_user_sends_and_all_processes_end_with_the_connection(
    start: Start,
    sockets: tuple[socket.socket, socket.socket],
    alice_with_two_identities: User,
    postfix: Postfix,
    tls: ssl.SSLContext,
) -> None:
    ours, theirs = sockets
    user = alice_with_two_identities
    sendooway = serve(start, theirs, "")
    clear = Lines(ours)
    assert clear.reply()[0] == 220
    assert clear.ask(b"EHLO client.test\r\n") == 250
    assert clear.ask(b"STARTTLS\r\n") == 220
    with closing(Lines(tls.wrap_socket(ours, server_hostname="localhost"))) as client:
        assert client.ask(b"EHLO client.test\r\n") == 250
        assert client.ask(b"AUTH LOGIN\r\n") == 334
        for answer, code in ((user.name, 334), (user.password, 235)):
            client.connection.sendall(_base64(answer) + b"\r\n")
            assert client.reply()[0] == code
        (agent,) = sendooway.role(f"agent: {user.name}")
        assert agent.uids == (user.uid,) * 4
        assert [status for status in sendooway.role("proxy") if 0 in status.uids] == []
        for sender, login in (("alice@moon.test", "alice-moon"), ("alice@sun.test", "alice-sun")):
            assert client.ask(b"MAIL FROM:<%s>\r\n" % sender.encode()) == 250
            assert client.ask(b"RCPT TO:<inetd@mars.test>\r\n") == 250
            assert client.ask(b"DATA\r\n") == 354
            assert client.ask(CONTENT + b".\r\n") == 250
            found, delivery = postfix.take("inetd@mars.test")
            assert found == login
            assert without_received(delivery.content) == CONTENT
        assert client.ask(b"QUIT\r\n") == 221
    assert sendooway.process.wait(PATIENCE) == 0


def test_under_inetd_the_end_of_the_connection_ends_everything(
    start: Start, sockets: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = sockets
    sendooway = serve(start, theirs)
    client = Lines(ours)
    assert client.reply()[0] == 220
    assert client.ask(b"EHLO client.test\r\n") == 250
    assert client.ask(b"AUTH PLAIN " + _base64(f"\0{ME}\0any") + b"\r\n") == 235
    client.close()
    assert sendooway.process.wait(PATIENCE) == 0


def test_a_unix_socket_is_a_connection_too(start: Start) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(PATIENCE)
        serve(start, theirs)
        client = Lines(ours)
        assert client.reply()[0] == 220
        assert client.ask(b"EHLO client.test\r\n") == 250
        # Nobody can listen on it, so a login in clear is all right.
        assert client.ask(b"AUTH PLAIN " + _base64(f"\0{ME}\0any") + b"\r\n") == 235
        assert client.ask(b"QUIT\r\n") == 221
        client.close()


def test_on_plain_pipes_one_talks_smtp_by_hand_with_bare_line_feeds() -> None:
    script = b"EHLO me\nMAIL FROM:<a@b.test>\nRSET\nNOOP\nBOGUS\nQUIT\n"
    done = subprocess.run(
        command("-c", "/dev/null", "-l", "&2"),
        input=script,
        cwd=ROOT,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    codes = [line[:3] for line in done.stdout.splitlines() if line[3:4] == b" "]
    assert codes == [b"220", b"250", b"530", b"250", b"250", b"502", b"221"]
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr


def test_an_interrupt_from_the_terminal_ends_it_quietly() -> None:
    with subprocess.Popen(
        command("-c", "/dev/null", "-l", "&2"),
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout
        assert process.stdout.readline().startswith(b"220 ")
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline().startswith(b"421 ")
        _, logged = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert b"Traceback" not in logged


def test_the_end_of_standard_input_ends_it_quietly() -> None:
    done = subprocess.run(
        command("-c", "/dev/null", "-l", "&2"), input=b"", cwd=ROOT, capture_output=True, timeout=PATIENCE, check=False
    )
    assert (done.returncode, done.stdout[:4]) == (0, b"220 ")
    assert b"Traceback" not in done.stderr


def test_a_mail_can_be_sent_over_plain_pipes(tmp_path: Path) -> None:
    with ScriptedSmarthost() as smarthost:
        configuration = tmp_path / "conf"
        configuration.write_text(
            f"authBackend = none\nsmarthostMapping = direct:* localhost {smarthost.port} - - noAuth\n"
        )
        script = (b"EHLO me\nAUTH PLAIN %s\nMAIL FROM:<a@b.test>\nRCPT TO:<c@d.test>\nDATA\n%s.\r\nQUIT\n") % (
            _base64(f"\0{ME}\0any"),
            CONTENT,
        )
        done = subprocess.run(
            command("-c", configuration, "-l", "&2"),
            input=script,
            cwd=ROOT,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
        codes = [line[:3] for line in done.stdout.splitlines() if line[3:4] == b" "]
        assert codes == [b"220", b"250", b"235", b"250", b"250", b"354", b"250", b"221"]
        assert bytes(smarthost.mails[0].data).endswith(CONTENT + b".\r\n")


def test_a_stop_after_the_final_dot_says_that_the_delivery_is_unknown(
    start: Start, sockets: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = sockets
    with ScriptedSmarthost(answers={Stage.DOT: [Fault.HANG]}) as smarthost:
        account = f"smarthostMapping = direct:* localhost {smarthost.port} - - noAuth"
        sendooway = serve(start, theirs, f"authBackend = none\n{account}")
        with closing(Lines(ours)) as client:
            assert client.reply()[0] == 220
            codes = [
                client.ask(line)
                for line in (
                    b"AUTH PLAIN " + _base64(f"\0{ME}\0any") + b"\r\n",
                    b"MAIL FROM:<a@b.test>\r\n",
                    b"RCPT TO:<c@d.test>\r\n",
                    b"DATA\r\n",
                )
            ]
            assert codes == [235, 250, 250, 354]
            ours.sendall(CONTENT + b".\r\n")
            wait_until(lambda: smarthost.mails and smarthost.mails[0].complete, "the smarthost has it all")
            sendooway.process.send_signal(signal.SIGINT)
            code, text = client.reply()
            assert code == 451
            assert b"unknown" in text
            assert client.reply()[0] == 421
    assert sendooway.process.wait(PATIENCE) == 0


def test_sigterm_lets_a_session_finish(start: Start, sockets: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = sockets
    sendooway = serve(start, theirs)
    with closing(Lines(ours)) as client:
        assert client.reply()[0] == 220
        sendooway.wait_for_log("connect ")  # the greeting comes before the session
        sendooway.process.send_signal(signal.SIGTERM)
        assert client.ask(b"EHLO client.test\r\n") == 250
        assert client.ask(b"QUIT\r\n") == 221
    assert sendooway.process.wait(PATIENCE) == 0


def test_a_session_that_goes_on_for_30_seconds_after_sigterm_is_ended_with_421(
    start: Start, sockets: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = sockets
    ours.settimeout(30 + PATIENCE)
    sendooway = serve(start, theirs)
    with closing(Lines(ours)) as client:
        assert client.reply()[0] == 220
        sendooway.wait_for_log("connect ")  # the greeting comes before the session
        sendooway.process.send_signal(signal.SIGTERM)
        code, text = client.reply()
        assert (code, text[:5]) == (421, b"4.3.2")
        assert ours.recv(1) == b""
    assert sendooway.process.wait(PATIENCE) == 0


def _base64(text: str) -> bytes:
    return base64.b64encode(text.encode())
