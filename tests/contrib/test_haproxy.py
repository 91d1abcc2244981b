"""Two hosts behind Debian's HAProxy, as contrib/haproxy has them; one of them dies in the middle of things."""

import os
import pwd
import signal
import smtplib
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from end_to_end.messages import HEADER
from servers import haproxy
from servers.certificates import Certificates
from servers.haproxy import Ports
from servers.processes import wait_until, wait_until_gone
from servers.program import Sendooway
from servers.scripted import Fault, Mail, ScriptedSmarthost, Stage

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(haproxy.PROGRAM is None, reason="not installed: haproxy"),
]

ME = pwd.getpwuid(os.geteuid()).pw_name
LOST = (smtplib.SMTPServerDisconnected, ConnectionError, ssl.SSLError)


@dataclass
class Host:
    """One of the two; it may be started again."""

    folder: Path
    configuration: str
    ports: Ports

    def __post_init__(self) -> None:
        self.folder.mkdir()
        self.sendooway = Sendooway(self.folder, self.configuration, port=self.ports.submission)

    def kill(self) -> None:
        """As when its power fails: no process of it says anything more."""
        pids = self.sendooway.processes()
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
        wait_until_gone(pids)
        self.sendooway.expected_status = -signal.SIGKILL

    def serves(self, address: str) -> bool:
        return any(" connect " in line and f" rip={address} " in line for line in self.sendooway.log.splitlines())


@dataclass
class Farm:
    """`kept` answers the final dot; `silent`, which has the mails of silent@moon.test, never does."""

    balancer: Ports
    hosts: tuple[Host, Host]
    kept: ScriptedSmarthost
    silent: ScriptedSmarthost
    context: ssl.SSLContext
    stack: ExitStack
    clients: list[smtplib.SMTP] = field(default_factory=list)

    def connect(self, address: str) -> smtplib.SMTP:
        """A client at this address of 127.0.0.0/8, logged in."""
        client = smtplib.SMTP(
            "localhost", self.balancer.submission, "client.test", timeout=60, source_address=(address, 0)
        )
        self.stack.callback(client.close)
        client.starttls(context=self.context)
        client.login(ME, "any")
        return client

    def host_of(self, address: str) -> Host:
        (host,) = (host for host in self.hosts if host.serves(address))
        return host


@pytest.fixture
def farm(tmp_path: Path, certificates: Certificates, tls: ssl.SSLContext) -> Iterator[Farm]:
    with ExitStack() as stack:
        kept = stack.enter_context(ScriptedSmarthost())
        silent = stack.enter_context(ScriptedSmarthost(answers={Stage.DOT: [Fault.HANG]}))
        mappings = "".join(
            f"smarthostMapping = direct:{senders} localhost {smarthost.port} - - noAuth\n"
            for senders, smarthost in (("silent@moon.test", silent), ("*", kept))
        )
        hosts = []
        for name in ("mail1", "mail2"):
            ports = haproxy.free_ports()
            changes = {
                "listen = *:587\n": "",  # which `Sendooway` adds
                "listen = *:465 tls\n": f"listen = 127.0.0.1:{ports.submissions} tls\n",
                "192.0.2.10": "127.0.0.1",
                "/etc/ssl/certs/mail.example.org.pem": str(certificates.good.certificate),
                "/etc/ssl/private/mail.example.org.key": str(certificates.good.key),
            }
            text = haproxy.replaced((haproxy.FOLDER / "sendooway.conf").read_text(), changes)
            more = f"\nlocalname = {name}.test\nauthBackend = none\n{mappings}"
            hosts.append(Host(tmp_path / name, text + more, ports))
            stack.enter_context(hosts[-1].sendooway)
        balancer = stack.enter_context(haproxy.running(tmp_path, hosts[0].ports, hosts[1].ports))
        # A check has found each of them.
        for host in hosts:
            host.sendooway.wait_for_log(" disconnect ", "reason=quit")
        yield Farm(balancer, (hosts[0], hosts[1]), kept, silent, tls, stack)


def message(name: str) -> bytes:
    return HEADER + f"This is {name}.\r\n".encode()


def arrived(smarthost: ScriptedSmarthost, name: str) -> list[Mail]:
    return [mail for mail in smarthost.mails if f"This is {name}.".encode() in mail.data]


def send(client: smtplib.SMTP, name: str) -> None:
    client.sendmail("alice@moon.test", ["bob@mars.test"], message(name))


def begin_body(client: smtplib.SMTP, sender: str, name: str) -> None:
    for command, code in ((f"MAIL FROM:<{sender}>", 250), ("RCPT TO:<bob@mars.test>", 250), ("DATA", 354)):
        assert client.docmd(command)[0] == code
    assert client.sock
    client.sock.sendall(message(name))


def end_body(client: smtplib.SMTP) -> None:
    assert client.sock
    client.sock.sendall(b".\r\n")


