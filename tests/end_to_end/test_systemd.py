"""The units of contrib under a real systemd, with all of their sandbox."""

import os
import re
import shutil
import signal
import smtplib
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from end_to_end.conftest import basic_configuration
from end_to_end.messages import HEADER, without_received
from servers import keytabs
from servers import systemd as systemd_
from servers.certificates import Certificates
from servers.postfix import Postfix
from servers.processes import descendants, free_port, read_status, title, wait_until
from servers.program import ONE_FILE
from servers.systemd import Systemd
from servers.users import User

from sendooway.unix import kernel

WHY_NOT = systemd_.why_not()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not ONE_FILE.exists(), reason="`make dist` has not made dist/sendooway"),
    pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT),
]

CONTENT = HEADER + b"Hello.\r\n"
SERVICE = "sendooway.service"


class Machine:
    """systemd with our units, which use a configuration and a log in `folder` and ports of their own."""

    def __init__(self, folder: Path, shared_folder: Path, certificates: Certificates, more: str = "") -> None:
        self.configuration = folder / "sendooway.conf"
        self.configuration.touch(0o600)
        self.basic = basic_configuration(certificates)
        self.log_folder = folder / "log"
        self.log_folder.mkdir()
        self.port, self.tls_port = free_port(), free_port()
        # /tmp, where all this is, is private; ReadWritePaths= is for the log alone. The project may be there, too.
        program = shutil.copy(ONE_FILE, folder)
        start = f"{program} -c {self.configuration} -l {self.log_folder}/log"
        service = (
            f"[Service]\nExecStart=\nExecStart={start}\nBindPaths={folder} {shared_folder}\n"
            f"ReadOnlyPaths={folder} {shared_folder}\nReadWritePaths={self.log_folder}\n"
        )
        check = f"ExecReload=\nExecReload={start} --check-config\nExecReload=kill -HUP $MAINPID\n"
        self.systemd = Systemd(
            folder,
            {
                SERVICE: f"{service}{check}{more}",
                "sendooway-inetd@.service": service,
                **{
                    f"{name}.socket": f"[Socket]\nListenStream=\nListenStream=127.0.0.1:{port}\n"
                    for name, port in (
                        ("sendooway", self.port),
                        ("sendooway-tls", self.tls_port),
                        ("sendooway-inetd", self.port),
                    )
                },
            },
        )

    def configure(self, text: str) -> None:
        self.configuration.write_text(self.basic + text)

    @property
    def log(self) -> str:
        path = self.log_folder / "log"
        return path.read_text() if path.exists() else ""

    def start(self, *units: str) -> None:
        done = self.systemd.systemctl("start", *units)
        assert done.returncode == 0, f"{done.stderr}\n{self.systemd.log}\n{self.log}"

    def processes(self) -> dict[int, str]:
        """The titles of our processes."""
        titles = {pid: title(pid) for pid in descendants(self.systemd.pid)}
        return {pid: text for pid, text in titles.items() if text.startswith("sendooway [")}

    def log_in(self, user: User, tls: ssl.SSLContext, *, implicit: bool = False) -> smtplib.SMTP:
        if implicit:
            client: smtplib.SMTP = smtplib.SMTP_SSL("localhost", self.tls_port, context=tls, timeout=60)
        else:
            client = smtplib.SMTP("localhost", self.port, local_hostname="client.test", timeout=60)
            client.starttls(context=tls)
        client.login(user.name, user.password)
        return client


StartMachine = Callable[..., Machine]


@pytest.fixture
def start_machine(tmp_path: Path, shared_folder: Path, certificates: Certificates) -> Iterator[StartMachine]:
    """systemd, for a configuration, and perhaps more lines for the service."""
    with ExitStack() as stack:

        def start(configuration: str, more: str = "") -> Machine:
            machine = Machine(tmp_path, shared_folder, certificates, more)
            machine.configure(configuration)
            stack.enter_context(machine.systemd)
            return machine

        yield start


