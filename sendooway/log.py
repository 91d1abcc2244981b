"""The log: one event, one line, `name key=value ...`, to syslog, standard error or a file.

A line that cannot be written at once is lost and counted, and the next line that gets through says `lost=N`: neither a
full disk nor a dead syslog may stop mail, and waiting for them would.
"""

import os
import select
import stat
import time
from enum import IntEnum

from sendooway.secret import Secret

# In octets. A write of up to PIPE_BUF (4096) octets is never mixed with others' in a pipe.
MAX_LINE_OCTETS = 4096
MAX_VALUE_OCTETS = 200  # quotes and mark included
_CUT = "..."  # behind the closing quote, where no value can put it

_SYSLOG = "/dev/log"
_MAIL = 2 << 3  # LOG_MAIL of syslog(3)
_BARE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:@/+-")


class Level(IntEnum):
    """How bad an event is; the values are those of syslog(3)."""

    ERROR = 3
    WARNING = 4
    INFO = 6


def format_value(value: object) -> str:
    """One value as it stands in a line: at most MAX_VALUE_OCTETS in UTF-8, and always safe to parse back.

    What holds nothing but `A-Za-z0-9._:@/+-` stands as it is, all else in double quotes. There, the quote, the
    backslash and whatever is not printable (controls, line and paragraph separators, directional marks, octets that are
    not UTF-8) is `\\xNN` for each of its octets. A value that is cut is quoted, with `...` after the closing quote.
    """
    match value:
        case bool():
            text = "yes" if value else "no"
        case float():
            text = f"{value:.3f}"
        case bytes():
            text = value.decode("utf-8", "surrogateescape")
        case Secret():
            text = "Secret()"
        case _:
            text = str(value)
    if len(text) <= MAX_VALUE_OCTETS:
        if text and _BARE.issuperset(text):
            return text
        # Most values need no more than this, and to go through them by characters takes twenty times as long.
        if text.isprintable() and '"' not in text and "\\" not in text and _octets(text) <= MAX_VALUE_OCTETS - 2:
            return f'"{text}"'
    # Each character is at least one octet, so what lies beyond the limit cannot be part of the result.
    parts = [_escaped(char) for char in text[:MAX_VALUE_OCTETS]]
    room = MAX_VALUE_OCTETS - 2
    if len(text) <= MAX_VALUE_OCTETS and sum(map(_octets, parts)) <= room:
        return f'"{"".join(parts)}"'
    room -= len(_CUT)
    kept = 0
    while (room := room - _octets(parts[kept])) >= 0:
        kept += 1
    return f'"{"".join(parts[:kept])}"{_CUT}'


def _escaped(char: str) -> str:
    if char.isprintable() and char not in '"\\':
        return char
    try:
        octets = char.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        octets = char.encode("utf-8", "surrogatepass")
    return "".join(f"\\x{octet:02X}" for octet in octets)


def _octets(text: str) -> int:
    return len(text.encode())


def format_line(header: str, name: str, fields: dict[str, object]) -> bytes:
    """One line with its LF, at most MAX_LINE_OCTETS. Fields that are None or do not fit any more are left out.

    `header` and the names of event and fields come from us, only the values from outside.
    """
    line = f"{header}: {name}".encode()
    for key, value in fields.items():
        if value is None:
            continue
        part = f" {key}={format_value(value)}".encode()
        if len(line) + len(part) < MAX_LINE_OCTETS:
            line += part
    return line + b"\n"


class _File:
    """A descriptor that lines are written to: a file, a pipe, a terminal. `shared`: others have it open, too, and
    decide whether a write blocks."""

    def __init__(self, descriptor: int, *, shared: bool = False) -> None:
        self._descriptor = descriptor
        self._shared = shared
        self._torn = False

    def write(self, level: Level, name: str, fields: dict[str, object]) -> bool:
        now = time.time()
        milliseconds = int(now * 1000) % 1000
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
        line = format_line(f"{stamp}.{milliseconds:03}+00:00 sendooway[{os.getpid()}]", name, fields)
        if self._torn:  # a full disk took half a line; this one shall begin a new one
            line = b"\n" + line
        try:
            if self._shared and not _takes_a_line(self._descriptor):
                return False
            written = os.write(self._descriptor, line)
        except (OSError, ValueError):  # ValueError: closed, the number is negative
            return False
        self._torn = written < len(line)
        return not self._torn

    def descriptors(self) -> tuple[int, ...]:
        return (self._descriptor,)

    def close(self) -> None:
        # Never write to whatever gets this number next.
        descriptor, self._descriptor = self._descriptor, -1
        os.close(descriptor)


def _takes_a_line(descriptor: int) -> bool:
    """Whether a write would not block now. Raises ValueError if the descriptor is closed."""
    # A poll object for each line, because two threads must not use one at the same time.
    writable = select.poll()
    writable.register(descriptor, select.POLLOUT)
    return bool(writable.poll(0))


