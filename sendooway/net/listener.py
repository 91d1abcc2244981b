"""Listening sockets, and a thread for each connection that they accept, as long as it has something to do."""

import contextlib
import errno
import os
import socket
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sendooway.config import Configuration, Listen
from sendooway.log import Log, describe
from sendooway.loopback import is_loopback
from sendooway.net.parked import Parked
from sendooway.net.pause import Pause
from sendooway.net.places import Full, Place, Places
from sendooway.net.threads import Threads
from sendooway.net.trust import Trust
from sendooway.net.worker_line import WorkerLine

_BACKLOG = 128
_SHORT_SECONDS = 0.2  # to wait where the system is short of something, so that no loop spins until it has more


class ListenError(Exception):
    """An address cannot be listened on. The text names it and says why."""


def bind(listen: Listen) -> list[socket.socket]:
    """Listening sockets, not blocking: one, or two where no address is given, for IPv6 and IPv4. Raises ListenError."""
    if listen.path:
        return [_bind_path(listen.path)]
    if listen.address:
        family = socket.AF_INET6 if ":" in listen.address else socket.AF_INET
        return [_bind_address(family, listen.address, listen.port)]
    bound = [_bind_address(socket.AF_INET, "0.0.0.0", listen.port)]  # noqa: S104
    try:
        bound.insert(0, _bind_address(socket.AF_INET6, "::", bound[0].getsockname()[1]))
    except ListenError:
        if socket.has_ipv6 and _kernel_has_ipv6():
            bound[0].close()
            raise
    return bound


def _kernel_has_ipv6() -> bool:
    try:
        socket.socket(socket.AF_INET6, socket.SOCK_STREAM).close()
    except OSError as error:
        return error.errno != errno.EAFNOSUPPORT
    return os.path.exists("/proc/net/if_inet6")


def _bind_address(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        return _listen(sock, (address, port))
    except OSError as error:
        raise ListenError(f"cannot listen on {address} port {port}: {error.strerror}") from error


def _bind_path(path: str) -> socket.socket:
    """A socket that a dead server left behind is replaced; a live one is an error."""
    try:
        if _is_alive(path):
            raise ListenError(f"cannot listen on unix:{path}: another server does")
        sock = _listen(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), path)
        os.chmod(path, 0o666)  # noqa: S103, since the login decides who may log in
    except OSError as error:
        raise ListenError(f"cannot listen on unix:{path}: {error.strerror}") from error
    return sock


