"""What `sendooway` does once its command line is understood: be a server, or serve the one connection it was given.

What takes long to import is imported where it is needed: a client may be waiting for its greeting.
"""

import contextlib
import os
import resource
import socket
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sendooway.config import MAX_SESSIONS, Configuration, Listen
from sendooway.greeting import Greeter
from sendooway.log import Log, open_log
from sendooway.options import Options, UsageError, endpoints
from sendooway.privsep import single
from sendooway.privsep.channel import Channel
from sendooway.privsep.snapshot import SnapshotError
from sendooway.unix import process


def run(options: Options, greeter: Greeter) -> int:
    """Serve until there is nothing more to serve. Returns the exit status; why it is not 0 is on standard error and in
    the log: 71 for what the system refuses, 73 for a log that cannot be opened, 77 for missing rights, 78 for a
    configuration that is wrong, or a socket handed over that cannot be served, 64 for options that contradict these.

    Standard input is the connection with -i, if it is a socket, and where nothing says what to listen on. A connection
    that LISTEN_FDS hands over takes its place; sockets that listen already make it a server. The client may have been
    greeted already.
    """
    if sys.platform != "linux":
        return _fail(os.EX_OSERR, f"needs Linux (SOCK_SEQPACKET, prctl); this system is {sys.platform}")
    told_client = _tidy_standard_streams()
    start = _take_over(options)
    status = _serve(start, greeter, told_client=told_client)
    if status != os.EX_OK and start.options.inetd and not start.options.tls:
        _apologise(greeter)
    return status


def refuse(reason: str) -> int:
    """Say what is wrong with the command line, and return the exit status. Where a super-server has started us, the log
    is told: its client is to hear nothing but SMTP."""
    _tidy_standard_streams()
    return _report(os.EX_USAGE, reason, open_log(None)) if _is_socket(0) else _fail(os.EX_USAGE, reason)


def _serve(start: "_Start", greeter: Greeter, *, told_client: bool) -> int:
    options = start.options
    try:
        log = open_log(options.log)
    except OSError as error:
        return _fail(os.EX_CANTCREAT, f"cannot open the log {options.log}: {error.strerror}")
    if told_client and options.log not in (None, "&2"):
        # What libraries have to say, and Python when it dies, is for who reads the log.
        os.dup2(log.descriptors()[0], 2)
    try:
        if start.fault:
            raise _StartError(start.fault)
        serves_one = options.bind is None and not start.listening
        status = _serve_one(options, log, greeter) if serves_one else None
        return _serve_many(options, start.listening, log) if status is None else status
    except UsageError as error:
        return _report(os.EX_USAGE, f"{error} (--help shows all options)", log)
    except (SnapshotError, _StartError) as error:
        return _report(os.EX_CONFIG, str(error), log)
    except OSError as error:
        return _report(os.EX_OSERR, f"cannot start: {error.strerror}", log)


class _StartError(Exception):
    """What started us did so in a way that cannot work. The text says what would be right."""


@dataclass(frozen=True)
class _Start:
    """How we were started: perhaps with `listening` sockets that are open already. `fault` is the text of a
    _StartError, to be raised once the log is open; empty: none."""

    options: Options
    listening: Sequence[tuple[socket.socket, Listen]] = ()
    fault: str = ""


def _take_over(options: Options) -> _Start:
    """Look at the sockets that were handed over. A connection becomes standard input and output, as -i wants it."""
    if "LISTEN_FDS" in os.environ:
        from sendooway import activation

        try:
            handed = activation.take(os.environ)
        except activation.ActivationError as error:
            return _Start(options, fault=str(error))
        if handed.listening:
            return _Start(options, handed.listening)
        if handed.connection is not None:
            if options.bind is not None:
                return _Start(options, fault="-b (listen) and a connection in LISTEN_FDS exclude each other")
            os.dup2(handed.connection, 0)
            os.dup2(handed.connection, 1)
            os.close(handed.connection)
            options = replace(options, tls=options.tls or handed.tls)
    if options.bind is None and _is_socket(0):
        if _listens(0):
            return _Start(
                options,
                fault="standard input is a listening socket, not a connection: `nowait` (inetd), `wait = no` (xinetd)"
                " or `Accept=yes` (systemd) would be right",
            )
        options = replace(options, inetd=True)
    return _Start(options)


