"""Sockets that who started us has opened, as sd_listen_fds(3) has it: real descriptors from 3 on, in a new process."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from servers.processes import PATIENCE
from servers.program import ROOT

pytestmark = pytest.mark.slow

# Takes what is handed over, and tells what that is.
TAKE = """\
import fcntl, json, os, sys
from sendooway import activation
try:
    found = activation.take(os.environ)
except activation.ActivationError as error:
    print(json.dumps(str(error)))
else:
    numbers = [sock.fileno() for sock, _ in found.listening]
    numbers += [] if found.connection is None else [found.connection]
    print(json.dumps({
        "listening": [vars(listen) for _, listen in found.listening],
        "blocking": [sock.getblocking() for sock, _ in found.listening],
        "connection": found.connection,
        "tls": found.tls,
        "numbers": numbers,
        "inheritable": [os.get_inheritable(number) for number in numbers],
        "left": sorted(name for name in os.environ if name.startswith("LISTEN_")),
    }))
"""


class Opened:
    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self._stack = stack
        self._folder = folder

    def listener(self, host: str = "127.0.0.1") -> socket.socket:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return self._stack.enter_context(socket.create_server((host, 0), family=family))

    def unix(self, name: str) -> socket.socket:
        sock = self._stack.enter_context(socket.socket(socket.AF_UNIX))
        sock.bind(name if name.startswith("\0") else str(self._folder / name))
        sock.listen()
        return sock

    def connection(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        self._stack.enter_context(ours)
        return self._stack.enter_context(theirs)

    def datagram(self) -> socket.socket:
        return self._stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))

    def pipe(self) -> int:
        reading, writing = os.pipe()
        self._stack.callback(os.close, reading)
        os.close(writing)
        return reading


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    with ExitStack() as stack:
        yield Opened(stack, tmp_path)


def take(*sockets: socket.socket | int, pid: str = "$$", names: str | None = None, count: str = "") -> Any:
    """Hand the sockets to a new process as descriptors 3, 4, ... and give what it tells, or the error's text."""
    numbers = [sock if isinstance(sock, int) else sock.fileno() for sock in sockets]
    # By way of high numbers, so that none is overwritten before it has its place.
    high = [os.dup(number) for number in numbers]
    moves = " ".join(f"{place}<&{number}" for place, number in enumerate(high, 3))
    variables = f"LISTEN_PID={pid} LISTEN_FDS={count or len(sockets)}"
    variables += "" if names is None else f" LISTEN_FDNAMES='{names}'"
    script = f'exec 0< /dev/null {moves}; {variables} exec "$@"'
    try:
        done = subprocess.run(
            ["/bin/bash", "-c", script, "bash", sys.executable, "-c", TAKE],
            pass_fds=high,
            cwd=ROOT,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
    finally:
        for number in high:
            os.close(number)
    assert not done.stderr, done.stderr
    return json.loads(done.stdout)


def test_listening_sockets_come_in_their_order_and_with_their_addresses(opened: Opened) -> None:
    first, second = opened.listener(), opened.unix("socket")
    found = take(first, second)
    plain = {"address": "", "port": 0, "path": "", "tls": False, "inherited": True}
    assert found["listening"] == [
        {**plain, "address": "127.0.0.1", "port": first.getsockname()[1]},
        {**plain, "path": second.getsockname()},
    ]
    assert found["connection"] is None


def test_an_abstract_name_is_told_with_its_customary_sign(opened: Opened) -> None:
    name = f"sendooway-test-{os.getpid()}"
    assert take(opened.unix(f"\0{name}"))["listening"][0]["path"] == f"@{name}"


def test_an_accepted_connection_is_told_from_a_listening_socket(opened: Opened) -> None:
    found = take(opened.connection(), names="connection")
    assert (found["connection"], found["listening"], found["tls"]) == (3, [], False)


def test_nothing_is_inherited_further_no_socket_and_no_variable(opened: Opened) -> None:
    found = take(opened.listener(), opened.listener(), names="a:b")
    assert found["numbers"] == [3, 4]
    assert found["inheritable"] == [False, False]
    assert found["blocking"] == [False, False]
    assert found["left"] == []
    assert take(opened.connection())["inheritable"] == [False]


@pytest.mark.parametrize("pid", ["1", "", "$$0", "-$$", "x"])
def test_what_is_meant_for_another_process_is_not_touched_but_forgotten(opened: Opened, pid: str) -> None:
    found = take(opened.listener(), pid=pid)
    assert found["numbers"] == []
    assert found["left"] == []


@pytest.mark.parametrize(
    ("name", "tls"),
    [
        ("submission", False),
        ("submissions", True),
        ("smtps", True),
        ("tls", True),
        ("TLS", True),
        ("sendooway-tls.socket", True),
        ("mail_smtps", True),
        ("sendooway.socket", False),
        ("starttls", False),
        ("unknown", False),
        ("", False),
    ],
)
def test_the_words_of_a_name_tell_whether_it_is_tls_from_the_first_octet(opened: Opened, name: str, tls: bool) -> None:
    found = take(opened.listener(), opened.listener(), names=f"{name}:other")
    assert [listen["tls"] for listen in found["listening"]] == [tls, False]
    assert take(opened.connection(), names=name)["tls"] is tls


def test_what_cannot_be_served_is_named(opened: Opened) -> None:
    listener, connection = opened.listener(), opened.connection()
    assert take(listener, opened.datagram(), names="a:b") == (
        "LISTEN_FDS: descriptor 4 (b): no stream socket; `ListenStream=` would be right"
    )
    assert take(opened.pipe(), names="log") == "LISTEN_FDS: descriptor 3 (log): no socket"
    assert take(listener, count="2") == "LISTEN_FDS: descriptor 4 (unknown): Bad file descriptor"
    assert take(listener, connection).startswith("LISTEN_FDS: a connection must come alone; ")
    assert take(listener, count="many") == "LISTEN_FDS='many' is not a number of descriptors"
    assert take(listener, count="9" * 5000).endswith(" is not a number of descriptors")
    assert take(listener, count="-1") == "LISTEN_FDS='-1' is not a number of descriptors"
    assert take(listener, names="a:b") == "LISTEN_FDS=1, but LISTEN_FDNAMES='a:b' has 2 names"