def test_the_example_is_a_good_configuration() -> None:
    assert haproxy.PROGRAM is not None
    done = subprocess.run(
        [haproxy.PROGRAM, "-c", "-f", haproxy.FOLDER / "haproxy.cfg"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_log_and_received_name_the_clients_on_both_ports(farm: Farm) -> None:
    addresses = [f"127.0.0.{number}" for number in range(2, 8)]
    for address in addresses:
        send(farm.connect(address), f"the mail of {address}")
    tls = smtplib.SMTP_SSL(
        "localhost",
        farm.balancer.submissions,
        "client.test",
        timeout=60,
        context=farm.context,
        source_address=("127.0.0.9", 0),
    )
    with tls:
        tls.login(ME, "any")
        send(tls, "the mail of 127.0.0.9")
    for address in (*addresses, "127.0.0.9"):
        (mail,) = arrived(farm.kept, f"the mail of {address}")
        assert bytes(mail.data).startswith(f"Received: from client.test ([{address}])\r\n".encode())
        log = farm.host_of(address).sendooway
        assert "balancer=127.0.0.1" in log.wait_for_log(" connect ", f" rip={address} ")
        log.wait_for_log(" mail ", f" rip={address} ")
    # Both have served, and nobody but the health checks came from the balancer itself.
    assert {farm.host_of(address).folder.name for address in addresses} == {"mail1", "mail2"}
    assert not any(" login " in line and " rip=127.0.0.1 " in line for host in farm.hosts for line in lines(host))


def lines(host: Host) -> list[str]:
    return host.sendooway.log.splitlines()


def test_a_host_that_dies_loses_its_mails_visibly_and_confirms_none_falsely(farm: Farm) -> None:
    # Three clients on each host: one idle, one in the middle of a message, one behind its final dot.
    clients = {f"127.0.0.{number}": farm.connect(f"127.0.0.{number}") for number in range(2, 8)}
    victim = farm.host_of("127.0.0.2")
    (survivor,) = (host for host in farm.hosts if host is not victim)
    lost, left = (
        [client for address, client in clients.items() if host.serves(address)] for host in (victim, survivor)
    )
    assert (len(lost), len(left)) == (3, 3)
    begin_body(lost[1], "alice@moon.test", "half a mail that is lost")
    begin_body(lost[2], "silent@moon.test", "a mail without an answer")
    end_body(lost[2])
    begin_body(left[1], "alice@moon.test", "half a mail that goes on")
    wait_until(lambda: arrived(farm.silent, "a mail without an answer"), "the mail at the smarthost")

    victim.kill()

    # Nobody hears 250: the sessions are over.
    for client in lost:
        with pytest.raises(LOST):
            client.docmd("") if client is lost[0] else client.getreply()
    with pytest.raises(LOST):
        send(lost[0], "a mail of a session that is lost")
    # The smarthost never saw the end of what the client did not end.
    assert not any(mail.complete for mail in arrived(farm.kept, "half a mail that is lost"))
    assert not arrived(farm.kept, "a mail of a session that is lost")
    # Sessions of the other host go on, and new ones begin there.
    end_body(left[1])
    assert left[1].getreply()[0] == 250
    send(left[0], "a mail of a session that lives")
    for number in range(10, 16):
        client = farm.connect(f"127.0.0.{number}")
        send(client, f"a new mail of 127.0.0.{number}")
        client.quit()
        assert survivor.serves(f"127.0.0.{number}")
        assert len(arrived(farm.kept, f"a new mail of 127.0.0.{number}")) == 1
    assert [mail.complete for mail in arrived(farm.kept, "half a mail that goes on")] == [True]
    assert [mail.complete for mail in arrived(farm.kept, "a mail of a session that lives")] == [True]

    # The dead one comes back, and serves again.
    with Sendooway(victim.folder, victim.configuration, port=victim.ports.submission) as again:

        def serves_again() -> bool:
            with smtplib.SMTP("localhost", farm.balancer.submission, timeout=60, source_address=("127.0.0.20", 0)):
                return " rip=127.0.0.20 " in again.log

        wait_until(serves_again, "a client at the host that came back", 60)


def test_under_load_a_mail_is_confirmed_if_and_only_if_it_arrived(farm: Farm) -> None:
    """Clients send one mail after the other while a host dies; who hears no reply sends the mail again."""
    confirmed: list[str] = []
    doubtful: list[str] = []
    killed, enough = threading.Event(), threading.Event()

    def run(number: int) -> None:
        for count in range(200):
            name = f"mail {count} of client {number}"
            while name not in confirmed and len(doubtful) < 50:
                try:
                    client = farm.connect(f"127.0.1.{number}")
                    send(client, name)
                    confirmed.append(name)
                    client.quit()
                except (*LOST, smtplib.SMTPException):
                    doubtful.append(name)
            if len(confirmed) > 20:
                enough.set()
            if killed.is_set() and count > 10:
                break

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    assert enough.wait(120)
    farm.hosts[0].kill()
    killed.set()
    for thread in threads:
        thread.join(120)
    assert not any(thread.is_alive() for thread in threads)
    assert len(doubtful) < 50
    for name in confirmed:
        complete = [mail for mail in arrived(farm.kept, name) if mail.complete]
        # Once more, if the host died between the smarthost's reply and the client.
        assert 1 <= len(complete) <= 1 + doubtful.count(name), name
