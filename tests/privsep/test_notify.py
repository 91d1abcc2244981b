"""What the service manager is told, over a real datagram socket."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from sendooway.privsep import notify
from sendooway.privsep.notify import Notify


@contextmanager
def manager_at(address: str) -> Iterator[socket.socket]:
    """Listens as the service manager does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(address.replace("@", "\0", 1) if address.startswith("@") else address)
        sock.settimeout(10)
        yield sock


@pytest.fixture(params=["path", "abstract"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"{tmp_path}/notify@home" if request.param == "path" else f"@sendooway-test-{os.getpid()}@1"


def test_messages_are_those_of_sd_notify(address: str) -> None:
    with manager_at(address) as manager:
        told = notify.take({"NOTIFY_SOCKET": address})
        told.ready("2 of 2 proxies serve")
        assert manager.recv(4096) == b"READY=1\nSTATUS=2 of 2 proxies serve"
        told.status("1 of 2 proxies serve")
        assert manager.recv(4096) == b"STATUS=1 of 2 proxies serve"
        told.alive()
        assert manager.recv(4096) == b"WATCHDOG=1"
        told.stopping("waits for its sessions to end")
        assert manager.recv(4096) == b"STOPPING=1\nSTATUS=waits for its sessions to end"


def test_a_reload_says_when_it_began(address: str) -> None:
    with manager_at(address) as manager:
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        notify.take({"NOTIFY_SOCKET": address}).reloading()
        after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        first, second, third = manager.recv(4096).decode().split("\n")
    assert (first, third) == ("RELOADING=1", "STATUS=reads its configuration")
    name, _, microseconds = second.partition("=")
    assert name == "MONOTONIC_USEC"
    assert before <= int(microseconds) <= after


def test_a_status_cannot_say_anything_else(address: str) -> None:
    with manager_at(address) as manager:
        Notify(address).status("refused:\nSTOPPING=1\r\n\udcff")
        assert manager.recv(4096) == b"STATUS=refused: STOPPING=1 ?"


@pytest.mark.parametrize("address", ["", "vsock:2:1234", "relative", "/nonexistent/notify", "@nobody-listens-here"])
def test_nobody_who_listens_is_no_error(address: str) -> None:
    told = Notify(address)
    told.ready("serves")
    told.alive()


def test_a_manager_that_does_not_read_does_not_keep_us(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify, "_SECONDS", 0.01)
    with manager_at(address) as manager:
        told = Notify(address)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            with suppress(BlockingIOError):
                while True:
                    sock.sendto(b"full", manager.getsockname())
        told.ready("serves")
        assert manager.recv(4096) == b"full"


@pytest.mark.parametrize(
    ("variables", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "60000000"}, 30.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "-1"}, None),
        ({"WATCHDOG_USEC": "18446744073709551615"}, None),
        ({"WATCHDOG_USEC": "9" * 5000}, None),
        ({"WATCHDOG_USEC": "60000000", "NOTIFY_SOCKET": ""}, None),
    ],
)
def test_a_sign_of_life_is_given_at_half_of_the_time_to_who_asks_this_process(
    variables: dict[str, str], seconds: float | None
) -> None:
    environment = {"NOTIFY_SOCKET": "/run/systemd/notify", "PATH": "/bin", **variables}
    assert notify.take(environment).watchdog == seconds
    assert environment == {"PATH": "/bin"}
