"""Super-servers: they listen, and start the program for each connection, or with the listening sockets."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from servers import cell
from servers.processes import PATIENCE, descendants, free_port, wait_until, wait_until_gone
from servers.program import ROOT, command

INSTALLED = "/usr/local/sbin/sendooway"


@dataclass(frozen=True)
class SuperServer:
    """`start` writes what it needs into a folder and gives the command that serves a port with a program."""

    name: str
    start: Callable[[Path, int, Path], list[str]]

    def __str__(self) -> str:
        return self.name


@contextmanager
def running(server: SuperServer, folder: Path, *options: str) -> Iterator[tuple[int, int]]:
    """Gives the port on 127.0.0.1, and the super-server's process id; all of its processes end with the `with`."""
    port = free_port()
    program = _program(folder, *options)
    with (folder / "super-server.log").open("wb") as log:
        process = subprocess.Popen(
            server.start(folder, port, program), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT
        )
    try:
        # A connection of ours would be the first that it serves.
        wait_until(lambda: _listens(port), f"{server} listens")
        yield port, process.pid
    finally:
        left = descendants(process.pid)
        process.terminate()
        process.wait(PATIENCE)
        wait_until_gone(left)


def _listens(port: int) -> bool:
    address = f"0100007F:{port:04X}"
    # sl, local_address, rem_address, st; 0A is TCP_LISTEN.
    return any(line.split()[1:4:2] == [address, "0A"] for line in Path("/proc/net/tcp").read_text().splitlines())


def _program(folder: Path, *options: str) -> Path:
    """The program that is tested, with a configuration and a log that no super-server's file names."""
    path = folder / "sendooway"
    words = " ".join(f"'{word}'" for word in command("-c", folder / "sendooway.conf", *options))
    path.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    path.chmod(0o755)
    return path


def _inetd(folder: Path, port: int, program: Path) -> list[str]:
    path = _needs("inetd", "openbsd-inetd")
    text = (ROOT / "contrib/inetd/inetd.conf").read_text()
    (line,) = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert line.startswith("submission ")
    line = line.replace("submission", f"127.0.0.1:{port}", 1).replace(INSTALLED, str(program))
    (folder / "inetd.conf").write_text(line + "\n")
    return [path, "-i", str(folder / "inetd.conf")]


def _xinetd(folder: Path, port: int, program: Path) -> list[str]:
    # It conflicts with openbsd-inetd.
    try:
        package = cell.unpack("xinetd")
    except OSError as error:
        pytest.skip(str(error))
    text = (ROOT / "contrib/xinetd/sendooway").read_text()
    assert "service submission\n" in text
    more = f"\ttype = UNLISTED\n\tport = {port}\n\tbind = 127.0.0.1\n}}"
    (folder / "xinetd.conf").write_text(text.replace(INSTALLED, str(program)).replace("}", more))
    xinetd = str(package / "usr/sbin/xinetd")
    return [xinetd, "-dontfork", "-f", str(folder / "xinetd.conf"), "-pidfile", str(folder / "xinetd.pid")]


def _socket_activate(*how: str) -> Callable[[Path, int, Path], list[str]]:
    def start(folder: Path, port: int, program: Path) -> list[str]:
        return [_needs("systemd-socket-activate", "systemd"), "-l", f"127.0.0.1:{port}", *how, str(program)]

    return start


def _needs(name: str, package: str) -> str:
    path = shutil.which(name, path="/usr/sbin:/usr/bin")
    if path is None:
        pytest.skip(f"not installed: {package}")
    return path


# Standard input is the connection; for the first two, standard error is, too.
ON_STANDARD_INPUT = (
    SuperServer("inetd", _inetd),
    SuperServer("xinetd", _xinetd),
    SuperServer("systemd, Accept=yes, standard input", _socket_activate("--accept", "--inetd")),
)
FOR_EACH = (*ON_STANDARD_INPUT, SuperServer("systemd, Accept=yes", _socket_activate("--accept")))
# One server, whose sockets are listening already.
FOR_ALL = SuperServer("systemd, Accept=no", _socket_activate("--fdname=submission"))
