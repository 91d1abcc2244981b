"""The Dockerfile: its instructions, carried out in a bare system, since no Docker engine needs to be here."""

import json
import shutil
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from servers import deployment
from servers.certificates import Certificates
from servers.machine import Machine
from servers.processes import wait_until
from servers.program import ONE_FILE, ROOT
from servers.roots import TRIXIE, Release

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not ONE_FILE.exists(), reason="`make dist` has not made dist/sendooway"),
]
IMAGES = {"debian:trixie-slim": TRIXIE}


@dataclass
class Image:
    """What the instructions say of how the container is to be started."""

    user: str = "root"
    ports: list[int] = field(default_factory=list)
    entry_point: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)


def instructions() -> list[tuple[str, str]]:
    text = (ROOT / "contrib/docker/Dockerfile").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in joined.splitlines())]


def build(machine: Machine, lines: list[tuple[str, str]]) -> Image:
    """All but the first one, FROM."""
    image = Image()
    for name, argument in lines:
        match name:
            case "COPY":
                source, target = argument.split()
                assert target.endswith("/"), "COPY FILE FOLDER/ is all that is understood here"
                path = machine.path(target)
                path.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / source, path)
            case "RUN":
                # As in a build, there is a network.
                machine.run("/bin/sh", "-c", argument, outside=True, environment={"DEBIAN_FRONTEND": "noninteractive"})
            case "USER":
                image.user = argument
            case "EXPOSE":
                image.ports += map(int, argument.split())
            case "ENTRYPOINT":
                image.entry_point = json.loads(argument)
            case "CMD":
                image.command = json.loads(argument)
            case _:
                raise AssertionError(f"the test does not understand {name}")
    return image


def test_the_image_sends_a_mail_and_ends_when_it_is_stopped(
    root: Callable[[Release], Path], tmp_path: Path, certificates: Certificates, tls: ssl.SSLContext
) -> None:
    (start, source), *others = instructions()
    assert start == "FROM"
    with (
        Machine(tmp_path, root(IMAGES[source])) as machine,
        deployment.smarthost(machine, certificates) as smarthost,
    ):
        image = build(machine, others)
        assert image.ports == [587]
        # What is mounted from the host.
        deployment.furnish(machine, certificates)
        deployment.write_as_alice(machine, ".fetchmailrc", deployment.FETCHMAILRC)
        machine.path("/etc/sendooway.conf").write_text(
            "sslCert = /etc/ssl/certs/mail.example.org.pem\nsslKey = /etc/ssl/private/mail.example.org.key\n"
        )
        # `docker run`: it is process 1 of its own.
        group = machine.run("id", "-g", image.user).stdout.strip()
        user = ["setpriv", "--reuid", image.user, "--regid", group, "--init-groups"]
        begin = ["unshare", "--pid", "--fork", "--mount-proc", *user, *image.entry_point, *image.command]
        outer = machine.start(*begin, output="/run/output")
        with deployment.connected(machine, image.ports[0], tls) as client:
            deployment.send(client, smarthost)
        # `docker stop`.
        (inner,) = machine.path(f"/proc/{outer}/task/{outer}/children").read_text().split()
        machine.signal(int(inner), "TERM")
        wait_until(lambda: not machine.path(f"/proc/{outer}").exists(), "its end", 60)
        said = machine.path("/run/output").read_text()
        assert " ready proxies=" in said
        assert " user=alice " in said
        for word in ("Traceback", "process-failed"):
            assert word not in said
