"""Every stage of both dialogues, and at each all that a peer can do wrong.

Whatever happened in one session, the server stands it: the next mail goes through, and at the end the proxy has as
many descriptors as before and no more threads than it keeps idle, and no agent is left. There are two servers, as one
that hurries, so that nobody has to wait for what never comes, would hurry everything else, too.
"""

import os
import pwd
import smtplib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from end_to_end.conftest import basic_configuration
from end_to_end.messages import HEADER
from servers.certificates import Certificates
from servers.processes import PATIENCE, wait_until
from servers.program import Sendooway
from servers.scripted import Answer, Fault, ScriptedSmarthost, Stage

from sendooway.net.threads import MAX_IDLE

pytestmark = pytest.mark.slow

CONTENT = HEADER + b"Hello.\r\n"
LOGIN = "alice-moon"
ME = (pwd.getpwuid(os.geteuid()).pw_name, "not checked")

CONFIGURATION = """\
authBackend = none
maxErrors = 5
workers = 1
smarthostIdle = 0
smarthostMapping = direct:* localhost {port} alice-moon moon-secret tls
"""
HURRY = "timeout = 2\nloginTimeout = 5\n"


@dataclass
class Scene:
    sendooway: Sendooway
    smarthost: ScriptedSmarthost
    trusted: ssl.SSLContext

    def connect(self) -> smtplib.SMTP:
        client = smtplib.SMTP("localhost", self.sendooway.port, local_hostname="client.test", timeout=PATIENCE)
        client.starttls(context=self.trusted)
        client.login(*ME)
        return client

    def figures(self) -> tuple[bool, int]:
        """Whether the proxy has more threads than it keeps idle, and its descriptors."""
        (proxy,) = self.sendooway.role("proxy")
        folder = Path(f"/proc/{proxy.pid}")
        return len(os.listdir(folder / "task")) > 1 + MAX_IDLE, len(os.listdir(folder / "fd"))


@contextmanager
def serving(configuration: str, certificates: Certificates, folder: Path) -> Iterator[Scene]:
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_context.load_cert_chain(certificates.good.certificate, certificates.good.key)
    trusted = ssl.create_default_context(cafile=str(certificates.authority))
    with ScriptedSmarthost(tls=server_context) as smarthost:
        text = basic_configuration(certificates) + configuration.format(port=smarthost.port)
        with Sendooway(folder, text) as sendooway:
            scene = Scene(sendooway, smarthost, trusted)
            send_a_mail(scene, scene.connect())
            # The first was the look whether it serves.
            wait_until(lambda: sendooway.log.count(" disconnect ") == 2, "the end of the first session")
            before = scene.figures()
            yield scene
            wait_until(lambda: scene.figures() <= before, f"the figures from before, {before}")
            wait_until(lambda: not sendooway.role("agent"), "the end of agents for which there is nothing to do")


