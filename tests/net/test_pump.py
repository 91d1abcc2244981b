"""The splice over real sockets: what the relay cannot show by itself, which is I/O, time limits and back-pressure."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from servers.processes import PATIENCE

from sendooway.net.deadline import Deadline
from sendooway.net.pump import ClientTimeout, splice
from sendooway.net.stream import SocketTransport, Stopping, Stream
from sendooway.smtp.capabilities import Capabilities
from sendooway.smtp.command import Envelope
from sendooway.smtp.lines import LineReader
from sendooway.smtp.relay import ROOM, Relay, Wait

LIMITS = dict.fromkeys(Wait, PATIENCE)


@dataclass
class Rig:
    """A splice in a thread, and the far ends of both its connections."""

    client: socket.socket
    smarthost: socket.socket
    relay: Relay
    lines: LineReader
    ours: tuple[Stream, Stream]
    limits: dict[Wait, float]
    due: Deadline = field(default_factory=lambda: Deadline(60))
    error: BaseException | None = None

    def start(self) -> None:
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            splice(*self.ours, self.relay, self.limits, self.due)
        except (ClientTimeout, Stopping) as error:
            self.error = error

    def finish(self) -> None:
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()

    def open_body(self) -> None:
        """To the point where the client sends the message."""
        self.start()
        assert self.smarthost.recv(100) == b"MAIL FROM:<a@b.test>\r\n"
        self.client.sendall(b"RCPT TO:<c@d.test>\r\nDATA\r\n")
        assert self.smarthost.recv(100) == b"RCPT TO:<c@d.test>\r\n"
        self.smarthost.sendall(b"250 2.1.0 ok\r\n250 2.1.5 ok\r\n")
        assert self.smarthost.recv(100) == b"DATA\r\n"
        self.smarthost.sendall(b"354 go on\r\n")
        assert read_until(self.client, b"354 go on\r\n") == b"250 2.1.0 ok\r\n250 2.1.5 ok\r\n354 go on\r\n"


def read_until(sock: socket.socket, end: bytes) -> bytes:
    octets = b""
    while not octets.endswith(end):
        received = sock.recv(65536)
        assert received, octets
        octets += received
    return octets


@pytest.fixture
def rig() -> Iterator[Rig]:
    client, client_ours = socket.socketpair()
    smarthost, smarthost_ours = socket.socketpair()
    for sock in (client, smarthost):
        sock.settimeout(PATIENCE)
    ours = Stream(SocketTransport(client_ours)), Stream(SocketTransport(smarthost_ours))
    lines = LineReader()
    relay = Relay(lines, Envelope("a@b.test", {}), Capabilities({"PIPELINING": ""}))
    yield Rig(client, smarthost, relay, lines, ours, dict(LIMITS))
    for stream in ours:
        stream.close()
    client.close()
    smarthost.close()


def test_a_message_of_many_buffers_passes_unchanged(rig: Rig) -> None:
    rig.open_body()
    message = b"".join(b"%d ..dots.\r\n" % number for number in range(200_000))
    sender = threading.Thread(target=rig.client.sendall, args=(message + b".\r\n",))
    sender.start()
    assert read_until(rig.smarthost, b"\r\n.\r\n") == message + b".\r\n"
    rig.smarthost.sendall(b"250 2.0.0 queued\r\n")
    assert read_until(rig.client, b"\r\n") == b"250 2.0.0 queued\r\n"
    sender.join()
    rig.finish()
    assert rig.relay.outcome is not None
    assert rig.relay.outcome.octets == len(message)


def test_a_smarthost_that_does_not_read_stops_the_client_being_read(rig: Rig) -> None:
    rig.limits[Wait.CLIENT_BODY] = 0.5
    rig.open_body()
    rig.client.settimeout(0.2)
    lines = (b"x" * 1022 + b"\r\n") * 4096
    with pytest.raises(TimeoutError):
        rig.client.sendall(lines)
    assert len(rig.relay.for_smarthost) <= 2 * ROOM
    rig.client.close()
    rig.finish()
    assert rig.relay.outcome is None


def test_what_the_relay_did_not_forward_is_back_in_the_lines(rig: Rig) -> None:
    rig.start()
    rig.client.sendall(b"RSET\r\nMAIL FROM:<next@b.test>\r\n")
    rig.smarthost.sendall(b"250 2.1.0 ok\r\n")
    rig.finish()
    assert [rig.lines.next_line(), rig.lines.next_line()] == [b"RSET", b"MAIL FROM:<next@b.test>"]


def test_a_client_that_says_nothing_is_a_client_timeout(rig: Rig) -> None:
    rig.limits[Wait.CLIENT_COMMAND] = 0.05
    rig.start()
    rig.smarthost.sendall(b"250 2.1.0 ok\r\n")
    rig.finish()
    assert isinstance(rig.error, ClientTimeout)


def test_a_client_that_stops_in_the_body_is_a_client_timeout(rig: Rig) -> None:
    rig.limits[Wait.CLIENT_BODY] = 0.05
    rig.open_body()
    rig.finish()
    assert isinstance(rig.error, ClientTimeout)


@pytest.mark.parametrize("words", [b"", b"250-2.1.0 half a reply\r\n"])
def test_a_smarthost_that_does_not_answer_is_given_up(rig: Rig, words: bytes) -> None:
    rig.limits[Wait.REPLY] = 0.05
    rig.start()
    rig.smarthost.sendall(words)
    assert b"451 4.4.2 The smarthost was lost: no reply within 0.05 seconds" in rig.client.recv(1000)
    rig.client.sendall(b"QUIT\r\n")
    rig.finish()


def test_a_smarthost_that_takes_no_octets_is_given_up(rig: Rig) -> None:
    rig.limits[Wait.CLIENT_BODY] = 0.2
    rig.open_body()
    sender = threading.Thread(target=rig.client.sendall, args=(b"x" * 2_000_000 + b"\r\n.\r\n",))
    sender.start()
    assert b"451 4.4.2 The smarthost was lost: it took no octets" in rig.client.recv(1000)
    sender.join()
    rig.finish()
    assert b"\r\n.\r\n" not in bytes(rig.relay.for_smarthost)


def test_the_last_words_of_a_smarthost_that_closes_in_the_body_are_heard(rig: Rig) -> None:
    rig.open_body()
    rig.smarthost.sendall(b"552 5.3.4 too big\r\n")
    rig.smarthost.close()
    rig.client.sendall(b"x\r\n.\r\n")
    assert read_until(rig.client, b"\r\n") == b"552 5.3.4 too big\r\n"
    rig.finish()
    assert rig.relay.lost is not None


@pytest.mark.parametrize("reset", [False, True])
def test_a_smarthost_that_vanishes_in_the_body_is_451_after_its_end(rig: Rig, reset: bool) -> None:
    rig.open_body()
    if reset:
        rig.smarthost.shutdown(socket.SHUT_RDWR)
    rig.smarthost.close()
    rig.client.sendall(b"x\r\n" * 1000)
    rig.client.sendall(b".\r\n")
    assert rig.client.recv(1000).startswith(b"451 4.4.2 ")
    rig.finish()


def test_a_client_that_vanishes_in_the_body_leaves_the_message_unfinished(rig: Rig) -> None:
    rig.open_body()
    rig.client.sendall(b"half a mes")
    rig.client.close()
    rig.finish()
    rig.ours[1].close()
    received = b""
    while octets := rig.smarthost.recv(1000):
        received += octets
    assert received in (b"", b"half a mes")
    assert rig.relay.outcome is None


def test_a_client_that_vanishes_after_the_final_dot_does_not_unsend_the_message(rig: Rig) -> None:
    rig.open_body()
    rig.client.sendall(b"all of it\r\n.\r\n")
    rig.client.close()
    assert read_until(rig.smarthost, b"\r\n.\r\n") == b"all of it\r\n.\r\n"
    rig.smarthost.sendall(b"250 2.0.0 queued\r\n")
    rig.finish()
    assert rig.relay.outcome is not None
    assert rig.relay.outcome.reply.code == 250


def test_a_stopping_server_ends_the_splice(rig: Rig) -> None:
    stopped, stop = socket.socketpair()
    rig.ours[0].stop = stopped.fileno()
    rig.start()
    stop.send(b"!")
    rig.finish()
    assert isinstance(rig.error, Stopping)
    stopped.close()
    stop.close()


def test_a_reply_that_has_not_come_when_a_message_is_due_is_not_the_smarthosts_fault(rig: Rig) -> None:
    rig.due = Deadline(0.5)
    rig.start()
    assert rig.smarthost.recv(100) == b"MAIL FROM:<a@b.test>\r\n"
    rig.finish()
    assert isinstance(rig.error, ClientTimeout)
    assert rig.relay.lost is None


def test_a_client_that_talks_but_begins_no_message_is_ended_when_that_is_due(rig: Rig) -> None:
    rig.due = Deadline(0.5)
    rig.start()
    assert rig.smarthost.recv(100) == b"MAIL FROM:<a@b.test>\r\n"
    rig.smarthost.sendall(b"250 2.1.0 ok\r\n")
    rig.smarthost.settimeout(0.1)
    while rig.error is None:
        rig.client.sendall(b"NOOP\r\n")
        with contextlib.suppress(TimeoutError):  # it is over, or busy
            heard = rig.smarthost.recv(1000)
            rig.smarthost.sendall(b"250 2.0.0 ok\r\n" * heard.count(b"NOOP\r\n"))
    rig.finish()
    assert str(rig.error) == "no message within 0.5 seconds"


@pytest.mark.slow
def test_a_message_that_has_begun_may_last_longer(rig: Rig) -> None:
    rig.due = Deadline(2)
    rig.open_body()
    rig.client.sendall(b"Hello\r\n")
    while not _over(rig.due):
        rig.thread.join(0.05)
    rig.client.sendall(b".\r\n")
    assert read_until(rig.smarthost, b"\r\n.\r\n") == b"Hello\r\n.\r\n"
    rig.smarthost.sendall(b"250 2.0.0 queued\r\n")
    assert read_until(rig.client, b"queued\r\n")
    rig.finish()


def _over(deadline: Deadline) -> bool:
    try:
        deadline.left()
    except TimeoutError:
        return True
    return False
