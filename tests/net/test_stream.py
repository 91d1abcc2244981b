import os
import socket
from collections.abc import Iterator

import pytest
from servers.processes import PATIENCE

from sendooway.net.deadline import Deadline
from sendooway.net.stream import ConnectionLost, PipeTransport, SocketTransport, Stopping, Stream


@pytest.fixture
def pair() -> Iterator[tuple[Stream, socket.socket]]:
    ours, theirs = socket.socketpair()
    stream = Stream(SocketTransport(ours))
    yield stream, theirs
    stream.close()
    theirs.close()


def test_what_is_sent_is_received(pair: tuple[Stream, socket.socket]) -> None:
    stream, peer = pair
    peer.sendall(b"hello")
    assert stream.receive(Deadline(PATIENCE)) == b"hello"
    stream.send(b"yes", Deadline(PATIENCE))
    assert peer.recv(10) == b"yes"


def test_the_orderly_end_is_no_octets(pair: tuple[Stream, socket.socket]) -> None:
    stream, peer = pair
    peer.shutdown(socket.SHUT_WR)
    assert stream.receive(Deadline(PATIENCE)) == b""


def test_waiting_ends_at_the_deadline(pair: tuple[Stream, socket.socket]) -> None:
    with pytest.raises(TimeoutError):
        pair[0].receive(Deadline(0.01))


def test_octets_without_end_do_not_put_off_the_deadline(pair: tuple[Stream, socket.socket]) -> None:
    stream, peer = pair
    peer.sendall(b"x")
    with pytest.raises(TimeoutError):
        stream.receive(Deadline(0))


def test_sending_to_a_peer_that_does_not_read_ends_at_the_deadline(pair: tuple[Stream, socket.socket]) -> None:
    with pytest.raises(TimeoutError):
        pair[0].send(bytes(10_000_000), Deadline(0.05))


def test_sending_to_a_peer_that_is_gone_is_a_lost_connection(pair: tuple[Stream, socket.socket]) -> None:
    stream, peer = pair
    peer.close()
    with pytest.raises(ConnectionLost, match="Broken pipe"):
        stream.send(b"x", Deadline(PATIENCE))


def test_a_reset_is_a_lost_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        theirs = socket.create_connection(server.getsockname())
        stream = Stream(SocketTransport(server.accept()[0]))
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    theirs.close()
    with pytest.raises(ConnectionLost, match="reset"):
        stream.receive(Deadline(PATIENCE))
    stream.close()


def test_a_stopping_server_ends_every_wait() -> None:
    ours, theirs = socket.socketpair()
    stopped, stop = socket.socketpair()
    stream = Stream(SocketTransport(ours), stopped.fileno())
    stop.send(b"!")
    with pytest.raises(Stopping):
        stream.receive(Deadline(PATIENCE))
    theirs.send(b"still served before")
    assert stream.receive(Deadline(PATIENCE)) == b"still served before"
    for sock in (ours, theirs, stopped, stop):
        sock.close()


def test_closing_lets_the_last_reply_arrive_although_the_peer_said_more() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        theirs = socket.create_connection(server.getsockname())
        stream = Stream(SocketTransport(server.accept()[0]))
    theirs.sendall(b"unread" * 1000)
    stream.send(b"421 bye", Deadline(PATIENCE))
    stream.close()
    assert theirs.recv(100) == b"421 bye"
    theirs.close()


def test_pipes_are_a_stream_too() -> None:
    read_ours, write_theirs = os.pipe()
    read_theirs, write_ours = os.pipe()
    stream = Stream(PipeTransport(read_ours, write_ours))
    assert stream.transport.receive_now() is None
    os.write(write_theirs, b"hello")
    assert stream.receive(Deadline(PATIENCE)) == b"hello"
    stream.send(b"yes" * 10_000, Deadline(PATIENCE))
    assert os.read(read_theirs, 30_000) == b"yes" * 10_000
    os.close(write_theirs)
    assert stream.receive(Deadline(PATIENCE)) == b""
    os.close(read_theirs)
    with pytest.raises(ConnectionLost):
        stream.send(b"nobody", Deadline(PATIENCE))
    stream.close()


def test_a_full_pipe_is_waited_for_until_the_deadline() -> None:
    reading, writing = os.pipe()
    stream = Stream(PipeTransport(reading, writing))
    with pytest.raises(TimeoutError):
        stream.send(bytes(200_000), Deadline(0.05))
    stream.close()