@pytest.fixture(scope="module")
def patient(certificates: Certificates, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with serving(CONFIGURATION, certificates, tmp_path_factory.mktemp("patient")) as scene:
        yield scene


@pytest.fixture(scope="module")
def hurried(certificates: Certificates, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with serving(CONFIGURATION + HURRY, certificates, tmp_path_factory.mktemp("hurried")) as scene:
        yield scene


@pytest.fixture
def scene(fault: str, hurried: Scene, patient: Scene) -> Scene:
    """For a fault of the smarthost."""
    return hurried if FAULTS[fault] in (Fault.HANG, Fault.SLOW) else patient


def send_a_mail(scene: Scene, client: smtplib.SMTP) -> None:
    """All is well: it arrives as it is, and is said to have arrived."""
    scene.smarthost.script({})
    client.sendmail("alice@moon.test", ["bob@mars.test"], CONTENT)
    mail = scene.smarthost.mails[-1]
    assert mail.complete
    assert mail.data.partition(b";\r\n\t")[2].partition(b"\r\n")[2] == CONTENT + b".\r\n"
    client.quit()


# The smarthost

FAULTS: dict[str, Answer] = {
    "reset": Fault.RESET,
    "closed": Fault.CLOSE,
    "half-closed": Fault.HALF_CLOSE,
    "silent": Fault.HANG,
    "slow": Fault.SLOW,
    "endless": Fault.ENDLESS,
    "garbage": b"\x00\xff\x1b[2J%s\r\r\n\n220\r\n",
    "421": b"421 4.3.2 Going down",
    "contradicting": b"250-one\r\n550 two",
    "10 MB": b"250 " + b"x" * 10_000_000,
}

# As the client and the log are told.
BEFORE_THE_MAIL = {
    Stage.GREETING: "greeting",
    Stage.EHLO: "EHLO",
    Stage.STARTTLS: "STARTTLS",
    Stage.TLS: "TLS",
    Stage.AUTH: "login",
}
WITHIN = (Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.BODY, Stage.DOT, Stage.OTHER)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("stage", BEFORE_THE_MAIL, ids=lambda stage: stage.name)
def test_a_fault_on_the_way_to_the_smarthost(scene: Scene, stage: Stage, fault: str) -> None:
    client = scene.connect()
    scene.smarthost.script({stage: [FAULTS[fault]]})
    logged = len(scene.sendooway.log)
    # It would never end if there were a deadline for each octet, and not one for the phase.
    code, octets = client.mail("alice@moon.test")
    assert (code, octets[:5]) in ((451, b"4.4.1"), (454, b"4.7.0"))
    told = octets.decode()
    if (stage, fault) == (Stage.GREETING, "reset"):
        told = told.replace("): connect: ", "): greeting: ")  # it may come before the connection is seen to be there
    for word in (f"localhost:{scene.smarthost.port}", f"account {LOGIN}", f"{BEFORE_THE_MAIL[stage]}: "):
        assert word in told
    assert len(told) < 2000
    assert told.isprintable() or "\n" in told
    assert "smarthost-failed" in scene.sendooway.log[logged:]
    assert client.rcpt("bob@mars.test")[0] == 503
    send_a_mail(scene, client)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("stage", WITHIN, ids=lambda stage: stage.name)
def test_a_fault_within_the_mail(scene: Scene, stage: Stage, fault: str) -> None:
    client = scene.connect()
    scene.smarthost.script({stage: [FAULTS[fault]]})
    mails = len(scene.smarthost.mails)
    # Each command has a reply, of which none may be the smarthost's success where it had none.
    replies = [client.mail("alice@moon.test"), client.rcpt("bob@mars.test")]
    if stage is Stage.OTHER:
        replies.append(client.docmd("XFOO"))
    replies.append(client.docmd("DATA"))
    if replies[-1][0] == 354:
        client.send(CONTENT + b"x" * 70_000 + b"\r\n.\r\n")
        replies.append(client.getreply())
    first = next(index for index, (code, _) in enumerate(replies) if code >= 400)
    code, octets = replies[first]
    # A smarthost that says 421 is heard, one that says nonsense is not.
    assert code == 421 if fault == "421" else code == 451
    if fault != "421":
        assert octets[:5] == b"4.4.2"
        for word in (f"localhost:{scene.smarthost.port}", f"account {LOGIN}", "mail"):
            assert word in octets.decode()
    assert all(code >= 400 for code, _ in replies[first:])
    assert [mail.complete for mail in scene.smarthost.mails[mails:]] in ([], [stage is Stage.DOT])
    if stage is Stage.DOT and fault != "421":
        assert b"unknown" in octets
    assert client.rset()[0] == 250
    send_a_mail(scene, client)


@pytest.fixture
def chunking(scene: Scene, stage: Stage) -> Iterator[None]:
    """The smarthost offers CHUNKING, but where it is to be told DATA."""
    capabilities = scene.smarthost.capabilities
    if stage is not Stage.DATA:
        scene.smarthost.capabilities = (*capabilities, b"CHUNKING")
    yield
    scene.smarthost.capabilities = capabilities


@pytest.mark.usefixtures("chunking")
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("stage", [Stage.DATA, Stage.CHUNK, Stage.DOT], ids=lambda stage: stage.name)
def test_a_fault_within_a_mail_in_chunks(scene: Scene, stage: Stage, fault: str) -> None:
    client = scene.connect()
    scene.smarthost.script({stage: [FAULTS[fault]]})
    mails = len(scene.smarthost.mails)
    replies = [client.mail("alice@moon.test"), client.rcpt("bob@mars.test")]
    for chunk in (CONTENT, b"x" * 70_000 + b"\r\n", b""):
        client.send(b"BDAT %d%s\r\n%s" % (len(chunk), b"" if chunk else b" LAST", chunk))
        replies.append(client.getreply())
    first = next(index for index, (code, _) in enumerate(replies) if code >= 400)
    assert first == (len(replies) - 1 if stage is Stage.DOT else 2)
    code, octets = replies[first]
    assert code == 421 if fault == "421" else code == 451
    if fault != "421":
        assert octets[:5] == b"4.4.2"
        assert f"localhost:{scene.smarthost.port}".encode() in octets
        assert (b"unknown" in octets) == (stage is Stage.DOT)
    assert all(code >= 400 for code, _ in replies[first:])
    assert not any(mail.complete for mail in scene.smarthost.mails[mails:]) or stage is Stage.DOT
    assert client.rset()[0] == 250
    send_a_mail(scene, client)


# The client

Act = Callable[[socket.socket], None]


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def close(sock: socket.socket) -> None:
    sock.close()


def half_close(sock: socket.socket) -> None:
    # Below TLS, where there is any.
    socket.socket.shutdown(sock, socket.SHUT_WR)


def stay_silent(sock: socket.socket) -> None:
    pass


def speak(sock: socket.socket, octets: bytes, seconds: float, times: int) -> None:
    """Until nobody listens any more."""
    sock.settimeout(5)
    with suppress(OSError):
        for _ in range(times):
            sock.sendall(octets)
            threading.Event().wait(seconds)


CLIENT_FAULTS: dict[str, Act] = {
    "reset": reset,
    "closed": close,
    "half-closed": half_close,
    "silent": stay_silent,
    "slow": partial(speak, octets=b"x", seconds=0.05, times=30),
    "garbage": partial(speak, octets=bytes(range(256)) + b"\r\n", seconds=0, times=10),
    "endless": partial(speak, octets=b"NOOP\r\n" * 100, seconds=0, times=200),
    "10 MB": partial(speak, octets=b"x" * 1_000_000, seconds=0, times=10),
}
CLIENT_STAGES = (
    "connected",
    "greeted",
    "STARTTLS",
    "challenged",
    "logged in",
    "MAIL",
    "RCPT",
    "pipelined",
    "body",
    "chunk",
)


def bring_to(scene: Scene, stage: str) -> socket.socket:
    """The socket of a client that has come so far."""
    if stage == "connected":
        begun = scene.sendooway.log.count(": connect session=")
        sock = socket.create_connection(("localhost", scene.sendooway.port), 10)
        # Who is gone before the server looks has no session.
        wait_until(lambda: scene.sendooway.log.count(": connect session=") > begun, "the session")
        return sock
    client = smtplib.SMTP("localhost", scene.sendooway.port, local_hostname="client.test", timeout=PATIENCE)
    if stage == "greeted":
        return detached(client)
    if stage == "STARTTLS":
        client.docmd("STARTTLS")
        return detached(client)
    client.starttls(context=scene.trusted)
    client.ehlo()
    if stage == "challenged":
        client.docmd("AUTH", "LOGIN")
        return detached(client)
    client.login(*ME)
    if stage in ("MAIL", "RCPT", "body", "pipelined", "chunk"):
        client.mail("alice@moon.test")
    if stage in ("RCPT", "body", "chunk"):
        client.rcpt("bob@mars.test")
    if stage == "pipelined":
        client.send(b"RCPT TO:<bob@mars.test>\r\nDATA\r\nHello\r\n")
    if stage == "body":
        client.docmd("DATA")
        client.send(CONTENT)
    if stage == "chunk":
        client.send(b"BDAT %d LAST\r\n%s" % (2**40, CONTENT))
    return detached(client)


def detached(client: smtplib.SMTP) -> socket.socket:
    """Its socket. Its file would keep the connection open."""
    sock = client.sock
    assert sock is not None
    if client.file is not None:
        client.file.close()
    return sock


@pytest.mark.parametrize("fault", CLIENT_FAULTS)
@pytest.mark.parametrize("stage", CLIENT_STAGES)
def test_a_fault_of_the_client(hurried: Scene, stage: str, fault: str) -> None:
    hurried.smarthost.script({})
    mails = len(hurried.smarthost.mails)
    ended = hurried.sendooway.log.count("disconnect")
    with bring_to(hurried, stage) as sock:
        CLIENT_FAULTS[fault](sock)
        wait_until(lambda: hurried.sendooway.log.count("disconnect") > ended, "the end of the session")
    # What the client did not finish, nobody has.
    assert not any(mail.complete for mail in hurried.smarthost.mails[mails:])
    send_a_mail(hurried, hurried.connect())
