"""The conversations of tests/dialogues/relay, held through the splice over real sockets.

What has to come out, and when, tells a relay of paper that is given the same.
"""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import groupby

import pytest
from dialogue import Dialogue, Step, load, make_relay
from servers.processes import wait_until

from sendooway.net.deadline import Deadline
from sendooway.net.pump import splice
from sendooway.net.stream import SocketTransport, Stream
from sendooway.smtp.lines import LineReader
from sendooway.smtp.relay import Relay, Wait

pytestmark = pytest.mark.slow

LIMITS = dict.fromkeys(Wait, 30.0)


class Counting(Relay):
    """Tells how much the splice has given it."""

    from_client = from_smarthost = 0
    left = False

    def receive_from_client(self, octets: bytes) -> None:
        super().receive_from_client(octets)
        self.from_client += len(octets)

    def receive_from_smarthost(self, octets: bytes) -> None:
        super().receive_from_smarthost(octets)
        self.from_smarthost += len(octets)

    def client_closed(self) -> None:
        super().client_closed()
        self.left = True


class Spliced:
    def __init__(self, dialogue: Dialogue, stack: ExitStack) -> None:
        self.lines, paper_lines = LineReader(), LineReader()
        relay = make_relay(dialogue, self.lines, Counting)
        assert isinstance(relay, Counting)
        self.relay, self.paper = relay, make_relay(dialogue, paper_lines)
        self.client, client = socket.socketpair()
        self.smarthost, smarthost = socket.socketpair()
        ours = self.ours, _ = Stream(SocketTransport(client)), Stream(SocketTransport(smarthost))
        self.thread = threading.Thread(target=splice, args=(*ours, relay, LIMITS, Deadline(300)))
        for stream in ours:
            stack.callback(stream.close)
        stack.callback(self.thread.join)
        for sock in (self.client, self.smarthost):
            sock.settimeout(30)
            stack.callback(sock.close)
        self.thread.start()
        self.passed_on = b""  # by the relay of paper
        self.listen()

    def do(self, kind: str, steps: list[Step]) -> None:
        octets = b"".join(step.octets for step in steps)
        match kind:
            case "C":
                self.paper.receive_from_client(octets)
                wanted = self.relay.from_client + len(octets)
                self.client.sendall(octets)
                self.wait(lambda: self.relay.from_client == wanted)
            case "<":
                # A connection that is cut says nothing any more.
                if self.paper.lost is None:
                    self.paper.receive_from_smarthost(octets)
                    wanted = self.relay.from_smarthost + len(octets)
                    self.smarthost.sendall(octets)
                    self.wait(lambda: self.relay.from_smarthost == wanted)
            case _ if steps[0].text == "client closes":
                self.paper.client_closed()
                self.client.shutdown(socket.SHUT_WR)
                self.wait(lambda: self.relay.left)
            case _:
                self.paper.lose("it closed the connection")
                self.smarthost.shutdown(socket.SHUT_WR)
                self.wait(lambda: self.relay.lost is not None)
        self.listen()

    def wait(self, condition: object) -> None:
        """For what was just said to be heard, unless the relay needs no more of it."""
        assert callable(condition)
        wait_until(lambda: condition() or self.relay.done, "it is heard")

    def listen(self) -> None:
        """Both sides hear what they have to, and nothing before it."""
        heard = bytes(self.paper.for_client)
        self.paper.for_client.clear()
        assert receive(self.client, len(heard)) == heard
        if self.paper.lost is None:
            passed_on = bytes(self.paper.for_smarthost)
            self.passed_on += passed_on
            assert receive(self.smarthost, len(passed_on)) == passed_on
        self.paper.for_smarthost.clear()


def receive(sock: socket.socket, number: int) -> bytes:
    octets = b""
    while len(octets) < number and (received := sock.recv(number - len(octets))):
        octets += received
    return octets


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.mark.parametrize("dialogue", load("relay"), ids=str)
def test_dialogue_over_sockets(dialogue: Dialogue, stack: ExitStack) -> None:
    spliced = Spliced(dialogue, stack)
    for inputs, _ in dialogue.bursts():
        for kind, steps in groupby(inputs, lambda step: step.kind):
            spliced.do(kind, list(steps))
    assert spliced.paper.done
    spliced.thread.join(30)
    assert not spliced.thread.is_alive()
    assert spliced.relay.lost == spliced.paper.lost
    assert spliced.relay.outcome == spliced.paper.outcome
    # What came after the end is the session's to read.
    left_over = spliced.lines.take() + (spliced.ours.transport.receive_now() or b"")
    assert left_over == b"".join(step.octets for step in dialogue.steps if step.kind == "=")
