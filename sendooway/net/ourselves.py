"""Which connections lead to this server itself. As a smarthost it would hand a mail to itself, again and again, until
it has no place left for anybody."""

import socket
from collections.abc import Iterable

from sendooway.config import is_loopback


class Ourselves:
    """Who listens on these sockets, or is at our end of these connections."""

    def __init__(self, sockets: Iterable[socket.socket] = ()) -> None:
        self._names = {sock.getsockname()[:2] for sock in sockets if sock.family in (socket.AF_INET, socket.AF_INET6)}

    def answers(self, connection: socket.socket) -> bool:
        """Whether it is us at the other end of a connection that was made."""
        try:
            host, port = connection.getpeername()[:2]
        except OSError:
            return False  # it broke already, as whoever uses it will notice
        here = {host}
        # Who listens on all addresses of this machine: to one of them, a connection comes from the same one, or a
        # loopback one.
        if connection.getsockname()[0] == host or is_loopback(host):
            here |= {"0.0.0.0", "::"}  # noqa: S104
        return any((name, port) in self._names for name in here)
