"""A channel: messages and descriptors between two processes, over one AF_UNIX SOCK_SEQPACKET socket."""

import array
import contextlib
import errno
import os
import select
import socket
import struct
from collections.abc import Sequence

from sendooway.privsep import messages
from sendooway.privsep.messages import MAX_OCTETS, Message, ProtocolError

# A peer that has not taken a datagram for so long is stuck; every wait has a limit.
SEND_SECONDS = 5
_SEND_TIMEOUT = struct.pack("@ll", SEND_SECONDS, 0)  # a timeval, for setsockopt(2)

# No message has more than two descriptors beside it.
MAX_DESCRIPTORS = 2


class ChannelClosed(Exception):
    """The other process has ended or has closed its end."""


class Channel:
    """One end of a channel. It owns its socket.

    One thread receives; several may send, since a datagram is sent whole or not at all.
    """

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        # The socket blocks, and the kernel keeps this limit by itself: a datagram is one system call.
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _SEND_TIMEOUT)

    def fileno(self) -> int:
        """The descriptor, to wait for: readable when a message or the end is there."""
        return self._socket.fileno()

    def send(self, message: Message, descriptors: Sequence[int] = (), *, wait: bool = True) -> None:
        """Send a message, with copies of `descriptors` beside it.

        Raises ProtocolError for a message too long, ChannelClosed, and TimeoutError if the peer takes nothing for
        SEND_SECONDS; if not to `wait`, at once.
        """
        octets = messages.format(message)
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        try:
            self._socket.sendmsg([octets], ancillary, 0 if wait else socket.MSG_DONTWAIT)
        except BlockingIOError:
            raise TimeoutError("timed out") from None
        except (BrokenPipeError, ConnectionResetError):
            raise ChannelClosed from None

    def receive(self, allowed: frozenset[type[Message]], seconds: float | None) -> Message:
        """The next message, beside which no descriptor may be.

        Raises ProtocolError for anything else than one message of `allowed`, ChannelClosed, and TimeoutError if
        nothing arrives within `seconds` (None: wait on).
        """
        message, _ = self.receive_descriptors(allowed, seconds, 0)
        return message

    def receive_descriptors(
        self, allowed: frozenset[type[Message]], seconds: float | None, limit: int = MAX_DESCRIPTORS
    ) -> tuple[Message, list[int]]:
        """The next message and up to `limit` descriptors that came beside it: close-on-exec, owned by the caller.

        Raises what `receive` raises; with more descriptors than `limit`, ProtocolError; and OSError (EMFILE) if this
        process had no room for one: that is not the peer's fault. Then none stays open.
        """
        space = socket.CMSG_SPACE(limit * array.array("i").itemsize) if limit else 0
        if seconds is not None:
            self._await(seconds)
        try:
            # Who has given us our end may have kept a copy, and take what was there a moment ago.
            how = socket.MSG_CMSG_CLOEXEC | (0 if seconds is None else socket.MSG_DONTWAIT)
            try:
                # One octet more than allowed, so that a datagram too long is seen and not cut.
                octets, ancillary, flags, _ = self._socket.recvmsg(MAX_OCTETS + 1, space, how)
            except ConnectionResetError:
                # The peer has closed its end before it read all. That is told once, and before what it has sent.
                octets, ancillary, flags, _ = self._socket.recvmsg(MAX_OCTETS + 1, space, how)
        except BlockingIOError:
            raise TimeoutError("timed out") from None
        descriptors = _parse_rights(ancillary)
        try:
            if flags & socket.MSG_CTRUNC and len(descriptors) < limit:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            if flags & socket.MSG_CTRUNC or len(descriptors) > limit:
                raise ProtocolError("a message with unexpected descriptors")
            if not octets:
                raise ChannelClosed
            return messages.parse(octets, allowed), descriptors
        except (ProtocolError, ChannelClosed, OSError):
            for descriptor in descriptors:
                os.close(descriptor)
            raise

    def _await(self, seconds: float) -> None:
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        if not poll.poll(seconds * 1000):
            raise TimeoutError("timed out")

    def end_sending(self) -> None:
        """Close it for sending: the peer receives what was sent, and then its end. What it sends still arrives."""
        with contextlib.suppress(OSError):  # the peer has ended
            self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._socket.close()

    def detach(self) -> int:
        """Give the descriptor away: the channel is closed, the descriptor is the caller's."""
        return self._socket.detach()


def pair() -> tuple[Channel, Channel]:
    """Both ends of a new channel. Raises OSError when descriptors are short."""
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return Channel(one), Channel(other)


def given(descriptors: list[int]) -> Channel:
    """A channel, an end of which has come beside a message of somebody who is trusted. Raises ProtocolError."""
    if len(descriptors) != 1:
        raise ProtocolError("a message without the channel that belongs to it")
    return Channel(socket.socket(fileno=descriptors[0]))


def _parse_rights(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    numbers = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            # The kernel cuts at whole descriptors, the C library's padding may follow.
            numbers.frombytes(data[: len(data) - len(data) % numbers.itemsize])
    return list(numbers)
