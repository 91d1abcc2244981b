import os
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sendooway.config import Listen
from sendooway.log import open_log
from sendooway.net import listener
from sendooway.net.listener import Handle, ListenError, bind, serve, source


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


def test_a_file_that_is_no_socket_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(ListenError, match="precious"):
        bind(Listen(path=str(path)))
    assert path.read_text() == "data"


def greet(sock: socket.socket, listen: Listen) -> None:
    sock.sendall(b"hello")


def refuse(sock: socket.socket, listen: Listen) -> None:
    sock.sendall(b"full")


@contextmanager
def serving(handle: Handle, log: Path) -> Iterator[tuple[str, int]]:
    (sock,) = bind(listen := Listen(address="127.0.0.1"))
    address = sock.getsockname()
    woken, wake = socket.socketpair()
    thread = threading.Thread(target=serve, args=([(sock, listen)], handle, refuse, open_log(str(log)), woken.fileno()))
    thread.start()
    try:
        yield address
    finally:
        wake.send(b"!")
        thread.join(10)
        assert not thread.is_alive()
        woken.close()
        wake.close()


def receive_all(sock: socket.socket) -> bytes:
    octets = b""
    while received := sock.recv(100):
        octets += received
    return octets


def test_each_connection_is_handled_and_then_closed(tmp_path: Path) -> None:
    with serving(greet, tmp_path / "log") as address:
        for _ in range(3):
            with socket.create_connection(address, 5) as client:
                assert receive_all(client) == b"hello"


def test_a_connection_too_many_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "MOST_SESSIONS", 1)
    wait = threading.Event()

    def occupy(sock: socket.socket, listen: Listen) -> None:
        sock.sendall(b"in")
        wait.wait(10)

    with serving(occupy, tmp_path / "log") as address:
        with socket.create_connection(address, 5) as first:
            assert first.recv(10) == b"in"
            with socket.create_connection(address, 5) as second:
                assert receive_all(second) == b"full"
            wait.set()
            assert receive_all(first) == b""
        with socket.create_connection(address, 5) as third:
            assert third.recv(10) == b"in"


def test_one_source_cannot_take_all_places() -> None:
    places = listener._Places()
    assert all(places.take("192.0.2.7") for _ in range(listener.MOST_OF_A_SOURCE))
    assert not places.take("192.0.2.7")
    assert places.take("192.0.2.8")
    places.leave("192.0.2.7")
    assert places.take("192.0.2.7")


def test_this_machine_may_take_all_places() -> None:
    places = listener._Places()
    assert all(places.take(source("127.0.0.1")) for _ in range(listener.MOST_SESSIONS))
    assert not places.take(source("192.0.2.7"))


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


def test_a_place_is_free_again_where_no_thread_could_be_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "MOST_SESSIONS", 1)
    with serving(greet, tmp_path / "log") as address:
        with monkeypatch.context() as poor:
            poor.setattr(threading.Thread, "start", no_room)
            for _ in range(2):
                with socket.create_connection(address, 5) as client:
                    assert receive_all(client) == b""
        with socket.create_connection(address, 5) as client:
            assert receive_all(client) == b"hello"


def no_room(thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_a_session_that_crashes_is_logged_without_its_values_and_harms_no_other(tmp_path: Path) -> None:
    def crash(sock: socket.socket, listen: Listen) -> None:
        sock.sendall(b"x")
        raise ValueError("a password")

    with serving(crash, tmp_path / "log") as address:
        for _ in range(2):
            with socket.create_connection(address, 5) as client:
                assert receive_all(client) == b"x"
    lines = (tmp_path / "log").read_text().splitlines()
    assert len(lines) == 2
    assert all("session-crashed" in line and "ValueError" in line and "test_listener.py" in line for line in lines)
    assert "password" not in "".join(lines)


def test_stopping_waits_for_sessions_and_accepts_no_more(tmp_path: Path) -> None:
    said, done = threading.Event(), threading.Event()

    def converse(sock: socket.socket, listen: Listen) -> None:
        sock.sendall(b"in")
        assert said.wait(10)
        sock.sendall(b"out")
        done.set()

    (sock,) = bind(listen := Listen(address="127.0.0.1"))
    woken, wake = socket.socketpair()
    arguments = ([(sock, listen)], converse, refuse, open_log(os.devnull), woken.fileno())
    thread = threading.Thread(target=serve, args=arguments)
    address = sock.getsockname()
    thread.start()
    with socket.create_connection(address, 5) as client:
        assert client.recv(10) == b"in"
        wake.send(b"!")
        while sock.fileno() >= 0:
            select.poll().poll(1)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, 5)
        assert thread.is_alive()
        said.set()
        assert receive_all(client) == b"out"
    thread.join(10)
    assert done.is_set()
    woken.close()
    wake.close()
