import errno
import os
import socket
import threading
from collections.abc import Iterator

import pytest
from servers.processes import PATIENCE
from shortage import no_threads

from sendooway.net.deadline import Deadline
from sendooway.net.dial import DialError, _alternate, dial
from sendooway.net.stream import Stopping


def test_a_listening_host_is_reached() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        dial("127.0.0.1", server.getsockname()[1], Deadline(PATIENCE)) as sock,
    ):
        assert sock.getpeername() == server.getsockname()


def test_a_name_is_resolved_and_the_family_that_answers_is_taken() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        dial("localhost", server.getsockname()[1], Deadline(PATIENCE)) as sock,
    ):
        assert sock.getpeername()[1] == server.getsockname()[1]


def test_nobody_listening_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(DialError, match="Connection refused"):
        dial("127.0.0.1", port, Deadline(PATIENCE))


@pytest.mark.parametrize("host", ["none.invalid", "", "a" * 70 + ".test", "\udcff.test"])
def test_a_name_that_does_not_resolve_is_an_error(host: str) -> None:
    # Name servers that do not answer are waited for.
    with pytest.raises((DialError, TimeoutError)):
        dial(host or ".", 25, Deadline(30))


def test_a_host_that_does_not_answer_ends_at_the_deadline() -> None:
    # A backlog that is full: the kernel leaves further connections without an answer.
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        address = server.getsockname()
        full = [socket.socket() for _ in range(3)]
        for sock in full:
            sock.setblocking(False)
            sock.connect_ex(address)
        with pytest.raises(TimeoutError):
            dial("127.0.0.1", address[1], Deadline(0.1))
        for sock in full:
            sock.close()


def test_a_stopping_server_ends_dialling() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        full = [socket.socket() for _ in range(3)]
        for sock in full:
            sock.setblocking(False)
            sock.connect_ex(server.getsockname())
        stopped, stop = socket.socketpair()
        stop.send(b"!")
        with pytest.raises(Stopping):
            dial("127.0.0.1", server.getsockname()[1], Deadline(PATIENCE), stopped.fileno())
        for sock in (*full, stopped, stop):
            sock.close()


@pytest.fixture
def slow_resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """It answers for numbers only, and at the end of the test."""
    over = threading.Event()

    def look_up(host: str, port: int, *, type: int, flags: int) -> list[object]:
        if not flags:
            over.wait()
        raise socket.gaierror(socket.EAI_NONAME, "none")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    yield
    over.set()


@pytest.mark.usefixtures("slow_resolver")
@pytest.mark.parametrize("seconds", [0.1, 0])
def test_a_resolver_that_does_not_answer_ends_at_the_deadline(seconds: float) -> None:
    with pytest.raises(TimeoutError, match=rf"mx\.test was not resolved within {seconds} seconds"):
        dial("mx.test", 25, Deadline(seconds))


@pytest.mark.usefixtures("slow_resolver")
def test_a_stopping_server_does_not_wait_for_the_resolver() -> None:
    stopped, stop = socket.socketpair()
    with stopped, stop:
        stop.send(b"!")
        with pytest.raises(Stopping):
            dial("mx.test", 25, Deadline(30), stopped.fileno())


def test_where_descriptors_are_short_no_name_resolves(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(socket, "socketpair", fail)
    with pytest.raises(DialError, match="Too many open files"):
        dial("localhost", 25, Deadline(5))


def test_where_threads_are_short_no_name_resolves() -> None:
    with no_threads(), pytest.raises(DialError, match=r"moon\.test cannot be resolved now: can't start new thread"):
        dial("moon.test", 25, Deadline(PATIENCE))


V4, V6 = socket.AF_INET, socket.AF_INET6


@pytest.mark.parametrize(
    ("found", "tried"),
    [
        ([], []),
        ([(V6, (1,)), (V6, (2,)), (V4, (3,))], [(V6, (1,)), (V4, (3,)), (V6, (2,))]),
        ([(V4, (1,)), (V6, (2,))], [(V4, (1,)), (V6, (2,))]),
        ([(V4, (1,)), (V4, (2,))], [(V4, (1,)), (V4, (2,))]),
    ],
)
def test_the_families_take_turns(
    found: list[tuple[socket.AddressFamily, tuple[object, ...]]],
    tried: list[tuple[socket.AddressFamily, tuple[object, ...]]],
) -> None:
    assert _alternate(found) == tried