def send_one(client: smtplib.SMTP, postfix: Postfix) -> None:
    client.sendmail("alice@moon.test", ["systemd@mars.test"], CONTENT)
    _, delivery = postfix.take("systemd@mars.test")
    assert without_received(delivery.content) == CONTENT


def test_the_service_does_all_of_its_work_in_its_sandbox(
    start_machine: StartMachine,
    alice_with_two_identities: User,
    postfix: Postfix,
    tls: ssl.SSLContext,
    shared_folder: Path,
) -> None:
    keytab = shared_folder / "krb5.keytab"
    keytab.write_bytes(keytabs.file_of(keytabs.entry("smtp/localhost@EXAMPLE.TEST")))
    machine = start_machine(f"krb5Keytab = {keytab}\n")
    machine.configure(f"krb5Keytab = {keytab}\nworkers = 1\nlisten = 127.0.0.1:{machine.port}\n")
    machine.start(SERVICE)
    # That `start` has come back shows READY=1.
    assert machine.systemd.show(SERVICE, "ActiveState") == "active"
    assert machine.systemd.show(SERVICE, "StatusText") == "1 of 1 proxies serve"
    with machine.log_in(alice_with_two_identities, tls) as client:
        # The shared objects of gssapi have been unpacked and loaded, and the keytab read.
        assert "GSSAPI" in client.esmtp_features["auth"]
        send_one(client, postfix)
        processes = machine.processes()
        assert len(processes) == 3
        for pid in processes:
            status = Path(f"/proc/{pid}/status").read_text()
            assert re.search(r"^Seccomp:\s2$", status, re.MULTILINE)
            assert re.search(r"^NoNewPrivs:\s1$", status, re.MULTILINE)
            # kill, setgid, setuid, net_bind_service, audit_write.
            bounding = re.search(r"^CapBnd:\s(\w+)$", status, re.MULTILINE)
            assert bounding
            assert int(bounding[1], 16) == 1 << 5 | 1 << 6 | 1 << 7 | 1 << 10 | 1 << 29
            mounts = Path(f"/proc/{pid}/mounts").read_text()
            assert re.search(r"^\S+ / \S+ ro,", mounts, re.MULTILINE)
    assert "landlock=yes" in machine.log or kernel.landlock_version() == 0
    assert machine.systemd.systemctl("stop", SERVICE).returncode == 0
    assert machine.systemd.show(SERVICE, "Result") == "success"
    assert machine.processes() == {}
    assert "Traceback" not in machine.log


def test_a_password_may_be_a_credential_of_the_service(
    start_machine: StartMachine, alice: User, postfix: Postfix, tls: ssl.SSLContext, tmp_path: Path
) -> None:
    secret = tmp_path / "moon"
    secret.touch(0o600)
    secret.write_text("moon secret\n")
    machine = start_machine("", more=f"LoadCredential=moon:{secret}\n")
    machine.configure(
        f"listen = 127.0.0.1:{machine.port}\nsmarthostMapping = direct:alice@moon.test localhost {postfix.port}"
        " alice-moon - tls,passwordFrom=credential:moon\n"
    )
    machine.start(SERVICE)
    with machine.log_in(alice, tls) as client:
        send_one(client, postfix)


