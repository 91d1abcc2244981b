"""Cuts what a client sends into lines.

A line ends at CR LF and nowhere else (RFC 5321, 2.3.8). On plain pipes and terminals, where people type and scripts
echo, a line may also end at a bare LF.
"""

from enum import Enum

MAX_OCTETS = 12288 + 2  # of the longest line: AUTH, or base64 that answers it, RFC 4954, 4.; with its CR LF


class LineFault(Enum):
    """A line that must be answered with 500 and never be acted on."""

    TOO_LONG = "Line too long"
    BARE_CONTROL = "Line with a bare CR, bare LF or NUL"


class LineReader:
    """Octets in, in any cutting; lines out.

    Of a line that is not complete it keeps no more than MAX_OCTETS beside what was received at once. `lf_ends_line`: a
    bare LF is a line end, too.
    """

    def __init__(self, *, lf_ends_line: bool = False) -> None:
        self._lf_ends_line = lf_ends_line
        self._buffer = bytearray()
        self._searched = 0  # no LF in this many first octets
        self._too_long = False  # the start of the present line was dropped
        self._tainted = False  # the present line began after a bare LF

    def __len__(self) -> int:
        """How many octets are waiting."""
        return len(self._buffer)

    def receive(self, octets: bytes) -> None:
        """Take octets of the client."""
        self._buffer += octets

    def next_line(self) -> bytes | LineFault | None:
        """One line without its end; a fault for one that must not be acted on; None if no line is complete.

        A bare LF ends a faulty line, so that a client that knows only LF is told so. But what follows it up to CR LF
        is the rest of a line that somebody else may have written into a command: it is faulty too.
        """
        end = self._buffer.find(b"\n", self._searched)
        if end < 0:
            if len(self._buffer) > MAX_OCTETS:
                self._too_long = True
                del self._buffer[:-1]  # all but the last octet, which may be the CR
            self._searched = len(self._buffer)
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._searched = 0
        too_long, self._too_long = self._too_long, False
        tainted = self._tainted
        if line.endswith(b"\r"):
            line = line[:-1]
            self._tainted = False
        elif not self._lf_ends_line:
            tainted = self._tainted = True
        # First what is too long: what else was wrong with it may have been dropped.
        if too_long or len(line) + 2 > MAX_OCTETS:
            return LineFault.TOO_LONG
        if tainted or b"\r" in line or b"\0" in line:
            return LineFault.BARE_CONTROL
        return line

    def push_back(self, line: bytes) -> None:
        """Undoes the last `next_line`, which returned this line."""
        self._buffer[:0] = line + b"\r\n"
        self._searched = 0

    def take(self, most: int | None = None) -> bytes:
        """The octets not handed out yet, at most so many, which are the caller's now."""
        octets = bytes(self._buffer if most is None else self._buffer[:most])
        del self._buffer[: len(octets)]
        self._searched = 0
        return octets
