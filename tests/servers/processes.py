"""What /proc tells about running processes, and bounded waits for what other processes do."""

import contextlib
import os
import random
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# What is waited for comes sooner, but not on a machine that is busy: a program that starts there may take ten times as
# long. Only a test that fails waits for all of it.
PATIENCE = 60.0  # seconds


@dataclass(frozen=True)
class Status:
    """The parts of /proc/PID/status that privilege separation is about. Ids: real, effective, saved, file system."""

    pid: int
    parent: int
    uids: tuple[int, ...]
    gids: tuple[int, ...]
    groups: tuple[int, ...]
    no_new_privileges: bool
    permitted_capabilities: int
    effective_capabilities: int


def read_status(pid: int) -> Status:
    """Raises OSError (FileNotFoundError, ProcessLookupError) when there is no such process."""
    fields = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line
    )

    def numbers(name: str) -> tuple[int, ...]:
        return tuple(int(word) for word in fields[name].split())

    return Status(
        pid=pid,
        parent=int(fields["PPid"]),
        uids=numbers("Uid"),
        gids=numbers("Gid"),
        groups=numbers("Groups"),
        no_new_privileges=fields["NoNewPrivs"] == "1",
        permitted_capabilities=int(fields["CapPrm"], 16),
        effective_capabilities=int(fields["CapEff"], 16),
    )


def title(pid: int) -> str:
    """What `ps` shows of a process: its argument vector, or its name in brackets' place where that is empty.

    Empty for a process that has ended meanwhile.
    """
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ").decode()
        return arguments or Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def is_running(pid: int) -> bool:
    """Zombies, which only wait for their parent to look, are not running."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


def descendants(pid: int) -> list[int]:
    """Running children of a process and their children, parents first."""
    parents: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdecimal() and is_running(int(entry)):
            try:
                parents.setdefault(read_status(int(entry)).parent, []).append(int(entry))
            except (FileNotFoundError, ProcessLookupError):
                continue
    found, heads = [], [pid]
    while heads:
        children = parents.get(heads.pop(0), [])
        found += children
        heads += children
    return found


def wait_until(condition: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
    """Look again every few milliseconds until `condition` is true; AssertionError naming `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"after {seconds} s still not: {what}"
        select.select([], [], [], 0.01)


def wait_until_gone(pids: list[int], seconds: float = PATIENCE) -> None:
    wait_until(lambda: not any(map(is_running, pids)), f"the end of processes {pids}", seconds)


def terminate(process: "subprocess.Popen[bytes]") -> None:
    """End a server and every process that it began."""
    pids = [process.pid, *descendants(process.pid)]
    for pid in pids:  # the master first: it would only replace its children
        try:
            os.kill(pid, signal.SIGTERM)
        except ProcessLookupError:
            continue
    process.wait()
    wait_until_gone(pids)


def accepts(port: int, host: str = "127.0.0.1") -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def free_port() -> int:
    """A TCP port that is free on loopback, a different one each time.

    None of those that the system gives to who wants any, so that nobody gets it before it is listened on.
    """
    lowest_of_any = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(10_000, lowest_of_any)
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            if port not in _given_ports:
                _given_ports.add(port)
                return port


_given_ports = set[int]()


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as listener:
            listener.bind(("::1", 0))
    except OSError:
        return False
    return True
