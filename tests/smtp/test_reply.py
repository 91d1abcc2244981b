"""The replies of a smarthost, and how they go to a client."""

from collections.abc import Callable

import pytest
from cuttings import WAYS, cut, places
from hypothesis import given
from hypothesis import strategies as st

from sendooway.smtp import reply
from sendooway.smtp.reply import MAX_LINE_OCTETS, MAX_LINES, Reply, ReplyError, ReplyReader

Way = Callable[[bytes], list[bytes]]

CASES: list[tuple[bytes, list[Reply]]] = [
    (b"250 Ok\r\n", [Reply(250, "", ("Ok",))]),
    (b"250\r\n", [Reply(250, "", ("",))]),
    (b"250 \r\n", [Reply(250, "", ("",))]),
    (b"354 Go on\r\n", [Reply(354, "", ("Go on",))]),
    (b"220-a\r\n220-\r\n220 b\r\n", [Reply(220, "", ("a", "", "b"))]),
    (b"220-a\r\n220\r\n", [Reply(220, "", ("a", ""))]),
    (b"250 2.1.0 Ok\r\n550 5.1.1 No\r\n", [Reply(250, "2.1.0", ("Ok",)), Reply(550, "5.1.1", ("No",))]),
    (b"550-5.7.1 a\r\n550-5.7.1\r\n550 b\r\n", [Reply(550, "5.7.1", ("a", "", "b"))]),
    (b"250 2.1.0\r\n", [Reply(250, "2.1.0", ("",))]),
    # An enhanced status code counts only if it is one, and of the reply's class.
    (b"250 5.1.0 Ok\r\n", [Reply(250, "", ("5.1.0 Ok",))]),
    (b"250 2.1.0Ok\r\n", [Reply(250, "", ("2.1.0Ok",))]),
    (b"250 2.1.0000 Ok\r\n", [Reply(250, "", ("2.1.0000 Ok",))]),
    (b"354 2.1.0 Ok\r\n", [Reply(354, "", ("2.1.0 Ok",))]),
    # It may be a challenge.
    (b"334 3.1.0\r\n", [Reply(334, "", ("3.1.0",))]),
    (b"250 \xe4\xc3\xa4\x85\x0b\r\n", [Reply(250, "", ("\udce4ä\udc85\x0b",))]),
    (b"250 " + b"x" * (MAX_LINE_OCTETS - 6) + b"\r\n", [Reply(250, "", ("x" * (MAX_LINE_OCTETS - 6),))]),
    (b"334 " + b"x" * 12288 + b"\r\n", [Reply(334, "", ("x" * 12288,))]),
    (b"250-\r\n" * (MAX_LINES - 1) + b"250 \r\n", [Reply(250, "", ("",) * MAX_LINES)]),
]

ERRORS: list[tuple[bytes, str]] = [
    (b"250 Ok\n", "not a reply line"),
    (b"\n", "not a reply line"),
    (b"\r\n", "not a reply line"),
    (b"Hello\r\n", "not a reply line"),
    (b"25\r\n", "not a reply line"),
    (b"2500\r\n", "not a reply line"),
    (b"250\tOk\r\n", "not a reply line"),
    (b"250_Ok\r\n", "not a reply line"),
    (b" 250 Ok\r\n", "not a reply line"),
    (b"150 Ok\r\n", "not a reply line"),
    (b"650 Ok\r\n", "not a reply line"),
    ("٢50 Ok\r\n".encode(), "not a reply line"),
    (b"250 O\rk\r\n", "not a reply line"),
    (b"250 Ok\r\r\n", "not a reply line"),
    (b"250 O\0k\r\n", "not a reply line"),
    (b"250-Ok\r\n251 Ok\r\n", "contradicting codes in one reply"),
    (b"250-\r\n" * MAX_LINES + b"250 \r\n", "too many lines in one reply"),
    (b"250 " + b"x" * (MAX_LINE_OCTETS - 5) + b"\r\n", "reply line too long"),
    (b"250 " + b"x" * MAX_LINE_OCTETS, "reply line too long"),
    (b"334 " + b"x" * 12289 + b"\r\n", "reply line too long"),
    (b"334 " + b"x" * 12290, "reply line too long"),
    (b"334-" + b"x" * MAX_LINE_OCTETS, "reply line too long"),
]


def read(reader: ReplyReader, pieces: list[bytes]) -> list[Reply | str]:
    """The replies, and behind them the error that ended them."""
    replies: list[Reply | str] = []
    for piece in pieces:
        reader.receive(piece)
        try:
            while (answer := reader.next_reply()) is not None:
                replies.append(answer)
        except ReplyError as error:
            return [*replies, str(error)]
    return replies


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("octets", "replies"), CASES)
def test_replies(octets: bytes, replies: list[Reply], way: Way) -> None:
    reader = ReplyReader()
    assert read(reader, way(octets)) == replies
    assert reader.empty


