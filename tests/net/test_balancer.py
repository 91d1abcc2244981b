"""A header is taken from the beginning of a connection, and nothing of what follows it."""

import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager

import pytest
from cuttings import WAYS, cut, places
from hypothesis import given
from hypothesis import strategies as st
from servers.processes import PATIENCE

from sendooway.net import balancer
from sendooway.net.balancer import receive_told
from sendooway.net.deadline import Deadline
from sendooway.net.proxy_protocol import HeaderError
from sendooway.net.stream import SocketTransport, Stopping, Stream

LINE = b"PROXY TCP4 192.0.2.7 203.0.113.1 56324 587\r\n"
BINARY = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x07\xcb\x00\x71\x01\xdc\x04\x02\x4b"
FOLLOWS = b"EHLO client.test\r\nNOOP\r\n"

Cutting = Callable[[bytes], list[bytes]]


class Pair:
    """A balancer's end, and ours. They are of TCP, where octets come in pieces of their own making."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.theirs = socket.create_connection(listener.getsockname(), PATIENCE)
            ours, _ = listener.accept()
        self.theirs.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.stream = Stream(SocketTransport(ours))

    def close(self) -> None:
        self.theirs.close()
        self.stream.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    with closing(Pair()) as pair:
        yield pair


@contextmanager
def sending(pair: Pair, pieces: Iterable[bytes]) -> Iterator[None]:
    def send() -> None:
        for piece in pieces:
            pair.theirs.sendall(piece)

    sender = threading.Thread(target=send)
    sender.start()
    yield
    sender.join(30)


def rest(stream: Stream, length: int) -> bytes:
    octets = b""
    while len(octets) < length:
        octets += stream.receive(Deadline(30))
    return octets


@pytest.mark.parametrize("header", [LINE, BINARY])
@pytest.mark.parametrize("way", WAYS)
def test_what_follows_is_left_to_the_session(header: bytes, way: Cutting, pair: Pair) -> None:
    with sending(pair, way(header + FOLLOWS)):
        assert receive_told(pair.stream) == "192.0.2.7"
        assert rest(pair.stream, len(FOLLOWS)) == FOLLOWS


@given(st.sampled_from([LINE, BINARY, b"PROXY UNKNOWN\r\n"]), places)
def test_any_cutting_is_the_same(header: bytes, where: list[int]) -> None:
    with closing(Pair()) as pair, sending(pair, cut(header + FOLLOWS, where)):
        assert receive_told(pair.stream) == (None if b"UNKNOWN" in header else "192.0.2.7")
        assert rest(pair.stream, len(FOLLOWS)) == FOLLOWS


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (b"", "the connection ended without a PROXY header"),
        (LINE[:20], "the connection ended within a PROXY header"),
        (BINARY[:20], "the connection ended within a PROXY header"),
        (b"EHLO client.test\r\n", "there is no PROXY header"),
    ],
)
def test_a_connection_that_ends_before_its_header_is_refused(octets: bytes, reason: str, pair: Pair) -> None:
    pair.theirs.sendall(octets)
    pair.theirs.shutdown(socket.SHUT_WR)
    with pytest.raises(HeaderError) as error:
        receive_told(pair.stream)
    assert str(error.value) == reason


@pytest.mark.parametrize(
    ("octets", "reason"),
    [(b"", "no PROXY header within 0.2 seconds"), (LINE[:-1], "no whole PROXY header within 0.2 seconds")],
)
def test_a_header_has_its_time(octets: bytes, reason: str, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(balancer, "HEADER_SECONDS", 0.2)
    pair.theirs.sendall(octets)
    with pytest.raises(HeaderError) as error:
        receive_told(pair.stream)
    assert str(error.value) in (reason, reason.replace(" whole", ""))


def test_a_connection_that_breaks_is_refused(pair: Pair) -> None:
    pair.theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    pair.theirs.close()
    with pytest.raises(HeaderError, match="the connection broke before its PROXY header: Connection reset by peer"):
        receive_told(pair.stream)


def test_a_server_that_stops_does_not_wait_for_it(pair: Pair) -> None:
    stop, stopper = socket.socketpair()
    stopper.sendall(b"!")
    with stop, stopper, pytest.raises(Stopping):
        receive_told(Stream(pair.stream.transport, stop.fileno()))
