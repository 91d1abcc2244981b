"""The deployments of the README: its own commands, as they stand there, in Debian with its own systemd."""

import contextlib
import os
import re
import shutil
import smtplib
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from servers import deployment
from servers.certificates import Certificates
from servers.machine import Machine
from servers.program import ONE_FILE, ROOT
from servers.roots import BOOKWORM, TRIXIE, Release
from servers.scripted import ScriptedSmarthost

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not ONE_FILE.exists(), reason="`make dist` has not made dist/sendooway"),
]
SOURCES = "/srv/sendooway"
releases = pytest.mark.parametrize("release", [BOOKWORM, TRIXIE], ids=lambda release: release.suite)
Deploy = Callable[[Release], contextlib.AbstractContextManager[tuple[Machine, ScriptedSmarthost]]]


def commands(section: str) -> str:
    """The lines of the blocks marked `sh` in the section with that number."""
    text = (ROOT / "README.md").read_text()
    (body,) = re.findall(rf"^### {section}\. .*?\n(.*?)^##", text, re.DOTALL | re.MULTILINE)
    blocks = re.findall(r"^```sh\n(.*?)^```$", body, re.DOTALL | re.MULTILINE)
    assert blocks
    return "".join(blocks)


@pytest.fixture
def deploy(root: Callable[[Release], Path], tmp_path: Path, certificates: Certificates) -> Deploy:
    """A booted machine with the sources and what was made of them, with a user, a certificate, and a smarthost."""

    @contextlib.contextmanager
    def run(release: Release) -> Iterator[tuple[Machine, ScriptedSmarthost]]:
        with (
            Machine(tmp_path, root(release), boot=True) as machine,
            deployment.smarthost(machine, certificates) as smarthost,
        ):
            deployment.furnish(machine, certificates)
            sources = machine.path(SOURCES)
            shutil.copytree(ROOT / "contrib", sources / "contrib")
            (sources / "dist").mkdir()
            shutil.copy(ONE_FILE, sources / "dist")
            yield machine, smarthost

    return run


def run_as_root(machine: Machine, lines: str) -> None:
    """Everything but apt-get runs without a way out of the machine."""
    for part in re.split(r"^(apt-get .*\n)", lines, flags=re.MULTILINE):
        if part.startswith("apt-get install "):
            # A shell would find the package's name.
            names = machine.run("sh", "-c", f"cd {SOURCES}; echo {part.removeprefix('apt-get install ')}").stdout
            machine.install(*(name.replace("./", f"{SOURCES}/") for name in names.split()))
        else:
            machine.run("bash", "-ex", text=f"cd {SOURCES}\n{part}")


def run_as_alice(machine: Machine, lines: str) -> None:
    user = machine.run("id", "-u", "alice").stdout.strip()
    # What a login does.
    machine.run("systemctl", "start", f"user@{user}")
    environment = {"HOME": "/home/alice", "XDG_RUNTIME_DIR": f"/run/user/{user}"}
    machine.run("runuser", "-u", "alice", "--", "bash", "-ex", text=f"cd {SOURCES}\n{lines}", environment=environment)


@pytest.mark.parametrize(
    ("release", "by"),
    [(BOOKWORM, "package"), (TRIXIE, "package"), (TRIXIE, "make install")],
    ids=["bookworm", "trixie", "make install"],
)
def test_1_under_systemd(release: Release, by: str, deploy: Deploy, package: Path, tls: ssl.SSLContext) -> None:
    with deploy(release) as (machine, smarthost):
        lines = commands("1")
        if by == "package":
            shutil.copy(package, machine.path(f"{SOURCES}/dist"))
        else:
            first, _, lines = lines.partition("\n")
            assert first.startswith("apt-get install ")
            environment = {**os.environ, "DESTDIR": str(machine.path("/"))}
            subprocess.run([ROOT / "build/install", "install"], env=environment, check=True)
            lines = f"systemd-sysusers\nsystemctl daemon-reload\n{lines}"
        run_as_root(machine, lines)
        run_as_alice(machine, commands("4"))
        send(machine, smarthost, tls)
        journal = machine.run("journalctl", "--unit=sendooway", "--output=cat").stdout
        assert " user=alice " in journal
        for word in ("Traceback", "process-failed", "denied"):
            assert word not in journal
        state = machine.run("systemctl", "show", "--property=ActiveState,StatusText,NRestarts", "sendooway").stdout
        assert "ActiveState=active" in state
        assert "NRestarts=0" in state
        machine.run("systemctl", "reload", "sendooway")
        send(machine, smarthost, tls)
        machine.run("systemctl", "stop", "sendooway")


@releases
def test_2_under_inetd(release: Release, deploy: Deploy, tls: ssl.SSLContext) -> None:
    with deploy(release) as (machine, smarthost):
        run_as_root(machine, commands("2"))
        run_as_alice(machine, commands("4"))
        send(machine, smarthost, tls)


@releases
def test_3_on_a_laptop(release: Release, deploy: Deploy) -> None:
    with deploy(release) as (machine, smarthost):
        run_as_alice(machine, commands("3"))
        run_as_alice(machine, commands("4"))
        with deployment.connected(machine, 1587, None) as client:
            deployment.send(client, smarthost)
        with deployment.connected(machine, 1587, None) as client, pytest.raises(smtplib.SMTPAuthenticationError):
            client.login("root", "not checked")


def send(machine: Machine, smarthost: ScriptedSmarthost, tls: ssl.SSLContext) -> None:
    with deployment.connected(machine, 587, tls) as client:
        deployment.send(client, smarthost)
