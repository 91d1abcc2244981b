"""Messages and descriptors between processes, over real sockets."""

import array
import os
import resource
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress

import pytest
from forked import in_child

from sendooway.privsep import channel as channels
from sendooway.privsep import messages
from sendooway.privsep.channel import Channel, ChannelClosed, pair
from sendooway.privsep.messages import (
    MAX_OCTETS,
    AgentWanted,
    LoginContinue,
    LookUp,
    ProtocolError,
)
from sendooway.secret import Secret

LOOK_UP = frozenset({LookUp})


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    one, other = pair()
    yield one, other
    one.close()
    other.close()


@pytest.fixture
def raw() -> Iterator[tuple[socket.socket, Channel]]:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    channel = Channel(other)
    yield one, channel
    one.close()
    channel.close()


def open_descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def test_messages_arrive_one_by_one_and_in_order(ends: tuple[Channel, Channel]) -> None:
    one, other = ends
    one.send(LookUp("a"))
    one.send(LookUp("b"))
    assert other.receive(LOOK_UP, 1) == LookUp("a")
    assert other.receive(LOOK_UP, 1) == LookUp("b")


def test_the_longest_message_arrives(ends: tuple[Channel, Channel]) -> None:
    one, other = ends
    longest = LookUp("x" * (MAX_OCTETS - len(messages.format(LookUp("")))))
    one.send(longest)
    assert other.receive(LOOK_UP, 1) == longest


def test_a_message_too_long_is_not_sent(ends: tuple[Channel, Channel]) -> None:
    with pytest.raises(ProtocolError):
        ends[0].send(LookUp("x" * MAX_OCTETS))


def test_descriptors_arrive_beside_their_message_and_close_on_exec(ends: tuple[Channel, Channel]) -> None:
    one, other = ends
    reading, writing = os.pipe()
    one.send(AgentWanted("s1", ""), (writing,))
    os.close(writing)
    message, (received,) = other.receive_descriptors(frozenset({AgentWanted}), 1)
    assert message == AgentWanted("s1", "")
    assert not os.get_inheritable(received)
    os.write(received, b"through")
    os.close(received)
    assert os.read(reading, 16) == b"through"
    os.close(reading)


@pytest.mark.parametrize(("sent", "limit"), [(1, 0), (2, 0), (2, 1), (3, 2), (9, 2)])
def test_descriptors_that_nobody_expects_are_refused_and_closed(
    ends: tuple[Channel, Channel], sent: int, limit: int
) -> None:
    one, other = ends
    before = open_descriptors()
    one.send(LookUp("a"), [0] * sent)
    with pytest.raises(ProtocolError):
        other.receive_descriptors(LOOK_UP, 1, limit)
    assert open_descriptors() == before


def test_descriptors_for_which_there_is_no_room_are_nobody_s_fault(ends: tuple[Channel, Channel]) -> None:
    one, other = ends
    one.send(LookUp("a"), (0, 0))

    def receive() -> list[object]:
        limit = max(map(int, open_descriptors())) + 1
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
        with suppress(OSError):
            while True:
                spare = os.dup(0)
        os.close(spare)
        before = open_descriptors()
        try:
            other.receive_descriptors(LOOK_UP, 1)
        except OSError as error:
            return [error.strerror, open_descriptors() == before]
        return []

    assert in_child(receive) == ["Too many open files", True]


@pytest.mark.parametrize("octets", [b"x", b"{}", messages.format(LoginContinue(Secret(b"x"))), b" " * (MAX_OCTETS + 9)])
def test_descriptors_beside_nonsense_are_closed(raw: tuple[socket.socket, Channel], octets: bytes) -> None:
    one, other = raw
    before = open_descriptors()
    one.sendmsg([octets], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0]))])
    with pytest.raises(ProtocolError):
        other.receive_descriptors(LOOK_UP, 1)
    assert open_descriptors() == before


def test_a_closed_end_is_told_apart_from_silence(ends: tuple[Channel, Channel]) -> None:
    one, other = ends
    with pytest.raises(TimeoutError):
        other.receive(LOOK_UP, 0.01)
    one.close()
    with pytest.raises(ChannelClosed):
        other.receive(LOOK_UP, 1)
    with pytest.raises(ChannelClosed):
        other.send(LookUp("a"))


def test_a_message_that_another_copy_of_the_end_takes_is_not_waited_for(
    ends: tuple[Channel, Channel], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = ends
    copy = os.dup(other.fileno())
    one.send(LookUp("a"))
    wait = Channel._await

    def steal(channel: Channel, seconds: float) -> None:
        wait(channel, seconds)
        os.read(copy, MAX_OCTETS)

    monkeypatch.setattr(Channel, "_await", steal)
    with pytest.raises(TimeoutError):
        other.receive(LOOK_UP, 1)
    os.close(copy)


def test_an_end_closed_before_it_read_its_messages_is_closed(ends: tuple[Channel, Channel]) -> None:
    one, other = ends
    other.send(LookUp("a"))
    one.close()
    with pytest.raises(ChannelClosed):
        other.receive(LOOK_UP, 1)


def test_what_was_sent_before_that_arrives(ends: tuple[Channel, Channel]) -> None:
    one, other = ends
    other.send(LookUp("unread"))
    one.send(LookUp("last"))
    one.close()
    assert other.receive(LOOK_UP, 1) == LookUp("last")
    with pytest.raises(ChannelClosed):
        other.receive(LOOK_UP, 1)


def test_a_peer_that_takes_nothing_is_waited_for_only_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "_SEND_TIMEOUT", struct.pack("@ll", 0, 10_000))
    one, other = channels.pair()

    def fill() -> None:
        while True:
            one.send(LookUp("x" * 60000))

    with pytest.raises(TimeoutError):
        fill()
    one.close()
    other.close()


def test_a_detached_descriptor_outlives_its_channel(ends: tuple[Channel, Channel]) -> None:
    one, other = ends
    again = Channel(socket.socket(fileno=one.detach()))
    again.send(LookUp("a"))
    assert other.receive(LOOK_UP, 1) == LookUp("a")
    again.close()
