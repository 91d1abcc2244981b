"""The Debian package that `make deb` makes, in Debian 12 and 13 with their own systemd."""

import shutil
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from servers import deployment
from servers.certificates import Certificates
from servers.machine import Machine
from servers.program import ONE_FILE
from servers.roots import BOOKWORM, TRIXIE, Release

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not ONE_FILE.exists(), reason="`make dist` has not made dist/sendooway"),
    pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="not installed: dpkg-deb"),
]
CONFIGURATION = """\
listen = *:587
sslCert = /etc/ssl/certs/mail.example.org.pem
sslKey = /etc/ssl/private/mail.example.org.key
"""


def test_two_builds_are_the_same_octets(package: Path, tmp_path: Path) -> None:
    assert deployment.build_package(tmp_path).read_bytes() == package.read_bytes()


@pytest.mark.skipif(not shutil.which("lintian"), reason="not installed: lintian")
def test_lintian_has_nothing_to_say(package: Path) -> None:
    done = subprocess.run(["lintian", "--fail-on", "error,warning", package], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert done.stdout == ""


@pytest.mark.parametrize("release", [BOOKWORM, TRIXIE], ids=lambda release: release.suite)
def test_it_is_installed_upgraded_removed_and_purged(
    release: Release,
    root: Callable[[Release], Path],
    package: Path,
    tmp_path: Path,
    certificates: Certificates,
    tls: ssl.SSLContext,
) -> None:
    with (
        Machine(tmp_path, root(release), boot=True) as machine,
        deployment.smarthost(machine, certificates) as smarthost,
    ):
        deployment.furnish(machine, certificates)
        deployment.write_as_alice(machine, ".fetchmailrc", deployment.FETCHMAILRC)
        before = files(machine)

        def send_a_mail() -> None:
            with deployment.connected(machine, 587, tls) as client:
                deployment.send(client, smarthost)

        install(machine, package)
        entry = machine.run("getent", "passwd", "sendooway").stdout.strip().split(":")
        assert entry[-1].endswith("/nologin")
        # It knows neither a certificate nor an address yet.
        assert state(machine) == ("disabled", "inactive")

        configuration = machine.path("/etc/sendooway.conf")
        configuration.write_text(configuration.read_text() + CONFIGURATION)
        machine.run("systemctl", "enable", "--now", "sendooway")
        send_a_mail()
        # Twice is as good as once.
        machine.run("dpkg-reconfigure", "sendooway")
        first = main_process(machine)

        install(machine, newer(package, tmp_path))
        assert state(machine) == ("enabled", "active")
        assert main_process(machine) != first
        assert CONFIGURATION in configuration.read_text()
        send_a_mail()

        machine.run("apt-get", "-qq", "-y", "remove", "sendooway")
        assert state(machine) == ("not-found", "inactive")
        assert CONFIGURATION in configuration.read_text()
        # Settings and the log.
        assert {path.partition("/sendooway")[0] for path in files(machine) - before} == {
            "/etc",
            "/etc/pam.d",
            "/etc/systemd/system/multi-user.target.wants",
            "/var/log",
        }

        install(machine, package)
        assert CONFIGURATION in configuration.read_text()
        assert state(machine) == ("enabled", "inactive")
        machine.run("apt-get", "-qq", "-y", "purge", "sendooway")
        assert files(machine) - before == set()
        assert not machine.path("/var/lib/dpkg/info/sendooway.list").exists()


def install(machine: Machine, package: Path) -> None:
    shutil.copy(package, machine.path("/root"))
    machine.install(f"/root/{package.name}")


def newer(package: Path, folder: Path) -> Path:
    """The same package with a higher version."""
    tree = folder / "newer"
    subprocess.run(["dpkg-deb", "-R", package, tree], check=True)
    control = tree / "DEBIAN/control"
    control.write_text(control.read_text().replace("\nVersion: ", "\nVersion: 1000."))
    target = folder / "sendooway_newer.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", tree, target], check=True, capture_output=True)
    return target


def state(machine: Machine) -> tuple[str, str]:
    enabled, active = (
        machine.run("systemctl", verb, "sendooway", check=False).stdout.strip() for verb in ("is-enabled", "is-active")
    )
    return enabled or "not-found", active


def main_process(machine: Machine) -> str:
    return machine.run("systemctl", "show", "--property=MainPID", "sendooway").stdout.strip()


def files(machine: Machine) -> set[str]:
    """All that has our name, but what the test itself has brought, and the notes of dpkg and systemd."""
    found = machine.run("find", "/", "-xdev", "-name", "*sendooway*").stdout.split()
    return {path for path in found if not path.startswith(("/root/", "/var/lib/dpkg/", "/var/lib/systemd/"))}
