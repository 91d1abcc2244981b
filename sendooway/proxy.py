"""The proxy process: from what only root may open to sessions that have no rights at all."""

import contextlib
import encodings.idna  # noqa: F401  (for names of hosts; without rights it could not be imported any more)
import os
import signal
import socket
import ssl
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sendooway.config import Configuration, Encryption, Listen
from sendooway.early import EarlyDials
from sendooway.greeting import Greeter
from sendooway.log import Log
from sendooway.loopback import is_loopback
from sendooway.net import tls
from sendooway.net.balancer import receive_told
from sendooway.net.ourselves import Ourselves
from sendooway.net.proxy_protocol import HeaderError
from sendooway.net.stream import PipeTransport, SocketTransport, Stopping, Stream, Transport
from sendooway.net.tls import TlsError
from sendooway.net.trust import Trust, client_address
from sendooway.options import Options
from sendooway.pool import Pool
from sendooway.privsep.channel import Channel
from sendooway.privsep.messages import ProxyReady
from sendooway.privsep.request import LOCAL, peer_address
from sendooway.session import Peer, Proxy, Session
from sendooway.unix import kernel, privileges, process
from sendooway.unix.privileges import PrivilegeError
from sendooway.unix.run_as import USERS, RunAsError, network_user

# How long sessions may go on after SIGTERM, before they are told 421.
GRACE_SECONDS = 30.0

# How often a thread that waits for the interpreter's lock asks for it. With Python's 5 ms, hundreds of threads with
# something to do spend more time on asking than on work. Ours leave the lock to others at each system call anyway.
ASK_SECONDS = 1.0


class ProxyError(Exception):
    """The proxy cannot begin. The text says what to do."""


@dataclass(frozen=True)
class _Signals:
    """Descriptors that become readable: `wake` when no more connections are wanted, `stop` when all must end."""

    wake: int
    stop: int


def serve(
    configuration: Configuration,
    options: Options,
    listeners: Sequence[tuple[socket.socket, Listen]],
    monitor: Channel,
    log: Log,
) -> None:
    """Serve connections, until SIGUSR1 or SIGTERM and the end of the last session.

    `monitor` is the channel to ask for agents; it hears ProxyReady. Raises ProxyError before that.
    """
    # Only here: a connection on standard input needs none of it.
    from sendooway.net import listener
    from sendooway.net.places import Full, Place

    configuration = _with_options(configuration, options)
    contexts = _load(configuration)
    _give_up_rights(_user(configuration, log), log, outlive_parent=False)
    signals = _receive_signals()
    pool = Pool(configuration.smarthost_idle)
    ourselves = Ourselves(sock for sock, _ in listeners)
    early = EarlyDials(pool, signals.stop) if configuration.dial_early else None
    shared = Proxy(configuration, *contexts, monitor, log, pool, signals.stop, ourselves, early)
    balancers = Trust(configuration.proxy_trust)

    def begin(sock: socket.socket, listen: Listen, place: Place) -> Session | None:
        address = peer_address(sock.fileno())
        if address is None:
            return None
        stream = Stream(SocketTransport(sock), signals.stop)
        peer = _meet(stream, address, balancers, log, tls=listen.tls)
        if peer is None:
            return None
        try:
            place.move(listener.source(peer.address))
        except Full as full:
            log.warning("connection-refused", rip=peer.address, limit=str(full))
            refuse(sock, listen)
            stream.close()
            return None
        return Session(shared, stream, peer, logged_in=place.logged_in)

    def refuse(sock: socket.socket, listen: Listen) -> None:
        if not listen.tls:
            with contextlib.suppress(OSError):
                name = configuration.user_settings.localname
                sock.send(f"421 4.3.2 {name} Too many connections, try again later\r\n".encode("ascii"))

    sys.setswitchinterval(ASK_SECONDS)
    monitor.send(ProxyReady())
    listener.serve(listeners, begin, refuse, configuration, log, signals.wake)
    pool.close()


def serve_standard_streams(
    configuration: Configuration, options: Options, monitor: Channel, log: Log, greeter: Greeter
) -> None:
    """Serve the one connection that standard input and output are. Raises ProxyError before that."""
    kernel.set_title("sendooway [proxy]")
    configuration = _with_options(configuration, options)
    contexts = _load(configuration)
    user = _user(configuration, log)
    transport, address = _open_standard_streams()
    # What started us, a super-server or a shell, may go before the session does.
    _give_up_rights(user, log, outlive_parent=True)
    signals = _receive_signals(signal.SIGINT)  # ^C of the person who types
    ourselves = Ourselves([transport.socket] if isinstance(transport, SocketTransport) else [])
    shared = Proxy(configuration, *contexts, monitor, log, Pool(0), signals.stop, ourselves)
    stream = Stream(transport, signals.stop)
    by_hand = Peer("", local=True, can_tls=False, lf_ends_line=True)
    balancers = Trust(configuration.proxy_trust)
    peer = by_hand if address is None else _meet(stream, address, balancers, log, tls=options.tls)
    if peer is None:
        return
    session = Session(shared, stream, peer, greeted=greeter.said())
    while session.run() is not None:
        pass


