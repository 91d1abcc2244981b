"""The lines of a client."""

from collections.abc import Callable

import pytest
from cuttings import WAYS, cut, places
from hypothesis import example, given
from hypothesis import strategies as st

from sendooway.smtp.lines import MAX_OCTETS, LineFault, LineReader

Lines = list[bytes | LineFault]
Way = Callable[[bytes], list[bytes]]

BARE, LONG = LineFault.BARE_CONTROL, LineFault.TOO_LONG

CASES: list[tuple[bytes, Lines]] = [
    (b"", []),
    (b"\r\n", [b""]),
    (b"NOOP\r\n", [b"NOOP"]),
    (b"NOOP\r\nQUIT\r\n", [b"NOOP", b"QUIT"]),
    (b"\x0b\x0c\x1c\x85\xe2\x80\xa8\r\n", [b"\x0b\x0c\x1c\x85\xe2\x80\xa8"]),
    # What follows a bare LF up to CR LF was written by nobody knows whom.
    (b"NOOP\n", [BARE]),
    (b"NOOP\nQUIT\r\nRSET\r\n", [BARE, BARE, b"RSET"]),
    (b"\n\n\nQUIT\r\nRSET\r\n", [BARE, BARE, BARE, BARE, b"RSET"]),
    (b"NO\rOP\r\nRSET\r\n", [BARE, b"RSET"]),
    (b"NOOP\r\r\nRSET\r\n", [BARE, b"RSET"]),
    (b"NO\0OP\r\nRSET\r\n", [BARE, b"RSET"]),
    (b"x" * (MAX_OCTETS - 2) + b"\r\n", [b"x" * (MAX_OCTETS - 2)]),
    (b"x" * (MAX_OCTETS - 1) + b"\r\nRSET\r\n", [LONG, b"RSET"]),
    (b"x" * MAX_OCTETS + b"\r\nRSET\r\n", [LONG, b"RSET"]),
    (b"x" * 3 * MAX_OCTETS + b"\r\nRSET\r\n", [LONG, b"RSET"]),
    (b"\0" + b"x" * 3 * MAX_OCTETS + b"\r\nRSET\r\n", [LONG, b"RSET"]),
    (b"x" * 3 * MAX_OCTETS + b"\nQUIT\r\nRSET\r\n", [LONG, BARE, b"RSET"]),
    (b"x\nx" + b"x" * 3 * MAX_OCTETS + b"\r\nRSET\r\n", [BARE, LONG, b"RSET"]),
]

CASES_ON_PIPES: list[tuple[bytes, Lines]] = [
    (b"NOOP\nQUIT\r\nRSET\n", [b"NOOP", b"QUIT", b"RSET"]),
    (b"NOOP\n\nQUIT\n", [b"NOOP", b"", b"QUIT"]),
    (b"NO\rOP\nRSET\n", [BARE, b"RSET"]),
    (b"NO\0OP\nRSET\n", [BARE, b"RSET"]),
    (b"x" * (MAX_OCTETS - 2) + b"\n", [b"x" * (MAX_OCTETS - 2)]),
    (b"x" * (MAX_OCTETS - 1) + b"\nRSET\n", [LONG, b"RSET"]),
]


def read(reader: LineReader, pieces: list[bytes]) -> Lines:
    lines: Lines = []
    for piece in pieces:
        reader.receive(piece)
        while (line := reader.next_line()) is not None:
            lines.append(line)
    return lines


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("octets", "lines"), CASES)
def test_lines_end_at_crlf(octets: bytes, lines: Lines, way: Way) -> None:
    reader = LineReader()
    assert read(reader, way(octets)) == lines
    assert len(reader) == 0


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("octets", "lines"), CASES_ON_PIPES)
def test_on_pipes_lines_end_at_lf_too(octets: bytes, lines: Lines, way: Way) -> None:
    assert read(LineReader(lf_ends_line=True), way(octets)) == lines


@pytest.mark.parametrize("tail", [b"R", b"RSET", b"RSET\r"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("octets", "lines"), CASES)
def test_what_follows_the_last_line_waits(octets: bytes, lines: Lines, way: Way, tail: bytes) -> None:
    reader = LineReader()
    assert read(reader, way(octets + tail)) == lines
    assert len(reader) == len(tail)
    assert reader.take() == tail
    assert len(reader) == 0


def test_what_was_taken_is_not_read_again() -> None:
    reader = LineReader()
    assert read(reader, [b"DATA\r\nmessa"]) == [b"DATA"]
    assert reader.take() == b"messa"
    assert read(reader, [b"NOOP\r\n"]) == [b"NOOP"]


def test_a_line_pushed_back_comes_again_before_what_follows() -> None:
    reader = LineReader()
    reader.receive(b"RSET\r\nQUIT\r\n")
    line = reader.next_line()
    assert isinstance(line, bytes)
    reader.push_back(line)
    assert read(reader, [b"NO"]) == [b"RSET", b"QUIT"]
    assert reader.take() == b"NO"


def test_octets_that_are_no_lines_are_taken_by_their_number() -> None:
    reader = LineReader()
    reader.receive(b"BDAT 4\r\n\r\n\0\nNOOP\r\n")
    assert reader.next_line() == b"BDAT 4"
    assert reader.take(0) == b""
    assert reader.take(4) == b"\r\n\0\n"
    assert reader.next_line() == b"NOOP"
    assert reader.take(4) == b""


def test_an_endless_line_takes_no_memory() -> None:
    reader = LineReader()
    for _ in range(1000):
        assert read(reader, [b"x" * MAX_OCTETS]) == []
        assert len(reader) <= MAX_OCTETS
    assert read(reader, [b"\r\nNOOP\r\n"]) == [LONG, b"NOOP"]


def test_faults_are_told_in_words() -> None:
    assert [fault.value for fault in LineFault] == ["Line too long", "Line with a bare CR, bare LF or NUL"]


@given(
    st.lists(st.sampled_from([b"\r", b"\n", b"\0", b"x", b"\r\n", b"y" * 5000])).map(b"".join), places, st.booleans()
)
@example(b"\r" + b"y" * 15000 + b"\r\n", [14000], False)
def test_any_cutting_gives_the_same_lines(octets: bytes, where: list[int], lf_ends_line: bool) -> None:
    once, cut_up = LineReader(lf_ends_line=lf_ends_line), LineReader(lf_ends_line=lf_ends_line)
    assert read(cut_up, list(cut(octets, where))) == read(once, [octets])
    unfinished = len(octets) - octets.rfind(b"\n") - 1
    if unfinished <= MAX_OCTETS:  # of a longer one it depends on the cutting how much is kept
        assert cut_up.take() == once.take() == octets[len(octets) - unfinished :]


@given(st.binary())
def test_lines_and_the_rest_are_what_was_received(octets: bytes) -> None:
    reader = LineReader()
    lines = read(reader, [octets])
    if not any(isinstance(line, LineFault) for line in lines):
        assert b"".join(line + b"\r\n" for line in lines if isinstance(line, bytes)) + reader.take() == octets
