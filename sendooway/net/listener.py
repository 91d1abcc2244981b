"""Listening sockets, and a thread for each connection that they accept, as long as it has something to do."""

import contextlib
import errno
import os
import select
import selectors
import socket
import socketserver
import stat
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sendooway.config import Configuration, Listen, is_loopback
from sendooway.log import Log, describe
from sendooway.net.pause import Pause
from sendooway.net.places import Full, Place, Places
from sendooway.net.trust import Trust
from sendooway.net.waiting import Waiting

_BACKLOG = 128
_SHORT = 200  # milliseconds to wait where the system is short of something, so that no loop spins until it has more


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


class Conversation(Protocol):
    def run(self) -> Pause | None:
        """Until it is over (None), or until a pause: then it is to be called again, in whatever thread.

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

    `begin` makes the conversation on a connection, in its thread; None: nobody is there any more. Of a connection from
    a balancer (`proxyTrust`) it has to find out the client, and to move the place there. `refuse` is called,
    without a thread, where there are too many: it must not wait.
    """
    places = Places(limits)
    with selectors.PollSelector() as selector:
        waiting = Waiting(selector, log)
        reserve = _Reserve(wake)
        balancers = Trust(limits.proxy_trust)
        servers = [
            _Server(sock, listen, begin, refuse, log, places, waiting, reserve, balancers) for sock, listen in listeners
        ]
        selector.register(wake, selectors.EVENT_READ)
        for server in servers:
            selector.register(server, selectors.EVENT_READ, server.handle_request)
        while None not in (ready := [key.data for key, _ in selector.select(waiting.seconds())]):
            for act in ready:
                act()
            waiting.keep_time()
        for server in servers:
            server.server_close()
        waiting.close()
        places.wait_until_free()
        reserve.close()


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


class _Reserve:
    """A descriptor kept for when there is no other, so that a client can be told so."""

    def __init__(self, original: int) -> None:
        self._original = original
        self._kept: int | None = os.dup(original)

    @contextlib.contextmanager
    def lent(self) -> Iterator[None]:
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
class _Visit:
    """One connection, from accept to close: one thread at a time owns it."""

    sock: socket.socket
    listen: Listen
    place: Place
    begin: Begin
    log: Log
    waiting: Waiting
    conversation: Conversation | None = None

    def start(self) -> None:
        """Begin or go on. Raises RuntimeError if there is no room for a thread."""
        threading.Thread(target=self._run).start()

    def _run(self) -> None:
        while (pause := self._converse()) is not None:
            if self.waiting.accept(pause, self.start):
                return
        self.end()

    def _converse(self) -> Pause | None:
        try:
            if self.conversation is None:
                self.conversation = self.begin(self.sock, self.listen, self.place)
            return self.conversation.run() if self.conversation is not None else None
        except Exception as error:
            self.log.error("session-crashed", reason=describe(error))
            return None

    def end(self) -> None:
        self.sock.close()
        self.place.leave()


class _Server(socketserver.TCPServer):
    """One listening socket that was bound before, with more rights than there are now."""

    timeout = 0

    def __init__(
        self,
        sock: socket.socket,
        listen: Listen,
        begin: Begin,
        refuse: Refuse,
        log: Log,
        places: Places,
        waiting: Waiting,
        reserve: _Reserve,
        balancers: Trust,
    ) -> None:
        socketserver.BaseServer.__init__(self, sock.getsockname(), socketserver.BaseRequestHandler)
        self.socket = sock
        self._listen = listen
        self._begin = begin
        self._refuse = refuse
        self._log = log
        self._places = places
        self._waiting = waiting
        self._reserve = reserve
        self._balancers = balancers

    def get_request(self) -> tuple[socket.socket, Any]:
        try:
            return super().get_request()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                self._log.error("accept-failed", reason=error.strerror)
                self._turn_away()
            raise

    def _turn_away(self) -> None:
        """The connection would stay in the queue, and the loop would spin until somebody leaves."""
        with self._reserve.lent():
            try:
                sock, _ = self.socket.accept()
            except OSError:
                select.poll().poll(_SHORT)
                return
            with sock:
                self._refuse(sock, self._listen)

    def process_request(self, request: Any, client_address: Any) -> None:
        try:
            place = self._places.take(self._source(client_address))
        except Full as full:
            rip = client_address[0] if isinstance(client_address, tuple) else None
            self._log.warning("connection-refused", rip=rip, limit=str(full))
            self._refuse(request, self._listen)
            self.shutdown_request(request)
            return
        visit = _Visit(request, self._listen, place, self._begin, self._log, self._waiting)
        try:
            visit.start()
        except RuntimeError as error:
            self._log.error("no-thread", reason=str(error))
            visit.end()

    def _source(self, client_address: Any) -> str:
        """Of what accept(2) says. Of UNIX sockets it says nothing, and of a balancer's clients not yet."""
        if not isinstance(client_address, tuple) or client_address[0] in self._balancers:
            return ""
        return source(client_address[0])

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exc_info()[1]
        assert error is not None  # this is called from where it is handled
        self._log.error("accept-failed", reason=describe(error))