@pytest.mark.parametrize("tail", [b"2", b"250", b"250-Ok\r\n", b"250-Ok\r\n250 O", b"250 Ok\r"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("octets", "replies"), CASES)
def test_an_unfinished_reply_waits(octets: bytes, replies: list[Reply], way: Way, tail: bytes) -> None:
    reader = ReplyReader()
    assert read(reader, way(octets + tail)) == replies
    assert not reader.empty


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("octets", "error"), ERRORS)
def test_what_is_no_reply(octets: bytes, error: str, way: Way) -> None:
    before = Reply(220, "", ("Hello",))
    assert read(ReplyReader(), way(b"220 Hello\r\n" + octets + b"250 Ok\r\n")) == [before, error]


@given(
    st.lists(st.sampled_from([b"250", b"550", b" ", b"-", b"x", b"\r\n", b"\n", b"\r", b"\0", b"y" * 900])).map(
        b"".join
    ),
    places,
)
def test_any_cutting_gives_the_same_replies(octets: bytes, where: list[int]) -> None:
    assert read(ReplyReader(), list(cut(octets, where))) == read(ReplyReader(), [octets])


@given(st.binary(max_size=3000), places)
def test_any_octets_give_replies_or_the_documented_error(octets: bytes, where: list[int]) -> None:
    read(ReplyReader(), list(cut(b"250-" + octets, where)))


def test_an_endless_reply_takes_no_memory() -> None:
    reader = ReplyReader()
    assert read(reader, [b"250-" + b"x" * 4000 + b"\r\n"] * 100_000)[-1] == "too many lines in one reply"


FORMATS: list[tuple[Reply, bytes]] = [
    (reply.reply(250, "2.0.0", "Ok"), b"250 2.0.0 Ok\r\n"),
    (reply.reply(220, "", "Hello"), b"220 Hello\r\n"),
    (reply.reply(550, "5.7.1", "a", "", "b"), b"550-5.7.1 a\r\n550-5.7.1 \r\n550 5.7.1 b\r\n"),
    (reply.reply(250, ""), b"250 \r\n"),
    (reply.reply(250, "2.0.0"), b"250 2.0.0 \r\n"),
    (reply.reply(250, "", "\udce4ä"), b"250 \xe4\xc3\xa4\r\n"),
    # Nothing that a text quotes may become a line end on the other side.
    (reply.reply(550, "5.7.1", "a\r\n250 b\nc\0d"), b"550 5.7.1 a  250 b c d\r\n"),
    (reply.reply(550, "5.7.1", "x" * 600), b"550 5.7.1 " + b"x" * 494 + b"\r\n"),
]


@pytest.mark.parametrize(("answer", "octets"), FORMATS)
def test_format(answer: Reply, octets: bytes) -> None:
    assert reply.format(answer) == octets


@given(
    st.integers(min_value=200, max_value=599),
    st.sampled_from(["", "2.0.0", "4.7.1", "5.1.10"]),
    st.lists(st.text(), min_size=1, max_size=5),
)
def test_a_formatted_reply_is_one_reply_of_short_lines(code: int, enhanced: str, text: list[str]) -> None:
    octets = reply.format(reply.reply(code, enhanced, *(line.encode("utf-8", "replace").decode() for line in text)))
    assert all(len(line) <= 510 for line in octets.split(b"\r\n"))
    read_again = read(ReplyReader(), [octets])
    assert [answer.code for answer in read_again if isinstance(answer, Reply)] == [code]
    assert len(read_again) == 1


@pytest.mark.parametrize("octets", [octets for octets, _ in CASES if len(octets) < 100])
def test_parsing_undoes_formatting(octets: bytes) -> None:
    for answer in read(ReplyReader(), [octets]):
        assert isinstance(answer, Reply)
        assert read(ReplyReader(), [reply.format(answer)]) == [answer]


@pytest.mark.parametrize(
    ("code", "enhanced", "expected"),
    [(250, "", "2.0.0"), (451, "", "4.0.0"), (550, "", "5.0.0"), (354, "", ""), (250, "2.1.5", "2.1.5")],
)
def test_a_reply_without_enhanced_status_code_gets_the_one_of_its_class(
    code: int, enhanced: str, expected: str
) -> None:
    assert reply.with_enhanced(Reply(code, enhanced, ("x",))) == Reply(code, expected, ("x",))


@pytest.mark.parametrize(("code", "positive"), [(199, False), (200, True), (299, True), (300, False), (550, False)])
def test_only_2yz_is_positive(code: int, positive: bool) -> None:
    assert Reply(code, "", ("",)).positive is positive


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (Reply(550, "5.1.1", ("No such", "user ")), "550 5.1.1 No such user"),
        (Reply(354, "", ("Go on",)), "354 Go on"),
        (Reply(250, "", ("",)), "250"),
    ],
)
def test_a_reply_reads_well_on_one_line(answer: Reply, text: str) -> None:
    assert str(answer) == text


def test_a_challenge_is_formatted_whole() -> None:
    assert reply.format(reply.reply(334, "", "x" * 12288)) == b"334 " + b"x" * 12288 + b"\r\n"
