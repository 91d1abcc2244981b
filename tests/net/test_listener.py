import errno
import os
import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from servers.processes import PATIENCE, wait_until
from shortage import few_descriptors, leave_descriptors

from sendooway.config import Configuration, Listen, UserSettings
from sendooway.log import open_log
from sendooway.net.deadline import Deadline
from sendooway.net.listener import Begin, ListenError, bind, serve, source
from sendooway.net.pause import Pause
from sendooway.net.places import Place
from sendooway.net.threads import MAX_IDLE, Threads


def test_no_address_is_both_families_on_one_port() -> None:
    six, four = bind(Listen())
    assert (six.family, four.family) == (socket.AF_INET6, socket.AF_INET)
    assert six.getsockname()[1] == four.getsockname()[1]
    six.close()
    four.close()


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_an_address_is_listened_on(address: str) -> None:
    (sock,) = bind(Listen(address=address))
    assert sock.getsockname()[0] == address
    sock.close()


def test_an_address_in_use_is_an_error_naming_it() -> None:
    (sock,) = bind(Listen(address="127.0.0.1"))
    port = sock.getsockname()[1]
    with pytest.raises(ListenError, match=f"127.0.0.1 port {port}: Address already in use"):
        bind(Listen(address="127.0.0.1", port=port))
    sock.close()


def test_a_socket_left_by_a_dead_server_is_replaced_and_a_live_one_is_an_error(tmp_path: Path) -> None:
    listen = Listen(path=str(tmp_path / "submission"))
    (dead,) = bind(listen)
    dead.close()
    (live,) = bind(listen)
    with pytest.raises(ListenError, match="another server does"):
        bind(listen)
    live.close()


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir])
def test_what_is_no_socket_stays_and_is_an_error_that_says_so(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "submission")
    with pytest.raises(ListenError, match="submission: what is there is no socket; remove it, or name another path"):
        bind(Listen(path=str(tmp_path / "submission")))
    assert (tmp_path / "submission").exists()


def test_a_socket_that_may_not_be_removed_is_an_error_naming_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listen = Listen(path=str(tmp_path / "submission"))
    (dead,) = bind(listen)
    dead.close()

    def fail(path: str) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "unlink", fail)
    with pytest.raises(ListenError, match="submission: Permission denied"):
        bind(listen)


@pytest.mark.parametrize("room", [0, 1])
def test_without_descriptors_for_all_sockets_there_are_none(room: int) -> None:
    with few_descriptors(room), pytest.raises(ListenError, match="Too many open files"):
        bind(Listen())


def test_a_file_that_is_no_socket_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(ListenError, match="precious"):
        bind(Listen(path=str(path)))
    assert path.read_text() == "data"


Talk = Callable[[socket.socket], Pause | None]

DEFAULTS = Configuration(UserSettings("test"))


@dataclass
class Talking:
    """A conversation that is one function, called again after each pause."""

    talk: Talk
    sock: socket.socket

    def run(self) -> Pause | None:
        pause = self.talk(self.sock)
        if pause is None:
            self.sock.close()
        return pause


def greet(sock: socket.socket) -> None:
    sock.sendall(b"hello")


def refuse(sock: socket.socket, listen: Listen) -> None:
    sock.sendall(b"full")


def beginning(talk: Callable[[socket.socket], Any]) -> Callable[[socket.socket, Listen, Place], Talking]:
    return lambda sock, listen, place: Talking(talk, sock)


@contextmanager
def serving(
    talk: Callable[[socket.socket], Any],
    log: Path,
    limits: Configuration = DEFAULTS,
    *,
    at: str = "127.0.0.1",
    begin: Begin | None = None,
) -> Iterator[tuple[str, int]]:
    (sock,) = bind(listen := Listen(address=at))
    address = sock.getsockname()
    woken, wake = socket.socketpair()
    begin = begin or beginning(talk)
    opened = open_log(str(log))
    arguments = ([(sock, listen)], begin, refuse, limits, opened, woken.fileno())
    thread = threading.Thread(target=serve, args=arguments)
    thread.start()
    try:
        yield address
    finally:
        wake.send(b"!")
        thread.join(PATIENCE)
        assert not thread.is_alive()
        for each in (opened, woken, wake):
            each.close()


def receive_all(sock: socket.socket) -> bytes:
    octets = b""
    while received := sock.recv(100):
        octets += received
    return octets


