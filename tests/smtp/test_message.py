"""A message on its way: its two forms, and what cannot be carried."""

import re

import pytest
from cuttings import cut, places
from hypothesis import example, given
from hypothesis import strategies as st

from sendooway.smtp.message import Counted, Dotted, LineEnds, Stuffed, Unchanged

octets = st.lists(
    st.sampled_from([b"\r\n", b".", b"\r\n.", b"..", b"x", b"\xff", b"\r", b"\n", b"\0", b"\r\n.\r\n", b"x." * 40]),
    max_size=20,
).map(b"".join)
text = st.lists(st.sampled_from([b"\r\n", b".", b"..", b"x", b"\xff", b".x\r\n"]), max_size=20).map(b"".join)


@given(octets, places)
@example(b".\r\n.\r\n", [1])
@example(b"\r\n.\r\n", [4])
def test_a_dotted_message_ends_at_its_first_dot_alone_on_a_line(received: bytes, where: list[int]) -> None:
    part = Dotted()
    message, rest = b"", b""
    for piece in cut(received, where):
        if part.rest is None:
            message += part.receive(piece)
        else:
            rest += piece
    end = (b"\r\n" + received).find(b"\r\n.\r\n")
    if end < 0:
        assert part.rest is None
        assert received.startswith(message)
        # What may begin the end is kept, and no more than that.
        assert len(received) - len(message) <= 4
    else:
        assert message == received[:end]
        assert part.rest is not None
        assert part.rest + rest == received[end + 3 :]


@given(octets, st.integers(min_value=0, max_value=40), places)
def test_a_counted_chunk_ends_where_it_has_its_octets(received: bytes, size: int, where: list[int]) -> None:
    part = Counted(size)
    chunk, rest = part.receive(b""), b""
    for piece in cut(received, where):
        if part.rest is None:
            chunk += part.receive(piece)
        else:
            rest += piece
    assert chunk == received[:size]
    assert (part.rest is None) == (len(received) < size)
    assert part.rest is None or part.rest + rest == received[size:]
    assert part.most == size - len(chunk)


def test_an_empty_chunk_is_complete_as_soon_as_it_is_looked_for() -> None:
    part = Counted(0)
    assert part.receive(b"") == b""
    assert part.rest == b""


def unstuffed(dotted: bytes) -> bytes:
    """As a smarthost reads it (RFC 5321, 4.5.2)."""
    assert dotted.endswith(b".\r\n")
    lines = dotted.removesuffix(b".\r\n").split(b"\r\n")
    return b"\r\n".join(line.removeprefix(b".") for line in lines)


@given(text, places)
def test_what_was_counted_and_goes_on_dotted_is_the_same_message(message: bytes, where: list[int]) -> None:
    form = Stuffed()
    dotted = b"".join(form.send(piece) for piece in cut(message, where)) + form.end()
    assert (b"\r\n" + dotted).find(b"\r\n.\r\n") == len(dotted) - 3
    if not message.endswith(b"\r\n") and message:
        message += b"\r\n"
    assert unstuffed(dotted) == message


def test_a_carriage_return_is_kept_until_its_line_feed_comes() -> None:
    form = Stuffed()
    assert form.send(b"a\r") == b"a"
    assert form.send(b"") == b""
    assert form.send(b"\n.") == b"\r\n.."


def test_what_goes_on_as_it_came_does_not_change() -> None:
    form = Unchanged(b".\r\n")
    assert form.send(b".\r\n.") == b".\r\n."
    assert form.end() == b".\r\n"


@given(octets, places)
def test_what_can_be_carried_does_not_depend_on_the_cutting(message: bytes, where: list[int]) -> None:
    ends = LineEnds()
    carriable = all(ends.carriable(piece, final=False) for piece in cut(message, where))
    carriable = ends.carriable(b"", final=True) and carriable
    assert carriable == (not re.search(rb"\0|\r(?!\n)|(?<!\r)\n", message))


@pytest.mark.parametrize("start", [b"", b"\r\n"])
@pytest.mark.parametrize("bad", [b"a\nb", b"\n", b"a\rb", b"\r\r\n", b"\0", b"a\r\n\0"])
def test_what_cannot_be_carried_is_seen_at_once(start: bytes, bad: bytes) -> None:
    ends = LineEnds()
    assert ends.carriable(start, final=False)
    assert not ends.carriable(bad, final=False)


def test_a_carriage_return_at_the_end_is_in_doubt_until_the_end() -> None:
    ends = LineEnds()
    assert ends.carriable(b"a\r", final=False)
    assert ends.carriable(b"\nb\r", final=False)
    assert not ends.carriable(b"", final=True)
