"""The units: systemd itself reads and rates them."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from servers.program import ROOT

FOLDER = ROOT / "contrib/systemd"
UNITS = sorted(path.name for path in FOLDER.iterdir())
SERVICES = ["sendooway.service", "sendooway-inetd@.service"]

# From 0 for a service that can do nothing to 10. What is left is the task: root, to become the proxy's user and the
# users who log in (User=, CAP_SETUID, PrivateUsers=, @privileged); signals to them (CAP_KILL); the network, any of it;
# homes to read; prlimit(2) for cores and descriptors (@resources); audit lines of PAM.
MAX_EXPOSURE = 2.5

needs_analyze = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")


def settings(name: str) -> list[tuple[str, str]]:
    """All `key = value` of the section [Service], in their order."""
    section = (FOLDER / name).read_text().partition("[Service]\n")[2].partition("\n[")[0]
    pairs = [line.partition("=") for line in section.splitlines() if line and not line.startswith("#")]
    return [(key, value) for key, _, value in pairs]


def sandbox(name: str) -> list[tuple[str, str]]:
    pairs = settings(name)
    return pairs[[key for key, _ in pairs].index("CapabilityBoundingSet") :]


@needs_analyze
@pytest.mark.slow
def test_systemd_finds_nothing_wrong(tmp_path: Path) -> None:
    program = tmp_path / "sendooway"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for name in UNITS:
        # The program need not be installed.
        text = re.sub("^(Exec[A-Za-z]+=)sendooway", rf"\1{program}", (FOLDER / name).read_text(), flags=re.MULTILINE)
        (tmp_path / name).write_text(text)
    for name in UNITS:
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", tmp_path / name], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), name


@needs_analyze
@pytest.mark.slow
@pytest.mark.parametrize("name", SERVICES)
def test_systemd_rates_the_sandbox(name: str) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", FOLDER / name],
        capture_output=True,
        text=True,
        check=True,
    )
    (line,) = [line for line in done.stdout.splitlines() if "Overall exposure level" in line]
    assert float(line.rpartition(": ")[2].split()[0]) <= MAX_EXPOSURE


def test_both_services_are_in_the_same_sandbox_but_for_the_right_to_listen() -> None:
    for_all, for_each = map(sandbox, SERVICES)
    name, capabilities = for_all[0]
    assert for_each == [(name, capabilities.replace("CAP_NET_BIND_SERVICE ", "")), *for_all[1:]]


@pytest.mark.parametrize("name", [name for name in UNITS if name.endswith(".socket")])
def test_each_socket_has_its_service(name: str) -> None:
    text = (FOLDER / name).read_text()
    template = "Accept=yes\n" in text
    service = text.partition("\nService=")[2].partition("\n")[0]
    assert (service or name.replace(".socket", "@.service" if template else ".service")) in UNITS
