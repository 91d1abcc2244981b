"""Listening sockets, and a thread for each connection that they accept."""

import errno
import os
import select
import selectors
import socket
import socketserver
import stat
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from sendooway.config import Listen, is_loopback
from sendooway.log import Log, describe

_BACKLOG = 128
MOST_SESSIONS = 300  # in one process; a small server's whole organisation, and still bounded memory
MOST_OF_A_SOURCE = 50  # of these, so that one address cannot take all places; Postfix grants as many


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
        if error.errno == errno.EAFNOSUPPORT:
            return False
        raise
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
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.connect(path)
    except FileNotFoundError:
        pass
    except ConnectionRefusedError:
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            os.unlink(path)
    except OSError as error:
        raise ListenError(f"cannot listen on unix:{path}: {error.strerror}") from error
    else:
        raise ListenError(f"cannot listen on unix:{path}: another server does")
    try:
        sock = _listen(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), path)
        os.chmod(path, 0o666)  # noqa: S103, since the login decides who may log in
    except OSError as error:
        raise ListenError(f"cannot listen on unix:{path}: {error.strerror}") from error
    return sock


def _listen(sock: socket.socket, address: Any) -> socket.socket:
    try:
        sock.bind(address)
        sock.listen(_BACKLOG)
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


Handle = Callable[[socket.socket, Listen], None]


def serve(
    listeners: Sequence[tuple[socket.socket, Listen]], handle: Handle, refuse: Handle, log: Log, wake: int
) -> None:
    """Accepts until the descriptor `wake` becomes readable, closes the sockets and waits for the sessions to end.

    `handle` owns a connection in a thread of its own and need not close it; `refuse` is called, without a thread, where
    there are too many sessions, in all or of this address: it must not wait.
    """
    places = _Places()
    servers = [_Server(sock, listen, handle, refuse, log, places) for sock, listen in listeners]
    with selectors.PollSelector() as selector:
        selector.register(wake, selectors.EVENT_READ)
        for server in servers:
            selector.register(server, selectors.EVENT_READ, server)
        while None not in (ready := [key.data for key, _ in selector.select()]):
            for server in ready:
                server.handle_request()
    for server in servers:
        server.server_close()
    places.wait_until_free()


def source(address: str) -> str:
    """Of whom an address is, to count what each may take: of an IPv6 address the network of 64 bits, all of which one
    host can have. Empty for this machine, where a webmail or a tunnel speaks for many, and for what is no address."""
    # A socket that we inherited may serve IPv4 in IPv6's clothes (RFC 4291, 2.5.5.2), all of it in one such network.
    address = address.removeprefix("::ffff:")
    if is_loopback(address):
        return ""
    try:
        number = socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
    except OSError:
        return address
    return number[:8].hex()


class _Places:
    """Who is served now: bounded in all, and for each source. For all threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._taken: Counter[str] = Counter()

    def take(self, source: str) -> bool:
        """False if there is none left."""
        with self._changed:
            if self._taken.total() >= MOST_SESSIONS or (source and self._taken[source] >= MOST_OF_A_SOURCE):
                return False
            self._taken[source] += 1
            return True

    def leave(self, source: str) -> None:
        with self._changed:
            self._taken[source] -= 1
            self._taken += Counter()  # forgets sources without any
            self._changed.notify_all()

    def wait_until_free(self) -> None:
        """Until everybody has left."""
        with self._changed:
            self._changed.wait_for(lambda: not self._taken.total())


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """One listening socket that was bound before, with more rights than there are now."""

    timeout = 0
    block_on_close = False  # the places tell when all sessions have ended

    def __init__(
        self,
        sock: socket.socket,
        listen: Listen,
        handle: Handle,
        refuse: Handle,
        log: Log,
        places: _Places,
    ) -> None:
        socketserver.BaseServer.__init__(self, sock.getsockname(), socketserver.BaseRequestHandler)
        self.socket = sock
        self._listen = listen
        self._handle = handle
        self._refuse = refuse
        self._log = log
        self._places = places

    def get_request(self) -> tuple[socket.socket, Any]:
        try:
            return super().get_request()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                # The connection stays in the queue: without a pause the loop would spin until somebody leaves.
                self._log.error("accept-failed", reason=error.strerror)
                select.poll().poll(200)
            raise

    def verify_request(self, request: Any, client_address: Any) -> bool:
        if self._places.take(_source(client_address)):
            return True
        self._refuse(request, self._listen)
        return False

    def process_request(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request(request, client_address)
        except RuntimeError:
            # The system has no room for one more thread. Our caller logs it and closes the connection.
            self._places.leave(_source(client_address))
            raise

    def finish_request(self, request: Any, client_address: Any) -> None:
        try:
            self._handle(request, self._listen)
        except Exception:
            # Before the place is free: then this process may end.
            self.handle_error(request, client_address)
        finally:
            self._places.leave(_source(client_address))

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exc_info()[1]
        assert error is not None  # this is called from where it is handled
        self._log.error("session-crashed", reason=describe(error))


def _source(client_address: Any) -> str:
    """Of what accept(2) says; of UNIX sockets, it says nothing."""
    return source(client_address[0]) if isinstance(client_address, tuple) else ""