def _serve_one(options: Options, log: Log, greeter: Greeter) -> int | None:
    """Serve the connection on standard input. Returns the exit status; None, with nothing done, if the configuration
    has `listen` lines, so that this is to be a server."""
    begun = single.begin(options.config, log, lambda configuration: options.inetd or not configuration.listen)
    # While the other process reads the configuration.
    from sendooway import proxy

    configuration = begun.receive().configuration
    if endpoints(options, configuration):
        # The process that has read it ends.
        begun.monitor.close()
        return None
    if "NOTIFY_SOCKET" in os.environ and not options.inetd:
        # A service manager, as opposed to a super-server, has no client at the other end.
        raise _StartError(f"nothing to listen on: {options.config} has no `listen` line, and there is no -b")
    try:
        proxy.serve_standard_streams(configuration, options, begun.monitor, log, greeter)
    except proxy.ProxyError as error:
        return _report(os.EX_CONFIG, str(error), log)
    return os.EX_OK


def _serve_many(options: Options, inherited: Sequence[tuple[socket.socket, Listen]], log: Log) -> int:
    from sendooway import one_file, proxy
    from sendooway.privsep import notify
    from sendooway.privsep.monitor import Monitor, StartError

    def run_proxy(
        configuration: Configuration,
        listeners: Sequence[tuple[socket.socket, Listen]],
        monitor: Channel,
        log: Log,
    ) -> int:
        try:
            proxy.serve(configuration, options, listeners, monitor, log)
        except proxy.ProxyError as error:
            return _report(os.EX_CONFIG, str(error), log)
        return os.EX_OK

    # Proxies and agents are forked as long as we run.
    one_file.preload()
    # No terminal for PAM to take for the one that the user sits at.
    process.point_at_null(0)
    _raise_descriptor_limit()
    manager = notify.take(os.environ)
    try:
        return Monitor(options, run_proxy, inherited, manager).run()
    except StartError as error:
        manager.status(str(error))
        return _report(error.status, str(error), log)


def _raise_descriptor_limit() -> None:
    """1024 is usual, and a session has up to four (client, smarthost, agent, and one in passing)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4 * MAX_SESSIONS + 1000
    if soft != resource.RLIM_INFINITY and soft < wanted:
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def _report(status: int, reason: str, log: Log) -> int:
    log.error("failed", reason=reason)
    # The log may be standard error itself.
    return status if any(os.path.sameopenfile(2, one) for one in log.descriptors()) else _fail(status, reason)


def _fail(status: int, reason: str) -> int:
    print(f"sendooway: {reason}", file=sys.stderr)
    return status


def _apologise(greeter: Greeter) -> None:
    """Tell the client that nobody will serve it, whether or not it has been greeted (RFC 5321, 3.1 and 4.2.3)."""
    from sendooway.net.stream import ConnectionLost, PipeTransport, SocketTransport, Transport

    greeter.said()
    transport: Transport = SocketTransport(socket.socket(fileno=1)) if _is_socket(1) else PipeTransport(0, 1)
    with contextlib.suppress(ConnectionLost):  # it has left
        transport.send_now(b"421 4.3.0 Nobody can look after this session now, try again later\r\n")
    transport.close()


def _tidy_standard_streams() -> bool:
    """Open whichever of 0, 1 and 2 is closed, so that nothing else gets its number, and keep what is written to 2 from
    the client. True if 2 was the client's connection.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            process.point_at_null(descriptor)
    # inetd makes all three of them the connection.
    if not (_is_socket(2) and os.path.sameopenfile(0, 2)):
        return False
    process.point_at_null(2)
    return True


def _is_socket(descriptor: int) -> bool:
    return stat.S_ISSOCK(os.fstat(descriptor).st_mode)


def _listens(descriptor: int) -> bool:
    with socket.socket(fileno=os.dup(descriptor)) as sock:
        return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