class _Syslog:
    """The system's log, over its datagram socket: a datagram goes whole or not at all."""

    def __init__(self, path: str) -> None:
        import socket  # three milliseconds that the other destinations save

        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._connect()

    def _connect(self) -> bool:
        try:
            self._socket.connect(self._path)
        except OSError:
            return False
        return True

    def write(self, level: Level, name: str, fields: dict[str, object]) -> bool:
        datagram = format_line(f"<{_MAIL | level}>sendooway[{os.getpid()}]", name, fields).rstrip(b"\n")
        return self._send(datagram) or (self._connect() and self._send(datagram))

    def _send(self, datagram: bytes) -> bool:
        try:
            self._socket.send(datagram)
        except OSError:
            return False
        return True

    def descriptors(self) -> tuple[int, ...]:
        return (self._socket.fileno(),)

    def close(self) -> None:
        self._socket.close()


class _Counted:
    """A destination, and how many lines it did not take since the last one it took.

    Threads may spoil the number now and then; that is not worth a lock.
    """

    def __init__(self, destination: _File | _Syslog) -> None:
        self.destination = destination
        self._lost = 0
        self._loser = 0  # the process that has lost them, and will report it

    def write(self, level: Level, name: str, fields: dict[str, object]) -> None:
        lost = self._lost if self._lost and self._loser == os.getpid() else 0
        if lost:
            fields = {**fields, "lost": lost}
        if self.destination.write(level, name, fields):
            self._lost = 0
        else:
            self._lost, self._loser = lost + 1, os.getpid()


class Log:
    """Where events go. May be used by several threads, and after a fork by all processes. Never raises, never blocks.

    Fields stand in the order given; those that are None are left out. A float is written with three decimals, a boolean
    as yes or no. Secrets never show.
    """

    def __init__(self, sink: _Counted, bound: dict[str, object]) -> None:
        self._sink = sink
        self._bound = bound

    def event(self, name: str, /, **fields: object) -> None:
        """Something that is as it should be."""
        self._sink.write(Level.INFO, name, self._bound | fields)

    def warning(self, name: str, /, **fields: object) -> None:
        """Something that the administrator may want to change, or a refusal."""
        self._sink.write(Level.WARNING, name, self._bound | fields)

    def error(self, name: str, /, **fields: object) -> None:
        """Something that is broken."""
        self._sink.write(Level.ERROR, name, self._bound | fields)

    def bind(self, **fields: object) -> "Log":
        """The same log, with these fields first in every line."""
        return Log(self._sink, self._bound | fields)

    def descriptors(self) -> tuple[int, ...]:
        """What must stay open in a process that wants to write here."""
        return self._sink.destination.descriptors()

    def close(self) -> None:
        """Close it, and with it all logs bound from it. Lines written later are lost."""
        self._sink.destination.close()


def open_log(destination: str | None, *, syslog: str = _SYSLOG) -> Log:
    """Open the log: None for syslog, "&2" for standard error, else a file that is made with mode 0640 or appended to.

    Raises OSError if the file or standard error cannot be opened. A syslog that does not listen (yet) is no error.
    """
    match destination:
        case None:
            return Log(_Counted(_Syslog(syslog)), {})
        case "&2":
            return Log(_Counted(_standard_error()), {})
        case path:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
            return Log(_Counted(_File(os.open(path, flags, 0o640))), {})


def was_rotated(log: Log, destination: str | None) -> bool:
    """Whether `destination`, as for open_log, is a file and no longer the one that `log` writes to."""
    if destination in (None, "&2"):
        return False
    try:
        return not os.path.samestat(os.stat(str(destination)), os.fstat(log.descriptors()[0]))
    except OSError:
        return True


def _standard_error() -> _File:
    # O_NONBLOCK belongs to what is open, not to our descriptor of it: setting it on a terminal or pipe would set
    # it for the shell and all others that write there. Opening it anew gives us one of our own.
    if stat.S_ISREG(os.fstat(2).st_mode):
        # A file never blocks, but where the next octet goes belongs to what is open, too: opened anew, they would
        # write over our lines.
        return _File(os.dup(2))
    try:
        return _File(os.open("/proc/self/fd/2", os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK))
    except OSError:  # a socket, or a terminal of someone else
        return _File(os.dup(2), shared=True)


def describe(error: BaseException) -> str:
    """The class of an error and the last four places (FILE:LINE) of its traceback, for the log: not its text, which may
    quote a secret."""
    places = []
    trace = error.__traceback__
    while trace is not None:
        places.append(f"{os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}")
        trace = trace.tb_next
    return " ".join([type(error).__name__, *places[-4:]])
