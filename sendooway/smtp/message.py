"""A message on its way through: where it ends, how it goes on, and what cannot be carried.

It comes in one of two forms, and goes on in the same or in the other:

    dotted     behind DATA: a dot at the start of a line is doubled, CR LF . CR LF is the end (RFC 5321, 4.5.2)
    counted    behind BDAT: as it is, its octets counted; a message is one chunk or several (RFC 3030, 2.)

Octets come in any cutting, and no line is looked at by itself: that would take fifty times as long.
"""

from io import IncrementalNewlineDecoder

_END = b"\r\n.\r\n"


class Dotted:
    """A message behind DATA. `rest` is None until the end has come, then what was received behind it."""

    most: int | None = None  # how many octets it wants: it cannot know

    def __init__(self) -> None:
        self.rest: bytes | None = None
        # The first line stands behind a line end too: `DATA CRLF . CRLF` is an empty message (RFC 5321, 4.1.1.4).
        self._tail = b"\r\n"  # what may begin the end
        self._not_ours = 2  # octets at the start of the tail that are not the message's

    def receive(self, octets: bytes) -> bytes:
        """What is certainly the message's, perhaps nothing: dots are doubled, the dot and CR LF of its end left out."""
        octets = self._tail + octets
        # Most pieces have no end in them. Of base64 the missing dot tells that at once, else it is found out four times
        # as fast from behind.
        end = octets.find(_END) if b"." in octets and octets.rfind(_END) >= 0 else -1
        if end >= 0:
            text = octets[: end + 2]
            self.rest = octets[end + len(_END) :]
            self._tail = b""
        else:
            certain = len(octets) - _held_back(octets)
            text, self._tail = octets[:certain], octets[certain:]
        skipped = min(self._not_ours, len(text))
        self._not_ours -= skipped
        return text[skipped:] if skipped else text


def _held_back(octets: bytes) -> int:
    """How many of the last octets may be the beginning of the end of the data."""
    for length in range(min(len(_END) - 1, len(octets)), 0, -1):
        if octets.endswith(_END[:length]):
            return length
    return 0


class Counted:
    """A chunk behind BDAT. `rest` is None until it is complete, then what was received behind it."""

    def __init__(self, size: int) -> None:
        self.most: int | None = size  # octets that are missing yet
        self.rest: bytes | None = None

    def receive(self, octets: bytes) -> bytes:
        """Those of the octets that are the chunk's."""
        assert self.most is not None
        text = octets[: self.most]
        self.most -= len(text)
        if not self.most:
            self.rest = octets[len(text) :]
        return text


class Unchanged:
    """A message that goes on in the form in which it came; `end` is what closes it."""

    def __init__(self, end: bytes) -> None:
        self._end = end

    def send(self, text: bytes) -> bytes:
        return text

    def end(self) -> bytes:
        return self._end


class Stuffed:
    """A counted message that goes on dotted: dots at the start of lines are doubled."""

    def __init__(self) -> None:
        self._before = b"\r\n"  # the last two octets that went on
        self._held = b""  # a CR: whether an LF follows it is not known yet

    def send(self, text: bytes) -> bytes:
        text = self._held + text
        self._held = b"\r" if text.endswith(b"\r") else b""
        text = text.removesuffix(b"\r")
        stuffed = (self._before + text).replace(b"\r\n.", b"\r\n..")[len(self._before) :]
        self._before = (self._before + text)[-2:]
        return stuffed

    def end(self) -> bytes:
        """The end of the data, and before it that of the last line where the message has none."""
        return b".\r\n" if self._before == b"\r\n" else b"\r\n.\r\n"


class LineEnds:
    """Whether a message can be carried: no bare CR, bare LF or NUL in it.

    Lenient receivers take the first two for line ends, and some drop NULs, so that such a message could carry a second
    one inside (SMTP smuggling, CVE-2023-51764). In chunks, whose octets are counted, it could not, but the smarthost
    will send it on behind DATA; and text behind BDAT has to have CR LF as well (RFC 3030, 3.).
    """

    def __init__(self) -> None:
        # Far faster than counting: the decoder of text files, which tells the kinds of line ends that it has seen.
        self._decoder = IncrementalNewlineDecoder(None, False)

    def carriable(self, text: bytes, *, final: bool) -> bool:
        """Whether the message, of which `text` comes next, can be carried up to here. A CR at the end is a bare one
        only if the text is `final`; else an LF may follow it."""
        self._decoder.decode(text.decode("latin-1"), final)
        return self._decoder.newlines in (None, "\r\n") and b"\0" not in text
