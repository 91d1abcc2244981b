"""The listening sockets. Where a new configuration listens on the same place as the old one, the socket stays open."""

import contextlib
import os
import socket
from collections.abc import Iterable

from sendooway.config import Listen
from sendooway.net.listener import ListenError, bind

Listener = tuple[Listen, list[socket.socket]]
Place = tuple[str, int, str]
ByPlace = dict[Place, list[socket.socket]]


def by_place(listeners: Iterable[Listener]) -> ByPlace:
    """The sockets by where they listen; TLS makes no difference."""
    return {_place(listen): sockets for listen, sockets in listeners}


def open_all(wanted: Iterable[Listen], have: ByPlace) -> list[Listener]:
    """Sockets for all that is `wanted`: those that we `have` open there already, else new ones.

    Raises ListenError; then no new one stays open.
    """
    listeners: list[Listener] = []
    try:
        for listen in wanted:
            listeners.append((listen, have.get(_place(listen)) or bind(listen)))
    except ListenError:
        close(listeners, have)
        raise
    return listeners


def close(listeners: Iterable[Listener], keep: ByPlace) -> None:
    """Close all but those to keep, and remove what was made in the file system for them."""
    for listen, sockets in listeners:
        if _place(listen) in keep:
            continue
        for sock in sockets:
            sock.close()
        if listen.path and not listen.inherited:
            with contextlib.suppress(OSError):  # whatever is there now
                os.unlink(listen.path)


def _place(listen: Listen) -> Place:
    return (listen.address, listen.port, listen.path)
