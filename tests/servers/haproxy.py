"""HAProxy, as contrib/haproxy has it in front of two hosts."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from servers.processes import accepts, free_port, terminate, wait_until
from servers.program import ROOT

FOLDER = ROOT / "contrib/haproxy"
PROGRAM = shutil.which("haproxy", path="/usr/sbin:/usr/bin")


@dataclass(frozen=True)
class Ports:
    """On 127.0.0.1: STARTTLS, and TLS from the first octet."""

    submission: int
    submissions: int


def free_ports() -> Ports:
    return Ports(free_port(), free_port())


def replaced(text: str, changes: dict[str, str]) -> str:
    """With each of the changes, all of which must have something to change."""
    for before, after in changes.items():
        assert before in text, f"there is no {before!r} any more"
        text = text.replace(before, after)
    return text


@contextmanager
def running(folder: Path, mail1: Ports, mail2: Ports) -> Iterator[Ports]:
    """The example's HAProxy, with other addresses, in front of two hosts."""
    ports = free_ports()
    changes = {
        "bind :587": f"bind 127.0.0.1:{ports.submission}",
        "bind :465": f"bind 127.0.0.1:{ports.submissions}",
        "192.0.2.11:587": f"127.0.0.1:{mail1.submission}",
        "192.0.2.11:465": f"127.0.0.1:{mail1.submissions}",
        "192.0.2.12:587": f"127.0.0.1:{mail2.submission}",
        "192.0.2.12:465": f"127.0.0.1:{mail2.submissions}",
    }
    if os.geteuid() != 0:
        changes |= {"    user haproxy\n": "", "    group haproxy\n": ""}
    configuration = folder / "haproxy.cfg"
    configuration.write_text(replaced((FOLDER / "haproxy.cfg").read_text(), changes))
    assert PROGRAM is not None
    with (folder / "haproxy.log").open("wb") as log:
        # In the foreground, as one process.
        process = subprocess.Popen(
            [PROGRAM, "-db", "-f", configuration], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        wait_until(lambda: accepts(ports.submission), f"HAProxy accepts (see {folder})")
        yield ports
    finally:
        terminate(process)
