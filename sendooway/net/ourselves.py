"""Which connections lead to this server itself. As a smarthost it would hand a mail to itself, again and again, until
it has no place left for anybody."""

import socket
from collections.abc import Iterable

from sendooway.loopback import is_loopback


class Ourselves:
    """The addresses of this server: those of its listening sockets, or of our end of its only connection."""

    def __init__(self, sockets: Iterable[socket.socket] = ()) -> None:
        self._names = {sock.getsockname()[:2] for sock in sockets if sock.family in (socket.AF_INET, socket.AF_INET6)}

    def answers(self, connection: socket.socket) -> bool:
        """Whether this server is at the other end of a connection that we have made."""
        try:
            host, port = connection.getpeername()[:2]
        except OSError:
            return False  # it broke already, as whoever uses it will notice
        here = {host}
        # A socket may listen on all addresses of this machine. A connection to one of these comes from that same
        # address, or leads to a loopback one.
        if connection.getsockname()[0] == host or is_loopback(host):
            here |= {"0.0.0.0", "::"}  # noqa: S104
        return any((name, port) in self._names for name in here)
