"""The one file copied to hosts that have Python and nothing else: no pip, no compiler, no libkrb5."""

import re
import shutil
import smtplib
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from servers import deployment, keytabs
from servers.certificates import Certificates
from servers.machine import Machine
from servers.processes import wait_until
from servers.program import ONE_FILE
from servers.roots import BOOKWORM, BULLSEYE, FORKY, TRIXIE, Release

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not ONE_FILE.exists(), reason="`make dist` has not made dist/sendooway"),
]
LOG = "/var/log/sendooway.log"
CACHE = "/var/cache/sendooway"
CONFIGURATION = """\
listen = 127.0.0.1:587
sslCert = /etc/ssl/certs/mail.example.org.pem
sslKey = /etc/ssl/private/mail.example.org.key
"""
MakeRoot = Callable[[Release], Path]


def install(machine: Machine, certificates: Certificates) -> None:
    """Copy the file, and write what it needs to offer everything it can."""
    deployment.furnish(machine, certificates)
    deployment.copy_program(machine)
    deployment.write_as_alice(machine, ".fetchmailrc", deployment.FETCHMAILRC)
    machine.path("/etc/sendooway.conf").write_text(CONFIGURATION)
    machine.path("/etc/krb5.keytab").write_bytes(keytabs.file_of(keytabs.entry("smtp/localhost@EXAMPLE.TEST")))


@pytest.mark.parametrize("release", [BOOKWORM, TRIXIE, FORKY], ids=lambda release: release.suite)
def test_a_user_logs_in_with_the_password_and_sends_and_kerberos_waits_for_its_library(
    release: Release, root: MakeRoot, tmp_path: Path, certificates: Certificates, tls: ssl.SSLContext
) -> None:
    with Machine(tmp_path, root(release)) as machine, deployment.smarthost(machine, certificates) as smarthost:
        install(machine, certificates)
        for missing in ("pip3", "gcc", "cc"):
            assert machine.run("sh", "-c", f"command -v {missing}", check=False).returncode != 0
        # Python 3.11 of Debian 12 comes with it: `nis` speaks RPC.
        machine.run("dpkg", "--purge", "--force-depends", "libgssapi-krb5-2")
        assert f"\nPython {release.python}." in machine.run("sendooway", "-V", "--verbose").stdout

        pid = machine.start("sendooway", "-l", LOG)
        with deployment.connected(machine, 587, tls) as client:
            assert client.esmtp_features["auth"].split() == ["PLAIN", "LOGIN"]
            with pytest.raises(smtplib.SMTPAuthenticationError):
                client.login("alice", "guessed")
            deployment.send(client, smarthost)
        (line,) = lines_about_kerberos(machine)
        assert 'no-gssapi reason="libgssapi_krb5 is missing (Debian: libgssapi-krb5-2)' in line

        machine.install("libgssapi-krb5-2")
        machine.signal(pid, "HUP")
        # For a moment, the proxies from before still accept.
        wait_until(lambda: offered(machine, tls) == ["GSSAPI", "PLAIN", "LOGIN"], "GSSAPI is offered", 60)
        with deployment.connected(machine, 587, tls) as client:
            deployment.send(client, smarthost)
        assert len(lines_about_kerberos(machine)) == 1
        for word in ("Traceback", "process-failed"):
            assert word not in read_log(machine)


def offered(machine: Machine, tls: ssl.SSLContext) -> list[str]:
    with deployment.connected(machine, 587, tls) as client:
        return client.esmtp_features["auth"].split()


def read_log(machine: Machine) -> str:
    return machine.path(LOG).read_text()


def lines_about_kerberos(machine: Machine) -> list[str]:
    return [line for line in read_log(machine).splitlines() if "gssapi" in line]


@pytest.fixture(scope="module")
def machine_with_kerberos(
    root: MakeRoot, tmp_path_factory: pytest.TempPathFactory, certificates: Certificates
) -> Iterator[Machine]:
    """Everything is there for GSSAPI; each test starts a server of its own."""
    with Machine(tmp_path_factory.mktemp("machine"), root(TRIXIE)) as machine:
        install(machine, certificates)
        machine.install("libgssapi-krb5-2")
        yield machine