def _is_alive(path: str) -> bool:
    """Whether a server listens there. The socket of a dead one is removed. Raises OSError, ListenError."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.connect(path)
    except FileNotFoundError:
        return False
    except ConnectionRefusedError:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            reason = "what is there is no socket; remove it, or name another path"
            raise ListenError(f"cannot listen on unix:{path}: {reason}") from None
        os.unlink(path)
        return False
    return True


def _listen(sock: socket.socket, address: Any) -> socket.socket:
    try:
        sock.bind(address)
        sock.listen(_BACKLOG)
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


class Conversation(Protocol):
    """What happens on one connection. A Session is one; nothing here knows SMTP."""

    def run(self) -> Pause | None:
        """Go on until it is over (None), or until a pause: then it is to be called again, in whatever thread.

        Called before the end of the pause, it waits for that by itself.
        """


Begin = Callable[[socket.socket, Listen, Place], Conversation | None]
Refuse = Callable[[socket.socket, Listen], None]


def serve(
    listeners: Sequence[tuple[socket.socket, Listen]],
    begin: Begin,
    refuse: Refuse,
    limits: Configuration,
    log: Log,
    wake: int,
) -> None:
    """Accepts until the descriptor `wake` becomes readable, closes the sockets and waits for the sessions to end.

    Other processes may do the same with the same sockets.

    `begin` makes the conversation on a connection, in its thread; None: nobody is there any more. Behind a balancer
    (`proxyTrust`) it also learns who the client is, and moves the place to that source. `refuse` tells a client that
    there are too many; it is called in the thread that accepts, so it must not wait.
    """
    threads = Threads()
    parked = Parked(log)
    doors = _Doors(begin, refuse, log, Places(limits), parked, threads, _Reserve(wake), Trust(limits.proxy_trust))
    by_descriptor = {sock.fileno(): (sock, listen) for sock, listen in listeners}
    with WorkerLine(by_descriptor, (wake, parked.fileno())) as line:
        while True:
            ready = line.wait(parked.seconds())
            knocking = ready.intersection(by_descriptor)
            for descriptor in knocking:
                doors.open(*by_descriptor[descriptor])
            if wake in ready:
                break
            if knocking and (line.is_busy() or doors.places.are_scarce()):
                line.go_to_the_end()
            if parked.fileno() in ready:
                parked.look()
            parked.keep_time()
    for sock, _ in listeners:
        sock.close()
    parked.close()
    doors.places.wait_until_free()
    threads.close()
    doors.reserve.close()


def source(address: str) -> str:
    """Under which name the limits for each client count a numeric address: an IPv4 address as it is, an IPv6 address by
    its network of 64 bits, all of which one host can have. Empty, which is not limited, for this machine, where a
    webmail or a tunnel speaks for many, and for an empty address."""
    # A socket that we inherited may serve IPv4 in IPv6's clothes (RFC 4291, 2.5.5.2), all of it in one such network.
    address = address.removeprefix("::ffff:")
    if is_loopback(address):
        return ""
    try:
        number = socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
    except OSError:
        return address
    return number[:8].hex()


class _Reserve:
    """A descriptor kept for when there is no other, so that a client can be accepted and told so."""

    def __init__(self, original: int) -> None:
        self._original = original
        self._kept: int | None = os.dup(original)

    @contextlib.contextmanager
    def lent(self) -> Iterator[None]:
        """Within the block there is room for one more descriptor."""
        self.close()
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # somebody else was quicker; next time
                self._kept = os.dup(self._original)

    def close(self) -> None:
        if self._kept is not None:
            os.close(self._kept)
            self._kept = None


@dataclass(eq=False)
class _Connection:
    """One connection, from accept to close: one thread at a time owns it."""

    doors: "_Doors"
    sock: socket.socket
    listen: Listen
    place: Place
    conversation: Conversation | None = None

    def start(self) -> None:
        """Begin or go on. Raises RuntimeError if there is no room for a thread."""
        self.doors.threads.start(self._run)

    def _run(self) -> None:
        while (pause := self._converse()) is not None:
            if self.doors.parked.accept(pause, self.start):
                return
        self.end()

    def _converse(self) -> Pause | None:
        try:
            if self.conversation is None:
                self.conversation = self.doors.begin(self.sock, self.listen, self.place)
            return self.conversation.run() if self.conversation is not None else None
        except Exception as error:
            self.doors.log.error("session-crashed", reason=describe(error))
            return None

    def end(self) -> None:
        self.sock.close()
        self.place.leave()


@dataclass(frozen=True)
class _Doors:
    """What becomes of new connections, whichever listening socket they come from."""

    begin: Begin
    refuse: Refuse
    log: Log
    places: Places
    parked: Parked
    threads: Threads
    reserve: _Reserve
    balancers: Trust

    def open(self, listening: socket.socket, listen: Listen) -> None:
        """Accept one connection, unless somebody else has."""
        try:
            sock, address = listening.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                self.log.error("accept-failed", reason=error.strerror)
                self._turn_away(listening, listen)
            return
        try:
            self._let_in(sock, address, listen)
        except Exception as error:
            self.log.error("accept-failed", reason=describe(error))
            sock.close()

    def _turn_away(self, listening: socket.socket, listen: Listen) -> None:
        """Accept it all the same, to refuse it: left in the queue, it would make the loop spin until there is room."""
        with self.reserve.lent():
            try:
                sock, _ = listening.accept()
            except OSError:
                time.sleep(_SHORT_SECONDS)
                return
            with sock:
                self.refuse(sock, listen)

    def _let_in(self, sock: socket.socket, address: Any, listen: Listen) -> None:
        try:
            place = self.places.take(self._source(address))
        except Full as full:
            rip = address[0] if isinstance(address, tuple) else None
            self.log.warning("connection-refused", rip=rip, limit=str(full))
            self.refuse(sock, listen)
            sock.close()
            return
        connection = _Connection(self, sock, listen, place)
        try:
            connection.start()
        except RuntimeError as error:
            self.log.error("no-thread", reason=str(error))
            self.refuse(sock, listen)
            connection.end()

    def _source(self, address: Any) -> str:
        """The source of what accept(2) returns as the address. UNIX sockets have none, a balancer's clients not yet."""
        if not isinstance(address, tuple) or address[0] in self.balancers:
            return ""
        return source(address[0])