def test_a_reload_is_waited_for_and_a_wrong_configuration_makes_it_fail(start_machine: StartMachine) -> None:
    machine = start_machine("")
    machine.configure(f"authBackend = none\nlisten = 127.0.0.1:{machine.port}\n")
    machine.start(SERVICE)
    main = machine.systemd.show(SERVICE, "MainPID")
    machine.configure(f"authBackend = none\nworkers = 2\nlisten = 127.0.0.1:{machine.port}\n")
    assert machine.systemd.systemctl("reload", SERVICE).returncode == 0
    wait_until(lambda: machine.systemd.show(SERVICE, "StatusText") == "2 of 2 proxies serve", "two proxies", 60)
    wait_until(lambda: machine.systemd.show(SERVICE, "ActiveState") == "active", "the end of the reload", 60)
    machine.configure("speed = 9\n")
    assert machine.systemd.systemctl("reload", SERVICE).returncode != 0
    assert machine.systemd.show(SERVICE, "ActiveState") == "active"
    assert machine.systemd.show(SERVICE, "MainPID") == main
    # Who sends the signal without asking first is told by the status.
    machine.systemd.systemctl("kill", "--signal=HUP", "--kill-who=main", SERVICE)
    wait_until(
        lambda: "refused the new configuration" in machine.systemd.show(SERVICE, "StatusText"), "the refusal", 60
    )


def test_what_to_start_again_does_not_mend_is_not_started_again(start_machine: StartMachine) -> None:
    machine = start_machine("authBackend = none\n")
    assert machine.systemd.systemctl("start", SERVICE).returncode != 0
    assert machine.systemd.show(SERVICE, "ActiveState") == "failed"
    assert machine.systemd.show(SERVICE, "ExecMainStatus") == "78"
    assert machine.systemd.show(SERVICE, "NRestarts") == "0"
    assert "nothing to listen on" in machine.log


def test_a_monitor_that_hangs_is_replaced(start_machine: StartMachine) -> None:
    machine = start_machine("", more="WatchdogSec=4\n")
    machine.configure(f"authBackend = none\nlisten = 127.0.0.1:{machine.port}\n")
    machine.start(SERVICE)
    (monitor,) = [pid for pid, text in machine.processes().items() if text == "sendooway [monitor]"]
    os.kill(monitor, signal.SIGSTOP)
    wait_until(lambda: monitor not in machine.processes(), "the end of the one that hangs", 120)
    wait_until(lambda: machine.systemd.show(SERVICE, "ActiveState") == "active", "the new monitor", 120)
    assert machine.systemd.show(SERVICE, "NRestarts") != "0"


def test_sockets_that_systemd_listens_on_start_the_service_and_outlive_it(
    start_machine: StartMachine, alice_with_two_identities: User, postfix: Postfix, tls: ssl.SSLContext
) -> None:
    machine = start_machine("")
    machine.start("sendooway.socket", "sendooway-tls.socket")
    assert machine.processes() == {}
    with machine.log_in(alice_with_two_identities, tls) as client:
        send_one(client, postfix)
    with machine.log_in(alice_with_two_identities, tls, implicit=True) as client:
        send_one(client, postfix)
    assert machine.systemd.systemctl("reload", SERVICE).returncode == 0
    wait_until(lambda: machine.log.count(" reloaded ") == 1, "the reload", 60)
    machine.log_in(alice_with_two_identities, tls).quit()
    first = machine.systemd.show(SERVICE, "MainPID")
    assert machine.systemd.systemctl("restart", SERVICE).returncode == 0
    machine.log_in(alice_with_two_identities, tls, implicit=True).quit()
    assert machine.systemd.show(SERVICE, "MainPID") != first


def test_a_service_for_each_connection_serves_it_in_the_sandbox(
    start_machine: StartMachine, alice_with_two_identities: User, postfix: Postfix, tls: ssl.SSLContext
) -> None:
    machine = start_machine("")
    machine.start("sendooway-inetd.socket")
    with (
        machine.log_in(alice_with_two_identities, tls) as client,
        machine.log_in(alice_with_two_identities, tls) as other,
    ):
        send_one(client, postfix)
        send_one(other, postfix)
        titles = sorted(machine.processes().values())
        agent = f"sendooway [agent: {alice_with_two_identities.name}]"
        assert titles == [agent, agent, "sendooway [proxy]", "sendooway [proxy]"]
        for pid in machine.processes():
            assert read_status(pid).no_new_privileges
    wait_until(lambda: machine.processes() == {}, "the end of both", 60)
    assert "Traceback" not in machine.log