def _with_options(configuration: Configuration, options: Options) -> Configuration:
    """With -S as if there were no certificate, and no wish for TLS either."""
    if not options.no_tls:
        return configuration
    return replace(configuration, mailer_encryption=Encryption.FORBIDDEN, ssl_cert="")


def _load(configuration: Configuration) -> tuple[ssl.SSLContext | None, ssl.SSLContext]:
    """The contexts for our own side, None where there is no TLS, and for smarthosts. Raises ProxyError."""
    try:
        ours = None
        if configuration.ssl_cert:
            ours = tls.server_context(configuration.ssl_cert, configuration.ssl_key)
        return ours, tls.client_context(configuration.user_settings.ssl_ca)
    except TlsError as error:
        raise ProxyError(str(error)) from error


def _give_up_rights(user: tuple[int, int], log: Log, *, outlive_parent: bool) -> None:
    """Become `user`, a uid and gid, for good, and be able to open next to nothing. Raises ProxyError."""
    uid, gid = user
    try:
        privileges.drop_to(uid, gid, None, outlive_parent=outlive_parent)
        confined = privileges.confine_files()
    except PrivilegeError as error:
        raise ProxyError(str(error)) from error
    log.event("proxy", uid=uid, gid=gid, landlock=confined)


def _user(configuration: Configuration, log: Log) -> tuple[int, int]:
    """Uid and gid of the user to become. Raises ProxyError."""
    if os.geteuid() != 0:
        return os.getuid(), os.getgid()
    try:
        user = network_user(configuration.run_as)
    except RunAsError as error:
        raise ProxyError(f"runAs: {error}") from error
    if user.pw_name == USERS[-1] and not configuration.run_as:
        log.warning("run-as", user=user.pw_name, reason="there is no user sendooway; adduser --system sendooway")
    return user.pw_uid, user.pw_gid


def _receive_signals(*ending: signal.Signals) -> _Signals:
    """SIGUSR1 wants no more connections. SIGTERM neither, and ends all sessions after GRACE_SECONDS; SIGALRM, by which
    it does so, and the signals `ending` end them at once."""
    wake, wake_end = os.pipe()
    stop, stop_end = os.pipe()
    # Python calls the handlers when the main thread gets to it. Each signal writes here at once, and so wakes that
    # thread also where it came just before the wait, or to another thread.
    os.set_blocking(wake_end, False)
    signal.set_wakeup_fd(wake_end, warn_on_full_buffer=False)

    def no_more(*_: object) -> None:
        """The signal's octet in `wake` says it."""

    def finish(*_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, GRACE_SECONDS)

    def end(*_: object) -> None:
        os.write(stop_end, b"!")

    signal.signal(signal.SIGUSR1, no_more)
    signal.signal(signal.SIGTERM, finish)
    for number in (signal.SIGALRM, *ending):
        signal.signal(number, end)
    return _Signals(wake, stop)


def _meet(stream: Stream, address: str, balancers: Trust, log: Log, *, tls: bool) -> Peer | None:
    """Who is at the other end of a connection, which has this `address`, see `request.peer_address`.

    Behind a balancer that is the client that its header tells. None where the header does not come: then the connection
    is closed, and the log has the reason.
    """
    if address == LOCAL:
        return Peer("", local=True, tls=tls)
    if address not in balancers:
        return Peer(address, is_loopback(address), tls=tls)
    try:
        client = client_address(receive_told(stream), address)
    except (HeaderError, Stopping) as error:
        log.warning("balancer-refused", rip=address, reason=str(error))
        stream.close()
        return None
    return Peer(client, is_loopback(client), balancer="" if client == address else address, tls=tls)


def _open_standard_streams() -> tuple[Transport, str | None]:
    """The connection, moved to other descriptors, so that nothing that uses 0 and 1 gets at it; and the address at its
    other end, see `request.peer_address`, None where it is no socket."""
    reading, writing = os.dup(0), os.dup(1)
    process.point_at_null(0, 1)
    if not stat.S_ISSOCK(os.fstat(reading).st_mode) or not os.path.sameopenfile(reading, writing):
        return PipeTransport(reading, writing), None
    os.close(writing)
    return SocketTransport(socket.socket(fileno=reading)), peer_address(reading) or LOCAL
