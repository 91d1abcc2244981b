"""Octets of LDAP: what we say, and what comes in answer, well formed or not."""

import time
from collections.abc import Callable, Iterable
from contextlib import suppress

import pytest
from cuttings import WAYS, cut, places
from hypothesis import given
from hypothesis import strategies as st

from sendooway.ldap import messages
from sendooway.ldap.messages import MAX_MESSAGE_OCTETS, Entry, Message, MessageError, MessageReader, Result, Unused
from sendooway.secret import Secret


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (
            messages.format_bind(2, "uid=a", Secret(b"s3")),
            b"\x30\x13\x02\x01\x02\x60\x0e\x02\x01\x03\x04\x05uid=a\x80\x02s3",
        ),
        (
            messages.format_bind(2, "uid=\u00e4", Secret(b"\xff" * 200)),
            b"\x30\x81\xdc\x02\x01\x02\x60\x81\xd6\x02\x01\x03\x04\x06uid=\xc3\xa4\x80\x81\xc8" + b"\xff" * 200,
        ),
        (
            messages.format_read(3, "uid=a", ("uid",), 5),
            b"\x30\x2f\x02\x01\x03\x63\x2a\x04\x05uid=a\x0a\x01\x00\x0a\x01\x00\x02\x01\x01\x02\x01\x05\x01\x01\x00"
            b"\x87\x0bobjectClass\x30\x05\x04\x03uid",
        ),
        (messages.format_start_tls(1), b"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037"),
        (messages.format_unbind(4), b"\x30\x05\x02\x01\x04\x42\x00"),
        # More than 127 is positive only with an octet of its own for the sign.
        (messages.format_unbind(200), b"\x30\x06\x02\x02\x00\xc8\x42\x00"),
    ],
)
def test_what_we_say(octets: bytes, expected: bytes) -> None:
    assert octets == expected


def test_an_empty_password_is_never_said() -> None:
    with pytest.raises(AssertionError):
        messages.format_bind(2, "uid=a", Secret(b""))


ENTRY = (
    b"\x30\x2e\x02\x01\x03\x64\x29\x04\x05uid=a\x30\x20"
    b"\x30\x0f\x04\x03UID\x31\x08\x04\x01a\x04\x03\xff\x00b"
    b"\x30\x0d\x04\x09uidNumber\x31\x00"
)

MESSAGES: list[tuple[bytes, Message]] = [
    (b"\x30\x0c\x02\x01\x02\x61\x07\x0a\x01\x00\x04\x00\x04\x00", Result(2, 0, "")),
    (b"\x30\x0e\x02\x01\x02\x61\x09\x0a\x01\x31\x04\x00\x04\x02no", Result(2, 49, "no")),
    # With long lengths, as Active Directory has them; with a referral and a control behind.
    (
        b"\x30\x84\x00\x00\x00\x29\x02\x01\x02\x61\x84\x00\x00\x00\x16\x0a\x01\x0a\x04\x84\x00\x00\x00\x00\x04\x01\xff"
        b"\xa3\x08\x04\x06ldap:/\xa0\x08\x30\x06\x04\x041.23",
        Result(2, 10, "\ufffd"),
    ),
    # Extended, with a name; the number 0 is nobody's question.
    (b"\x30\x10\x02\x01\x00\x78\x0b\x0a\x01\x34\x04\x00\x04\x00\x8a\x021.", Result(0, 52, "")),
    (b"\x30\x0c\x02\x01\x03\x65\x07\x0a\x01\x04\x04\x00\x04\x00", Result(3, 4, "")),
    (ENTRY, Entry(3, {"uid": (b"a", b"\xff\x00b"), "uidnumber": ()})),
    (b"\x30\x0d\x02\x01\x03\x73\x08\x04\x06ldap:/", Unused(3)),
    (b"\x30\x05\x02\x01\x03\x79\x00", Unused(3)),
]


def read(pieces: Iterable[bytes]) -> list[Message]:
    reader = MessageReader()
    found = []
    for piece in pieces:
        reader.receive(piece)
        while (message := reader.next_message()) is not None:
            found.append(message)
    assert reader.empty
    return found


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("octets", "message"), MESSAGES)
def test_what_comes(octets: bytes, message: Message, way: Callable[[bytes], list[bytes]]) -> None:
    assert read(way(octets)) == [message]


@given(places)
def test_any_cutting_gives_the_same_messages(places: list[int]) -> None:
    octets = b"".join(octets for octets, _ in MESSAGES)
    assert read(cut(octets, places)) == [message for _, message in MESSAGES]


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (b"220 smtp.moon.test ESMTP\r\n", "it does not speak LDAP"),
        (b"\x15\x03\x03\x00\x02\x02\x28", "it does not speak LDAP"),
        (b"\x31\x00", "it does not speak LDAP"),
        (b"\x3f\x81", "it does not speak LDAP"),
        (b"\x30\x80\x02\x01\x02", "it does not speak LDAP"),
        (b"\x30\x85\x00\x00\x00\x00\x01", "it does not speak LDAP"),
        (b"\x30\x84\x7f\xff\xff\xff", "too long"),
        (b"\x30\x83\x01\x00\x00", "too long"),
        (b"\x30\x00", "malformed"),
        (b"\x30\x03\x02\x01\x02", "none to what we have asked"),
        (b"\x30\x05\x02\x00\x61\x01\x00", "malformed"),
        (b"\x30\x0d\x02\x05\x01\x01\x01\x01\x01\x61\x04\x0a\x01\x00\x04", "malformed"),
        # A bind request; an entry with more than it has room for; a result without its text.
        (b"\x30\x05\x02\x01\x02\x60\x00", "none to what we have asked"),
        (b"\x30\x0b\x02\x01\x03\x64\x06\x04\x00\x30\x7f\x30\x00", "malformed"),
        (b"\x30\x0b\x02\x01\x03\x64\x06\x04\x00\x30\x02\x04\x00", "malformed"),
        (b"\x30\x0a\x02\x01\x02\x61\x05\x0a\x01\x00\x04\x00", "malformed"),
        (b"\x30\x0c\x02\x01\x02\x61\x07\x02\x01\x00\x04\x00\x04\x00", "malformed"),
    ],
)
def test_what_is_no_message_is_an_error(octets: bytes, reason: str) -> None:
    with pytest.raises(MessageError, match=reason):
        read([octets])


@given(st.binary(max_size=200) | st.sampled_from([octets for octets, _ in MESSAGES]), st.binary(max_size=8), places)
def test_any_octets_are_messages_or_an_error(octets: bytes, other: bytes, places: list[int]) -> None:
    reader = MessageReader()
    changed = bytearray(octets)
    for place, octet in zip(places, other, strict=False):
        if changed:
            changed[place % len(changed)] = octet
    reader.receive(bytes(changed))
    with suppress(MessageError):
        while reader.next_message() is not None:
            pass


def test_the_longest_message_takes_no_time() -> None:
    entry = b"\x04\x00\x30\x82\xff\xe0" + b"\x30\x04\x04\x00\x31\x00" * (0xFFE0 // 6) + b"\x30\x00"
    operation = b"\x64\x82" + len(entry).to_bytes(2, "big") + entry
    content = b"\x02\x01\x03" + operation
    octets = b"\x30\x82" + len(content).to_bytes(2, "big") + content
    assert len(octets) <= MAX_MESSAGE_OCTETS
    begin = time.process_time()
    with pytest.raises(MessageError):
        read([octets])
    assert time.process_time() - begin < 1