@pytest.mark.parametrize(
    ("trouble", "undo", "reason"),
    [
        (
            f"mkdir -p {CACHE}; mount -t tmpfs -o noexec,mode=755 tmpfs {CACHE}",
            f"umount {CACHE}",
            f"{CACHE}/[0-9a-f]* is on a file system mounted noexec, from which no shared object can be loaded",
        ),
        (
            f"mkdir -p {CACHE}; mount -t tmpfs -o size=16k,mode=755 tmpfs {CACHE}",
            f"umount {CACHE}",
            "cannot unpack gssapi: No space left on device",
        ),
        (
            "mount -o remount,bind,ro /",
            "mount -o remount,bind,rw /",
            f"cannot unpack gssapi: {CACHE}.*: Read-only file system",
        ),
    ],
    ids=["noexec", "full disk", "read-only root"],
)
def test_where_nothing_can_be_unpacked_a_line_says_so_and_all_but_kerberos_works(
    trouble: str,
    undo: str,
    reason: str,
    machine_with_kerberos: Machine,
    certificates: Certificates,
    tls: ssl.SSLContext,
) -> None:
    machine = machine_with_kerberos
    log = "/run/sendooway.log"
    with deployment.smarthost(machine, certificates) as smarthost:
        machine.run("sh", "-ec", trouble)
        try:
            pid = machine.start("sendooway", "-l", log)
            with deployment.connected(machine, 587, tls) as client:
                assert client.esmtp_features["auth"].split() == ["PLAIN", "LOGIN"]
                deployment.send(client, smarthost)
            machine.signal(pid, "TERM")
            wait_until(lambda: not machine.path(f"/proc/{pid}").exists(), "its end", 60)
            said = machine.path(log).read_text()
            (line,) = [line for line in said.splitlines() if "gssapi" in line]
            assert re.search(reason, line)
            for word in ("Traceback", "process-failed"):
                assert word not in said
        finally:
            machine.path(log).unlink(missing_ok=True)
            machine.run("sh", "-ec", undo)


def test_a_user_whose_home_does_not_exist_is_served_without_kerberos(
    machine_with_kerberos: Machine, certificates: Certificates
) -> None:
    machine = machine_with_kerberos
    machine.run("useradd", "--home-dir", "/nonexistent", "--no-create-home", "homeless")
    configuration = machine.path("/etc/homeless.conf")
    configuration.touch(mode=0o600)
    configuration.write_text(
        "listen = 127.0.0.1:1587\nauthBackend = none\n"
        f"smarthostMapping = direct:alice@example.com {deployment.SMARTHOST} 465 alice secret ssl\n"
    )
    machine.run("chown", "homeless", "/etc/homeless.conf")
    as_homeless = ("runuser", "-u", "homeless", "--", "env", "-i")
    command = ("/usr/local/sbin/sendooway", "-c", "/etc/homeless.conf", "-l", "&2")
    with deployment.smarthost(machine, certificates) as smarthost:
        machine.start(*as_homeless, *command, output="/run/homeless.log")
        with deployment.connected(machine, 1587, None) as client:
            client.login("homeless", "not checked")
            client.sendmail("alice@example.com", ["bob@mars.test"], deployment.MESSAGE)
    assert len(smarthost.mails) == 1
    log = machine.path("/run/homeless.log").read_text()
    assert log.count("cannot unpack gssapi: /nonexistent: ") == 1
    assert "Traceback" not in log


def test_a_host_with_an_old_python_says_what_is_needed(root: MakeRoot) -> None:
    old = root(BULLSEYE)
    shutil.copy(ONE_FILE, old)
    done = subprocess.run(["chroot", old, "/sendooway"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 78
    assert done.stderr.startswith("sendooway: needs Python 3.11 or newer; this is 3.9.")
    assert done.stderr.count("\n") == 1
