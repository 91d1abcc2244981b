"""Sockets that a service manager has opened for us: sd_listen_fds(3), by hand, for it is three variables.

Imported only where the environment has them.
"""

import errno
import os
import re
import socket
from collections.abc import MutableMapping
from dataclasses import dataclass

from sendooway.config import Listen

_FIRST = 3  # SD_LISTEN_FDS_START
_TLS_WORDS = frozenset({"tls", "smtps", "submissions"})


class ActivationError(Exception):
    """What was handed over cannot be served. The text says what it is, and what to do."""


@dataclass(frozen=True)
class Activation:
    """Either `listening` sockets, not blocking, or the descriptor of one accepted `connection`, or nothing.

    `tls`: the connection is TLS from the first octet. All of them are close-on-exec.
    """

    listening: tuple[tuple[socket.socket, Listen], ...] = ()
    connection: int | None = None
    tls: bool = False


def take(environment: MutableMapping[str, str]) -> Activation:
    """The sockets that are meant for this process; the variables are removed in any case.

    Raises ActivationError for names that do not fit the number of descriptors, for what is no stream socket, and for a
    connection that does not come alone.
    """
    pid, count, names = (environment.pop(f"LISTEN_{name}", "") for name in ("PID", "FDS", "FDNAMES"))
    if pid != str(os.getpid()):
        # Meant for a process that started us, and left in the environment.
        return Activation()
    found = [_Socket(number, name) for number, name in _numbered(count, names)]
    connections = [one for one in found if not one.listens]
    if not connections:
        return Activation(tuple((one.socket, one.endpoint()) for one in found))
    if len(found) > 1:
        raise ActivationError("LISTEN_FDS: a connection must come alone; `Accept=yes` or `Accept=no` would be right")
    return Activation(connection=connections[0].socket.detach(), tls=connections[0].tls)


def _numbered(count: str, names: str) -> list[tuple[int, str]]:
    # No process has more descriptors than a number of so many digits says.
    if not (count.isascii() and count.isdecimal() and len(count) <= 7):
        raise ActivationError(f"LISTEN_FDS={count!r} is not a number of descriptors")
    words = names.split(":") if names else ["unknown"] * int(count)
    if len(words) != int(count):
        # To guess which name is missing could offer a login in clear where TLS is meant.
        raise ActivationError(f"LISTEN_FDS={count}, but LISTEN_FDNAMES={names!r} has {len(words)} names")
    return list(enumerate(words, _FIRST))


class _Socket:
    """One descriptor with its name, checked. Raises ActivationError."""

    def __init__(self, number: int, name: str) -> None:
        self._what = f"LISTEN_FDS: descriptor {number} ({name})"
        # Words, so that `starttls` does not mean TLS.
        self.tls = not _TLS_WORDS.isdisjoint(re.split("[^a-z0-9]+", name.lower()))
        try:
            os.set_inheritable(number, False)
            self.socket = socket.socket(fileno=number)
        except OSError as error:
            reason = "no socket" if error.errno == errno.ENOTSOCK else error.strerror
            raise ActivationError(f"{self._what}: {reason}") from None
        families = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
        if self.socket.family not in families or self.socket.type != socket.SOCK_STREAM:
            self.socket.detach()
            raise ActivationError(f"{self._what}: no stream socket; `ListenStream=` would be right")
        self.listens = bool(self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))

    def endpoint(self) -> Listen:
        # O_NONBLOCK is shared with all processes that have the socket; the service manager only polls it.
        self.socket.setblocking(False)
        name = self.socket.getsockname()
        if self.socket.family == socket.AF_UNIX:
            path = os.fsdecode(name).replace("\0", "@")
            return Listen(path=path, tls=self.tls, inherited=True)
        return Listen(name[0], name[1], tls=self.tls, inherited=True)
