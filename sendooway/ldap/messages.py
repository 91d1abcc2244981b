"""Messages of LDAP (RFC 4511), between octets and types: what we say, and what may come in answer to it.

On the wire they are BER, of which LDAP uses the plain part (RFC 4511, 5.1): an element is a tag of one octet, the
length, and the content.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from sendooway.secret import Secret

MAX_MESSAGE_OCTETS = 65536  # octets; an entry's four attributes that we ask for have a few hundred

# RFC 4511, appendix A.
SUCCESS = 0
REFERRAL = 10

START_TLS = "1.3.6.1.4.1.1466.20037"  # RFC 4511, 4.14

_BOOLEAN, _INTEGER, _OCTETS, _ENUMERATED, _SEQUENCE, _SET = 0x01, 0x02, 0x04, 0x0A, 0x30, 0x31
_SIMPLE, _PRESENT, _REQUEST_NAME = 0x80, 0x87, 0x80
_BIND, _UNBIND, _SEARCH, _EXTENDED = 0x60, 0x42, 0x63, 0x77
_BIND_RESULT, _ENTRY, _SEARCH_RESULT, _REFERENCE, _EXTENDED_RESULT, _INTERMEDIATE = 0x61, 0x64, 0x65, 0x73, 0x78, 0x79

_RESULTS = frozenset({_BIND_RESULT, _SEARCH_RESULT, _EXTENDED_RESULT})
# Of no use to us: where else to search, and what has been done so far.
_UNUSED = frozenset({_REFERENCE, _INTERMEDIATE})


class MessageError(Exception):
    """What came is no message of LDAP, is too long, or answers nothing of ours. The text quotes nothing of it."""


@dataclass(frozen=True)
class Result:
    """How the operation `number` ended (LDAPResult); number 0: how the connection does. `text` is for people."""

    number: int
    code: int
    text: str


@dataclass(frozen=True)
class Entry:
    """What a search found: the values of each attribute, whose names are in lower case."""

    number: int
    attributes: dict[str, tuple[bytes, ...]]


@dataclass(frozen=True)
class Unused:
    """A reference or an intermediate response."""

    number: int


Message = Result | Entry | Unused


def format_bind(number: int, dn: str, password: Secret) -> bytes:
    """A simple bind as `dn`. With an empty password it would be an anonymous one, which succeeds (RFC 4513, 5.1.2)."""
    assert password.octets
    return _message(number, _BIND, _integer(3) + _text(dn) + _element(_SIMPLE, password.octets))


def format_read(number: int, dn: str, attributes: tuple[str, ...], seconds: int) -> bytes:
    """Search for the entry `dn` itself, and wait for it no longer than `seconds`."""
    base_object = never_dereference = _element(_ENUMERATED, b"\0")
    types_only = _element(_BOOLEAN, b"\0")
    any_object = _element(_PRESENT, b"objectClass")
    names = _element(_SEQUENCE, b"".join(map(_text, attributes)))
    limits = _integer(1) + _integer(seconds)
    return _message(
        number, _SEARCH, _text(dn) + base_object + never_dereference + limits + types_only + any_object + names
    )


def format_start_tls(number: int) -> bytes:
    """StartTLS (RFC 4511, 4.14)."""
    return _message(number, _EXTENDED, _element(_REQUEST_NAME, START_TLS.encode()))


def format_unbind(number: int) -> bytes:
    """The end of the connection; there is no answer."""
    return _message(number, _UNBIND, b"")


def _message(number: int, tag: int, content: bytes) -> bytes:
    return _element(_SEQUENCE, _integer(number) + _element(tag, content))


def _element(tag: int, content: bytes) -> bytes:
    length = len(content)
    if length < 0x80:
        return bytes((tag, length)) + content
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets + content


def _integer(value: int) -> bytes:
    return _element(_INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _text(text: str) -> bytes:
    return _element(_OCTETS, text.encode("utf-8"))


class MessageReader:
    """A server's octets in, in any cutting; messages out."""

    def __init__(self) -> None:
        self._unread = bytearray()

    @property
    def empty(self) -> bool:
        """Nothing has been received that was not handed out."""
        return not self._unread

    def receive(self, octets: bytes) -> None:
        self._unread += octets

    def next_message(self) -> Message | None:
        """One whole message, None if none is complete. Raises MessageError; then the reader is of no more use."""
        head = _head(self._unread, 0)
        if head is None:
            return None
        tag, begin, end = head
        if tag != _SEQUENCE or end > MAX_MESSAGE_OCTETS:
            raise MessageError("it does not speak LDAP" if tag != _SEQUENCE else "its answer is too long")
        if len(self._unread) < end:
            return None
        content = bytes(self._unread[begin:end])
        del self._unread[:end]
        return _parse(content)


def _head(octets: bytes | bytearray, place: int) -> tuple[int, int, int] | None:
    """The tag of the element at `place`, and where its content begins and ends. None if there are too few octets.

    Raises MessageError for what LDAP does not use: an indefinite length, one of more than four octets, long tags.
    """
    begin = place + 2
    if len(octets) < begin:
        return None
    tag, length = octets[place], octets[place + 1]
    if tag & 0x1F == 0x1F or length == 0x80 or length > 0x84:
        raise MessageError("it does not speak LDAP")
    if length < 0x80:
        return tag, begin, begin + length
    end_of_length = begin + (length & 0x7F)
    if len(octets) < end_of_length:
        return None
    return tag, end_of_length, end_of_length + int.from_bytes(octets[begin:end_of_length], "big")


def _elements(octets: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and content of each element. Raises MessageError where one is cut."""
    place = 0
    while place < len(octets):
        head = _head(octets, place)
        if head is None or head[2] > len(octets):
            raise MessageError("its answer is malformed")
        tag, begin, place = head
        yield tag, octets[begin:place]


def _take(elements: Iterator[tuple[int, bytes]], *tags: int) -> bytes:
    """The content of the next element, which has to have one of the tags."""
    tag, content = next(elements, (0, b""))
    if tag not in tags:
        raise MessageError("its answer is malformed")
    return content


def _parse(content: bytes) -> Message:
    elements = _elements(content)
    number = _number(_take(elements, _INTEGER))
    tag, operation = next(elements, (0, b""))
    # Controls may follow, which change nothing unless we have asked for them.
    if tag in _RESULTS:
        parts = _elements(operation)
        code = _number(_take(parts, _ENUMERATED))
        _take(parts, _OCTETS)
        return Result(number, code, _take(parts, _OCTETS).decode("utf-8", "replace"))
    if tag == _ENTRY:
        parts = _elements(operation)
        _take(parts, _OCTETS)
        return Entry(number, dict(_attributes(_take(parts, _SEQUENCE))))
    if tag in _UNUSED:
        return Unused(number)
    raise MessageError("its answer is none to what we have asked")


def _attributes(content: bytes) -> Iterator[tuple[str, tuple[bytes, ...]]]:
    for tag, attribute in _elements(content):
        if tag != _SEQUENCE:
            raise MessageError("its answer is malformed")
        parts = _elements(attribute)
        name = _take(parts, _OCTETS)
        values = _elements(_take(parts, _SET))
        yield name.decode("ascii", "replace").lower(), tuple(value for _, value in values)


def _number(content: bytes) -> int:
    if not 0 < len(content) <= 4:
        raise MessageError("its answer is malformed")
    return int.from_bytes(content, "big", signed=True)
