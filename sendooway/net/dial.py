"""Connects to a host over IPv6 and IPv4 (RFC 8305, "happy eyeballs"), within one deadline."""

import contextlib
import errno
import os
import select
import socket
import threading

from sendooway.net.deadline import Deadline
from sendooway.net.stream import Stopping

_HEAD_START = 0.25  # seconds before the next address is tried beside the others, RFC 8305, 8.

Address = tuple[socket.AddressFamily, tuple[object, ...]]


class DialError(Exception):
    """No address of the host could be reached. The text says why."""


def dial(host: str, port: int, deadline: Deadline, stop: int | None = None) -> socket.socket:
    """A connected socket, not blocking. Raises DialError, TimeoutError at the deadline, Stopping when the descriptor
    `stop` becomes readable."""
    return dial_addresses(resolve(host, port, deadline, stop), deadline, stop)


def dial_addresses(addresses: list[Address], deadline: Deadline, stop: int | None = None) -> socket.socket:
    """A connected socket, not blocking, to the first of the addresses that answers. Raises as `dial` does."""
    waiting = _alternate(addresses)
    trying: dict[int, socket.socket] = {}
    reason = "no address"
    try:
        while waiting or trying:
            if waiting:
                sock, failure = _begin(waiting.pop(0))
                if sock is None:
                    reason = failure
                    continue
                trying[sock.fileno()] = sock
            for descriptor in _ready(trying, _HEAD_START if waiting else None, deadline, stop):
                sock = trying.pop(descriptor)
                error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if not error:
                    return sock
                reason = os.strerror(error)
                sock.close()
        raise DialError(reason)
    finally:
        for sock in trying.values():
            sock.close()


def resolve(host: str, port: int, deadline: Deadline, stop: int | None = None) -> list[Address]:
    """The addresses of a host, which is a name or a numeric address. Raises as `dial` does."""
    with contextlib.suppress(DialError):
        return _addresses(host, port, socket.AI_NUMERICHOST)
    return _resolve_name(host, port, deadline, stop)


def _resolve_name(host: str, port: int, deadline: Deadline, stop: int | None) -> list[Address]:
    """getaddrinfo(3) has no time limit and cannot be stopped, so a thread calls it. One that is late is left alone."""
    answers: list[list[Address] | DialError] = []
    try:
        ours, theirs = socket.socketpair()
    except OSError as error:
        raise DialError(str(error.strerror)) from error

    def look_up() -> None:
        with theirs:
            try:
                answers.append(_addresses(host, port, 0))
            except DialError as error:
                answers.append(error)

    with ours:
        try:
            threading.Thread(target=look_up, daemon=True).start()
        except RuntimeError as error:
            theirs.close()
            raise DialError(f"{host} cannot be resolved now: {error}") from error
        poll = select.poll()
        for descriptor in (ours.fileno(),) if stop is None else (ours.fileno(), stop):
            poll.register(descriptor, select.POLLIN)
        ready: list[int] = []
        with contextlib.suppress(TimeoutError):  # what is said below tells more
            ready = [descriptor for descriptor, _ in poll.poll(deadline.left() * 1000)]
    if stop in ready:
        raise Stopping
    if not ready:
        raise TimeoutError(f"{host} was not resolved within {deadline.seconds:g} seconds")
    (answer,) = answers
    if isinstance(answer, DialError):
        raise answer
    return answer


def _addresses(host: str, port: int, flags: int) -> list[Address]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    except (OSError, UnicodeError) as error:
        raise DialError(str(getattr(error, "strerror", None) or error)) from error
    return [(family, address) for family, _, _, _, address in found]


def _alternate(addresses: list[Address]) -> list[Address]:
    """IPv6 and IPv4 in turn, beginning with the family that the system put first (RFC 8305, 4.)."""
    if not addresses:
        return []
    first = [address for address in addresses if address[0] == addresses[0][0]]
    other = [address for address in addresses if address[0] != addresses[0][0]]
    mixed: list[Address] = []
    while first or other:
        mixed += first[:1] + other[:1]
        del first[:1], other[:1]
    return mixed


def _begin(address: Address) -> tuple[socket.socket | None, str]:
    """A socket that is connecting, or none and why."""
    family, sockaddr = address
    try:
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    except OSError as error:
        return None, str(error.strerror)
    try:
        error_number = sock.connect_ex(sockaddr)
    except OSError as error:
        sock.close()
        return None, str(error.strerror)
    if error_number not in (0, errno.EINPROGRESS):
        sock.close()
        return None, os.strerror(error_number)
    return sock, ""


def _ready(
    trying: dict[int, socket.socket], head_start: float | None, deadline: Deadline, stop: int | None
) -> list[int]:
    """The sockets that are connected or have failed, none when the head start is over."""
    poll = select.poll()
    for descriptor in trying:
        poll.register(descriptor, select.POLLOUT)
    if stop is not None:
        poll.register(stop, select.POLLIN)
    seconds = min(deadline.left(), head_start) if head_start is not None else deadline.left()
    ready = [descriptor for descriptor, _ in poll.poll(seconds * 1000)]
    if stop in ready:
        raise Stopping
    return ready
