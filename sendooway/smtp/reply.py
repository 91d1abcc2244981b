"""Replies (RFC 5321, 4.2) and enhanced status codes (RFC 2034, RFC 3463)."""

from dataclasses import dataclass

from sendooway.smtp.regex import compiled

MAX_LINE_OCTETS = 4096  # of a smarthost's reply line, with its CR LF; RFC 5321, 4.5.3.1.5 allows 512
MAX_CHALLENGE_OCTETS = 12288 + 6  # of 334 and base64, with its CR LF; RFC 4954, 4.
MAX_LINES = 128
MAX_TEXT_OCTETS = 500  # of a line that we pass on, so that it keeps within 512 with code and CR LF

_NO_LINE_END = bytes.maketrans(b"\r\n\0", b"   ")
_ENHANCED = r"([245])\.[0-9]{1,3}\.[0-9]{1,3}(?= |$)"


@dataclass(frozen=True)
class Reply:
    """A reply. `enhanced` is empty where there is none; `text` has one element a line, without code and line end.

    Text that came from a smarthost may hold any octets but NUL, CR and LF, as surrogates where they are not UTF-8.
    """

    code: int
    enhanced: str
    text: tuple[str, ...]

    @property
    def positive(self) -> bool:
        return 200 <= self.code < 300

    def __str__(self) -> str:
        """On one line, for people."""
        return " ".join(filter(None, (str(self.code), self.enhanced, " ".join(self.text).strip())))


def reply(code: int, enhanced: str, *text: str) -> Reply:
    """A reply of our own, of one line for each `text`."""
    return Reply(code, enhanced, text)


def format(reply: Reply) -> bytes:
    """The reply as it goes to a client: all its lines, each with CR LF and, but for a challenge, at most 512 octets."""
    start = f"{reply.enhanced} " if reply.enhanced else ""
    # A challenge is not for people, and of no use in part.
    limit = MAX_CHALLENGE_OCTETS if reply.code == 334 else MAX_TEXT_OCTETS
    *lines, last = [_octets(start + text)[:limit] for text in reply.text or ("",)]
    return b"%b%d %b\r\n" % (b"".join(b"%d-%b\r\n" % (reply.code, line) for line in lines), reply.code, last)


def _octets(text: str) -> bytes:
    # Nothing that a text quotes, be it the name of a file, may end the line.
    return text.encode("utf-8", "surrogateescape").translate(_NO_LINE_END)


def with_enhanced(reply: Reply) -> Reply:
    """The reply with the generic code of its class where it has none (RFC 2034, 4.): 2.0.0, 4.0.0 or 5.0.0."""
    if reply.enhanced or reply.code // 100 == 3:
        return reply
    return Reply(reply.code, f"{reply.code // 100}.0.0", reply.text)


class ReplyError(Exception):
    """What a smarthost says is no reply; nothing that follows can be trusted. The text says what is wrong."""


class ReplyReader:
    """A smarthost's octets in, in any cutting; replies out. The limits above bound what it keeps."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0
        self._code = 0
        self._lines: list[str] = []

    @property
    def empty(self) -> bool:
        """Nothing has been received that was not handed out."""
        return not self._buffer and not self._lines

    def receive(self, octets: bytes) -> None:
        """Take octets of the smarthost."""
        self._buffer += octets

    def next_reply(self) -> Reply | None:
        """One whole reply, None if none is complete.

        Raises ReplyError for a line that is too long, is not a reply line or ends with a bare LF, for codes that
        contradict each other within one reply, and for too many lines.
        """
        while self._buffer:
            end = self._buffer.find(b"\n", self._searched)
            if end < 0:
                self._searched = len(self._buffer)
                if self._searched >= _limit(self._buffer):
                    raise ReplyError("reply line too long")
                return None
            line = bytes(self._buffer[: end + 1])
            del self._buffer[: end + 1]
            self._searched = 0
            if self._last_line(line):
                text, self._lines = tuple(self._lines), []
                return _reply(self._code, text)
        return None

    def _last_line(self, line: bytes) -> bool:
        """Take one line with its end. Whether it is the last of its reply. Raises ReplyError."""
        if len(line) > _limit(line):
            raise ReplyError("reply line too long")
        said = line.removesuffix(b"\r\n")
        digits, mark, text = said[:3], said[3:4], said[4:]
        is_code = len(digits) == 3 and digits.isdigit() and b"2" <= digits < b"6"
        if said == line or not is_code or mark not in (b"", b" ", b"-") or b"\r" in said or b"\0" in said:
            raise ReplyError("not a reply line")
        code = int(digits)
        if self._lines and code != self._code:
            raise ReplyError("contradicting codes in one reply")
        if len(self._lines) == MAX_LINES:
            raise ReplyError("too many lines in one reply")
        self._code = code
        self._lines.append(text.decode("utf-8", "surrogateescape"))
        return mark != b"-"


def _limit(line: bytes | bytearray) -> int:
    return MAX_CHALLENGE_OCTETS if line.startswith(b"334 ") else MAX_LINE_OCTETS


def _reply(code: int, text: tuple[str, ...]) -> Reply:
    """Takes the enhanced status code off the lines. It counts only if it is of the code's class (RFC 2034, 4.)."""
    match = compiled(_ENHANCED).match(text[0])
    if match is None or int(match[1]) != code // 100:
        return Reply(code, "", text)
    enhanced = match[0]
    start = enhanced + " "
    return Reply(code, enhanced, tuple(line.removeprefix(start) if line != enhanced else "" for line in text))
