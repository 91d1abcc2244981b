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
from dataclasses import replace

from sendooway.config import Configuration, Listen
from sendooway.greeting import Greeter
from sendooway.log import Log, open_log
from sendooway.options import Options, endpoints
from sendooway.privsep import process, single
from sendooway.privsep.channel import Channel
from sendooway.privsep.snapshot import SnapshotError


def run(options: Options, greeter: Greeter) -> int:
    """Serve until there is nothing more to serve. Returns the exit status; why it is not 0 is on standard error and in
    the log: 71 for what the system refuses, 73 for a log that cannot be opened, 77 for missing rights, 78 for a
    configuration that is wrong. Raises UsageError for options that contradict the configuration.

    Standard input is the connection with -i, if it is a socket, and where nothing says what to listen on. Its client
    may have been greeted already.
    """
    if sys.platform != "linux":
        return _fail(os.EX_OSERR, f"needs Linux (SOCK_SEQPACKET, prctl); this system is {sys.platform}")
    _tidy_standard_streams()
    if options.bind is None and _is_socket(0):
        options = replace(options, inetd=True)
    status = _serve(options, greeter)
    if status != os.EX_OK and options.inetd and not options.tls:
        _apologise(greeter)
    return status


def _serve(options: Options, greeter: Greeter) -> int:
    try:
        log = open_log(options.log)
    except OSError as error:
        return _fail(os.EX_CANTCREAT, f"cannot open the log {options.log}: {error.strerror}")
    try:
        status = _serve_one(options, log, greeter) if options.bind is None else None
        return _serve_many(options, log) if status is None else status
    except SnapshotError as error:
        return _report(os.EX_CONFIG, str(error), options, log)
    except OSError as error:
        return _report(os.EX_OSERR, f"cannot start: {error.strerror}", options, log)


def _serve_one(options: Options, log: Log, greeter: Greeter) -> int | None:
    """The exit status; None if the configuration says what to listen on."""
    begun = single.begin(options.config, log)
    # While the other process reads the configuration.
    from sendooway import proxy

    configuration = begun.receive().configuration
    if endpoints(options, configuration):
        # The process that has read it ends.
        begun.monitor.close()
        return None
    try:
        proxy.serve_standard_streams(configuration, options, begun.monitor, log, greeter)
    except proxy.ProxyError as error:
        return _report(os.EX_CONFIG, str(error), options, log)
    return os.EX_OK


def _serve_many(options: Options, log: Log) -> int:
    from sendooway import one_file, proxy
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
            return _report(os.EX_CONFIG, str(error), options, log)
        return os.EX_OK

    # Proxies and agents are forked as long as we run.
    one_file.preload()
    # No terminal for PAM to take for the one that the user sits at.
    process.point_at_null(0)
    _raise_descriptor_limit()
    try:
        return Monitor(options, run_proxy).run()
    except StartError as error:
        return _report(error.status, str(error), options, log)


def _raise_descriptor_limit() -> None:
    """A session has up to four descriptors (client, smarthost, agent, and one in passing), and 1024 is usual."""
    from sendooway.net.listener import MOST_SESSIONS

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 8 * MOST_SESSIONS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def _report(status: int, reason: str, options: Options, log: Log) -> int:
    log.error("failed", reason=reason)
    return status if options.log == "&2" else _fail(status, reason)


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


def _tidy_standard_streams() -> None:
    """Each of 0, 1 and 2 is open, so that nothing else gets its number; and what is written to 2 reaches no client."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            process.point_at_null(descriptor)
    # inetd makes all three of them the connection.
    if _is_socket(2) and os.path.sameopenfile(0, 2):
        process.point_at_null(2)


def _is_socket(descriptor: int) -> bool:
    return stat.S_ISSOCK(os.fstat(descriptor).st_mode)
