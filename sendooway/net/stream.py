"""A connection as a stream of octets, with every wait bounded.

A transport does one operation at once or not at all: a socket, a pair of pipes, or TLS upon a socket (`tls.py`).
A stream waits for it.
"""

import os
import select
import socket
from typing import Protocol

from sendooway.net.deadline import Deadline

RECEIVE_OCTETS = 65536
_MAX_UNREAD = 8 << 20  # octets; the kernel keeps at most 6 MiB for a connection (net.ipv4.tcp_rmem)
_PIPE_OCTETS = 4096  # PIPE_BUF: a pipe that polls writable takes as much without blocking


class ConnectionLost(Exception):
    """The connection broke other than by an orderly end. The text says how."""


class Stopping(Exception):
    """The server stops, and this session's time is over."""

    def __str__(self) -> str:
        return "the server stops"


class Transport(Protocol):
    """What a stream is made of. Both operations raise ConnectionLost. It keeps no octets, so that poll(2) tells of all
    that can be received."""

    read_events: int  # of poll(2), after which receive_now may succeed
    write_events: int  # and send_now

    def receive_now(self) -> bytes | None:
        """Octets; none at the orderly end; None if there is nothing now."""

    def send_now(self, octets: bytes | bytearray | memoryview) -> int:
        """How many of the octets went out, perhaps 0."""

    def descriptors(self) -> tuple[int, int]:
        """The descriptors to poll for reading, and for writing."""

    def close(self) -> None: ...


class SocketTransport:
    """A connected stream socket, TCP or UNIX, which becomes non-blocking."""

    def __init__(self, sock: socket.socket) -> None:
        self.read_events = select.POLLIN
        self.write_events = select.POLLOUT
        self.socket = sock
        sock.setblocking(False)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            # One write is one reply or one batch: nothing is gained by holding it back (RFC 9293, 3.7.4).
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def receive_now(self, limit: int = RECEIVE_OCTETS, flags: int = 0) -> bytes | None:
        """At most `limit` octets, with the `flags` of recv(2); what it returns is as for every transport."""
        try:
            return self.socket.recv(limit, flags)
        except BlockingIOError:
            return None
        except OSError as error:
            raise ConnectionLost(str(error.strerror)) from error

    def send_now(self, octets: bytes | bytearray | memoryview) -> int:
        try:
            return self.socket.send(octets)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise ConnectionLost(str(error.strerror)) from error

    def descriptors(self) -> tuple[int, int]:
        return self.socket.fileno(), self.socket.fileno()

    def close(self) -> None:
        end(self.socket)


def end(sock: socket.socket) -> None:
    """Closes so that the last reply arrives: octets that nobody read would make the kernel reset the connection.

    Without end it reads nothing, so that who sends without a pause does not keep us.
    """
    try:
        sock.shutdown(socket.SHUT_WR)
        for _ in range(_MAX_UNREAD // RECEIVE_OCTETS):
            if not sock.recv(RECEIVE_OCTETS):
                break
    except OSError:
        pass  # nothing there, or the other side is gone
    finally:
        sock.close()


class PipeTransport:
    """Two descriptors: pipes, a terminal, files. They are not made non-blocking, since they may be shared."""

    def __init__(self, reading: int, writing: int) -> None:
        self.read_events = select.POLLIN
        self.write_events = select.POLLOUT
        self._reading = reading
        self._writing = writing

    def receive_now(self) -> bytes | None:
        if not _ready(self._reading, select.POLLIN):
            return None
        try:
            return os.read(self._reading, RECEIVE_OCTETS)
        except OSError as error:
            raise ConnectionLost(str(error.strerror)) from error

    def send_now(self, octets: bytes | bytearray | memoryview) -> int:
        if not _ready(self._writing, select.POLLOUT):
            return 0
        try:
            return os.write(self._writing, memoryview(octets)[:_PIPE_OCTETS])
        except OSError as error:
            raise ConnectionLost(str(error.strerror)) from error

    def descriptors(self) -> tuple[int, int]:
        return self._reading, self._writing

    def close(self) -> None:
        os.close(self._reading)
        if self._writing != self._reading:
            os.close(self._writing)


def _ready(descriptor: int, events: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, events)
    return bool(poll.poll(0))


class Stream:
    """One side of the session. `stop` is a descriptor that becomes readable when every session must end."""

    def __init__(self, transport: Transport, stop: int | None = None) -> None:
        self.transport = transport
        self.stop = stop

    def receive(self, deadline: Deadline) -> bytes:
        """Receive some octets, at most RECEIVE_OCTETS; none at the orderly end.

        Raises ConnectionLost, TimeoutError at the deadline, Stopping.
        """
        # The other side answers what we have just said: to wait first is cheaper than to find nothing.
        octets = None
        while octets is None:
            self.wait(self.transport.descriptors()[0], self.transport.read_events, deadline)
            octets = self.transport.receive_now()
        return octets

    def send(self, octets: bytes, deadline: Deadline) -> None:
        """Send all of the octets. Raises ConnectionLost, TimeoutError at the deadline, Stopping."""
        rest = memoryview(octets)
        while rest:
            sent = self.transport.send_now(rest)
            rest = rest[sent:]
            if rest:
                self.wait(self.transport.descriptors()[1], self.transport.write_events, deadline)

    def wait(self, descriptor: int, events: int, deadline: Deadline) -> None:
        """Wait for one of the `events` of poll(2) at `descriptor`. Raises TimeoutError at the deadline, Stopping."""
        poll = select.poll()
        poll.register(descriptor, events)
        if self.stop is not None:
            poll.register(self.stop, select.POLLIN)
        ready = dict(poll.poll(deadline.left() * 1000))
        if not ready:
            deadline.left()
        elif descriptor not in ready:
            raise Stopping

    def close(self) -> None:
        self.transport.close()