def test_each_connection_is_handled_and_then_closed(tmp_path: Path) -> None:
    with serving(greet, tmp_path / "log") as address:
        for _ in range(3):
            with socket.create_connection(address, PATIENCE) as client:
                assert receive_all(client) == b"hello"


def test_a_connection_too_many_is_refused(tmp_path: Path) -> None:
    wait = threading.Event()

    def occupy(sock: socket.socket) -> None:
        sock.sendall(b"in")
        wait.wait(PATIENCE)

    with serving(occupy, tmp_path / "log", replace(DEFAULTS, max_sessions=1)) as address:
        with socket.create_connection(address, PATIENCE) as first:
            assert first.recv(10) == b"in"
            with socket.create_connection(address, PATIENCE) as second:
                assert receive_all(second) == b"full"
            wait.set()
            assert receive_all(first) == b""
        wait_until(lambda: is_served(address), "a place for the third")


def own_address() -> str:
    """Of this machine, and no loopback address, which no limit is for."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))  # which sends nothing
        except OSError:
            pytest.skip("no network here")
        address: str = sock.getsockname()[0]
        return address


def test_a_balancers_connections_are_of_nobody_until_their_clients_are_known(tmp_path: Path) -> None:
    address = own_address()
    limits = replace(DEFAULTS, max_sessions_per_client=1)
    sources = []

    def begin(sock: socket.socket, listen: Listen, place: Place) -> Talking:
        sources.append(place.source)
        return Talking(hold, sock)

    for trust, heard in (((f"{address}/32",), [b"in", b"in"]), ((), [b"in", b"full"])):
        with (
            serving(hold, tmp_path / "log", replace(limits, proxy_trust=trust), at=address, begin=begin) as place,
            ExitStack() as stack,
        ):
            clients = [stack.enter_context(socket.create_connection(place, PATIENCE)) for _ in range(2)]
            assert [client.recv(10) for client in clients] == heard
    assert sources == ["", "", address]


def test_in_a_pause_a_conversation_has_no_thread(tmp_path: Path) -> None:
    number = MAX_IDLE + 20
    pairs = [os.pipe() for _ in range(number)]
    free = [*pairs]
    resumed = []

    def talk(sock: socket.socket) -> Pause | None:
        if free:
            pause = Pause(free.pop()[0], Deadline(60))
            sock.sendall(b"wait")
            return pause
        resumed.append(sock)
        sock.sendall(b"done")
        return None

    before = set(threading.enumerate())
    with serving(talk, tmp_path / "log") as address:
        clients = [socket.create_connection(address, PATIENCE) for _ in range(number)]
        for client in clients:
            assert client.recv(4) == b"wait"
        # One is the listener's.
        wait_until(
            lambda: len({*threading.enumerate()} - before) <= 1 + MAX_IDLE, "the end of all threads that are not idle"
        )
        assert not resumed
        for _, writing in pairs:
            os.write(writing, b"!")
        for client in clients:
            assert receive_all(client) == b"done"
            client.close()
    for descriptor in (descriptor for pair in pairs for descriptor in pair):
        os.close(descriptor)


def test_a_pause_ends_at_its_deadline_or_when_the_server_stops(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    pauses = [Pause(reading, Deadline(60)), Pause(reading, Deadline(0.1))]

    def talk(sock: socket.socket) -> Pause | None:
        sock.sendall(b".")
        return pauses.pop() if pauses else None

    with serving(talk, tmp_path / "log") as address:
        client = socket.create_connection(address, PATIENCE)
        received = b""
        while len(received) < 2:
            received += client.recv(10)
    # Called once more, before the server has stopped.
    assert receive_all(client) == b"."
    client.close()
    os.close(reading)
    os.close(writing)


def test_a_conversation_that_cannot_go_on_for_lack_of_a_thread_goes_on_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, writing = os.pipe()
    pauses = [Pause(reading, Deadline(60))]

    def talk(sock: socket.socket) -> Pause | None:
        sock.sendall(b".")
        return pauses.pop() if pauses else None

    log = tmp_path / "log"
    with serving(talk, log) as address, socket.create_connection(address, PATIENCE) as client:
        assert client.recv(1) == b"."
        with monkeypatch.context() as poor:
            poor.setattr(Threads, "start", no_room)
            os.write(writing, b"!")
            wait_until(lambda: log.exists() and "no-thread" in log.read_text(), "the log of what is missing")
        assert receive_all(client) == b"."
    os.close(reading)
    os.close(writing)


def test_without_descriptors_a_client_is_told_and_nothing_spins(tmp_path: Path) -> None:
    """In a process of its own, whose limit on descriptors can be lowered."""
    (sock,) = bind(listen := Listen(address="127.0.0.1"))
    woken, wake = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            leave_descriptors(12)
            log = open_log(str(tmp_path / "log"))
            serve([(sock, listen)], beginning(hold), refuse, DEFAULTS, log, woken.fileno())
            status = 0
        finally:
            os._exit(status)
    address = sock.getsockname()
    sock.close()
    clients: list[socket.socket] = []
    while len(clients) < 40:
        clients.append(socket.create_connection(address, PATIENCE))
        if clients[-1].recv(10) == b"full":
            break
    assert 1 < len(clients) < 40
    for _ in range(3):
        with socket.create_connection(address, PATIENCE) as refused:
            assert receive_all(refused) == b"full"
    ticks = sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
    assert ticks < 2 * os.sysconf("SC_CLK_TCK")
    assert 'accept-failed reason="Too many open files"' in (tmp_path / "log").read_text()
    for client in clients[:3]:
        client.close()

    wait_until(lambda: is_served(address), "a place for one more")
    for client in clients:
        client.close()
    wake.send(b"!")
    assert os.waitpid(pid, 0)[1] == 0
    woken.close()
    wake.close()


def is_served(address: tuple[str, int]) -> bool:
    """The place of a session may be free a moment after its connection is closed."""
    with socket.create_connection(address, PATIENCE) as client:
        return client.recv(10) == b"in"


def hold(sock: socket.socket) -> None:
    sock.sendall(b"in")
    sock.recv(10)


@pytest.mark.parametrize(
    ("address", "same"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8::1", "2001:db8::ffff:1"),
        ("fe80::1%eth0", "fe80::2%eth1"),
        ("127.0.0.1", "::1"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("::ffff:127.0.0.1", "::1"),
    ],
)
def test_a_source_is_an_address_or_what_one_host_can_have_of_them(address: str, same: str) -> None:
    assert source(address) == source(same) != source("2001:db8:0:1::1")


def test_where_no_thread_can_be_started_a_client_is_told_and_its_place_is_free_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(greet, tmp_path / "log", replace(DEFAULTS, max_sessions=1)) as address:
        with monkeypatch.context() as poor:
            poor.setattr(Threads, "start", no_room)
            for _ in range(2):
                with socket.create_connection(address, PATIENCE) as client:
                    assert receive_all(client) == b"full"
        with socket.create_connection(address, PATIENCE) as client:
            assert receive_all(client) == b"hello"


def no_room(threads: Threads, act: object) -> None:
    raise RuntimeError("can't start new thread")


def test_a_session_that_crashes_is_logged_without_its_values_and_harms_no_other(tmp_path: Path) -> None:
    def crash(sock: socket.socket) -> None:
        sock.sendall(b"x")
        raise ValueError("a password")

    with serving(crash, tmp_path / "log") as address:
        for _ in range(2):
            with socket.create_connection(address, PATIENCE) as client:
                assert receive_all(client) == b"x"
    lines = (tmp_path / "log").read_text().splitlines()
    assert len(lines) == 2
    assert all("session-crashed" in line and "ValueError" in line and "test_listener.py" in line for line in lines)
    assert "password" not in "".join(lines)


def test_stopping_waits_for_sessions_and_accepts_no_more(tmp_path: Path) -> None:
    said, done = threading.Event(), threading.Event()

    def converse(sock: socket.socket) -> None:
        sock.sendall(b"in")
        assert said.wait(PATIENCE)
        sock.sendall(b"out")
        done.set()

    (sock,) = bind(listen := Listen(address="127.0.0.1"))
    woken, wake = socket.socketpair()
    arguments = ([(sock, listen)], beginning(converse), refuse, DEFAULTS, open_log(os.devnull), woken.fileno())
    thread = threading.Thread(target=serve, args=arguments)
    address = sock.getsockname()
    thread.start()
    with socket.create_connection(address, PATIENCE) as client:
        assert client.recv(10) == b"in"
        wake.send(b"!")
        while sock.fileno() >= 0:
            select.poll().poll(1)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, PATIENCE)
        assert thread.is_alive()
        said.set()
        assert receive_all(client) == b"out"
    thread.join(PATIENCE)
    assert done.is_set()
    woken.close()
    wake.close()
