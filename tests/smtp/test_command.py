"""Commands and envelopes."""

import re
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendooway.smtp import command
from sendooway.smtp.command import Chunk, Command, CommandError, Envelope


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"NOOP", Command("NOOP", "")),
        (b"noop", Command("NOOP", "")),
        (b"QUIT  ", Command("QUIT", "")),
        (b"MAIL FROM:<a@b>", Command("MAIL", "FROM:<a@b>")),
        (b"Mail  From: <A@b>  SIZE=1 ", Command("MAIL", "From: <A@b>  SIZE=1")),
        (b"X-Verb-9 ~", Command("X-VERB-9", "~")),
        (b"DATA;", Command("DATA", ";")),
        ("MAIL FROM:<jörg@mönd.test>".encode(), Command("MAIL", "FROM:<jörg@mönd.test>")),
        ("rcpt to:<\U0010fffd@b>".encode(), Command("RCPT", "to:<\U0010fffd@b>")),
        ("VRFY jörg".encode(), Command("VRFY", "jörg")),
        ("EXPN jörg".encode(), Command("EXPN", "jörg")),
        (b"NOOP " + b"x" * 505, Command("NOOP", "x" * 505)),
        (b"MAIL " + b"x" * 2041, Command("MAIL", "x" * 2041)),
        (b"rcpt " + b"x" * 2041, Command("RCPT", "x" * 2041)),
        (b"AUTH " + b"x" * 12281, Command("AUTH", "x" * 12281)),
    ],
)
def test_a_line_is_a_verb_and_an_argument(line: bytes, expected: Command) -> None:
    assert command.parse(line) == expected


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b"", "Syntax error"),
        (b" NOOP", "Syntax error"),
        (b".", "Syntax error"),
        (b"\xffNOOP", "Syntax error"),
        (b"NOOP \xff", "Syntax error"),
        ("NOOP ö".encode(), "Syntax error"),
        ("EHLO mönd.test".encode(), "Syntax error"),
        ("MAIL\N{NO-BREAK SPACE}".encode("latin-1"), "Syntax error"),
        (b"MAIL FROM:<j\xf6rg@b>", "Syntax error"),
        (b"MAIL FROM:<j\xc0\xaf@b>", "Syntax error"),  # an overlong form of /
        (b"MAIL FROM:<j\xed\xa0\x80@b>", "Syntax error"),  # a surrogate
        (b"MAIL FROM:<j\xc2\x85@b>", "Syntax error"),  # NEL, a line end to some
        (b"MAIL FROM:<j\xc3", "Syntax error"),
        ("MAIL FROM:<\u212a@b> SMTPUTF8".encode(), "Syntax error"),  # it would pass for k@b
        (b"NOOP\t", "Syntax error"),
        (b"NOOP \x7f", "Syntax error"),
        (b"NOOP \x00", "Syntax error"),
        (b"NOOP x\r", "Syntax error"),
        (b"NOOP x\n", "Syntax error"),
        (b"NOOP " + b"x" * 506, "Line too long"),
        (b"MAIL " + b"x" * 2042, "Line too long"),
        (b"RCPT " + b"x" * 2042, "Line too long"),
        (b"AUTH " + b"x" * 12282, "Line too long"),
        (b" " * 511, "Line too long"),
    ],
)
def test_what_is_no_command_line(line: bytes, text: str) -> None:
    with pytest.raises(CommandError) as error:
        command.parse(line)
    assert (error.value.code, error.value.enhanced, error.value.text) == (500, "5.5.2", text)


@given(st.binary(max_size=600))
def test_any_line_is_a_command_or_the_documented_error(line: bytes) -> None:
    with suppress(CommandError):
        parsed = command.parse(line)
        assert parsed.verb == parsed.verb.upper()
        assert line.upper().startswith(parsed.verb.encode("ascii"))


def test_the_argument_of_a_command_does_not_show() -> None:
    assert "c2VjcmV0" not in repr(command.parse(b"AUTH PLAIN c2VjcmV0"))


ADDRESSES = [
    "alice@moon.test",
    "Alice.B+tag@Moon.TEST",
    "a@b",
    "postmaster",
    "odd..dots.@moon.test",
    "!#$%&'*+/=?^_`{|}~-@moon.test",
    "a%b!c@moon.test",
    "under_score@_dmarc.moon.test",
    '"quoted string"@moon.test',
    '"with \\" quote, \\\\ and > < @"@moon.test',
    '""@moon.test',
    "a@[192.0.2.7]",
    "a@[IPv6:2001:db8::1]",
    "jörg@mönd.test",
    '"jörg ö"@mönd.test',
    "甲斐@黒川.日本",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_addresses_are_taken_as_they_are(address: str) -> None:
    assert command.parse_mail(f"FROM:<{address}>") == Envelope(address, {})
    assert command.parse_rcpt(f"TO:<{address}>") == Envelope(address, {})


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("FROM:<>", Envelope("", {})),
        ("from: <a@b>", Envelope("a@b", {})),
        ("FROM:  <a@b>   SIZE=12  body=8BITMIME ", Envelope("a@b", {"SIZE": "12", "BODY": "8BITMIME"})),
        ("FROM:<a@b> SMTPUTF8 X-1=<>", Envelope("a@b", {"SMTPUTF8": "", "X-1": "<>"})),
        # A source route is ignored (RFC 5321, C.).
        ("FROM:<@relay.test,@other.test:a@b>", Envelope("a@b", {})),
    ],
)
def test_mail(argument: str, expected: Envelope) -> None:
    assert command.parse_mail(argument) == expected


@pytest.mark.parametrize(
    ("argument", "enhanced"),
    [
        ("", "5.5.4"),
        ("TO:<a@b>", "5.5.4"),
        ("FROM <a@b>", "5.5.4"),
        ("FROM :<a@b>", "5.5.4"),
        ("FROM:", "5.1.7"),
        ("FROM:a@b", "5.1.7"),
        ("FROM:<a@b", "5.1.7"),
        ("FROM:a@b>", "5.1.7"),
        ("FROM:<a b@c>", "5.1.7"),
        ("FROM:<a@b>SIZE=1", "5.1.7"),
        ("FROM:<a@b> >", "5.5.4"),
        ("FROM:<a@b@c>", "5.1.7"),
        ("FROM:<@b>", "5.1.7"),
        ("FROM:<a@>", "5.1.7"),
        ("FROM:<a@b.>", "5.1.7"),
        ("FROM:<a@-b>", "5.1.7"),
        ("FROM:<<a@b>>", "5.1.7"),
        ("FROM:<@relay.test:>", "5.1.7"),
        ('FROM:<"a@b>', "5.1.7"),
        ('FROM:<"a\\"@b>', "5.1.7"),
        ("FROM:<a@[]>", "5.1.7"),
        ("FROM:<a@b> SIZE=", "5.5.4"),
        ("FROM:<a@b> SIZE=1=2", "5.5.4"),
        ("FROM:<a@b> =1", "5.5.4"),
        ("FROM:<a@b> SIZE=1 size=2", "5.5.4"),
    ],
)
def test_bad_mail(argument: str, enhanced: str) -> None:
    with pytest.raises(CommandError) as error:
        command.parse_mail(argument)
    assert (error.value.code, error.value.enhanced) == (501, enhanced)


@pytest.mark.parametrize(
    ("argument", "enhanced"), [("FROM:<a@b>", "5.5.4"), ("TO:<>", "5.1.3"), ("TO:<a b@c>", "5.1.3"), ("TO:", "5.1.3")]
)
def test_bad_rcpt(argument: str, enhanced: str) -> None:
    with pytest.raises(CommandError) as error:
        command.parse_rcpt(argument)
    assert (error.value.code, error.value.enhanced) == (501, enhanced)


@pytest.mark.parametrize(
    ("envelope", "parameters"),
    [
        (Envelope("a@b", {}), ""),
        (Envelope("", {}), ""),
        (Envelope('"a b"@c', {"SIZE": "12", "SMTPUTF8": ""}), " SIZE=12 SMTPUTF8"),
        (Envelope("jörg@mönd.test", {"ORCPT": "utf-8;jörg"}), " ORCPT=utf-8;jörg"),
    ],
)
def test_an_envelope_as_a_command(envelope: Envelope, parameters: str) -> None:
    octets = f"<{envelope.address}>{parameters}\r\n".encode()
    assert command.format_mail(envelope) == b"MAIL FROM:" + octets
    assert command.format_rcpt(envelope) == b"RCPT TO:" + octets


@pytest.mark.parametrize(
    ("envelope", "is_ascii"),
    [
        (Envelope("a@b", {"SMTPUTF8": ""}), True),
        (Envelope("ö@b", {}), False),
        (Envelope("a@b", {"ORCPT": "utf-8;ö@b"}), False),
    ],
)
def test_what_needs_smtputf8(envelope: Envelope, is_ascii: bool) -> None:
    assert envelope.is_ascii == is_ascii


def test_no_other_address_has_the_lower_case_of_an_ascii_one() -> None:
    # Account files are searched without case, so the address that is sent on must be one that they name.
    allowed = re.compile(command.beyond_ascii_and(""))
    characters = filter(allowed.fullmatch, map(chr, range(0x80, 0x110000)))
    assert [character for character in characters if character.lower().isascii()] == []


def test_a_class_has_the_characters_of_ascii_that_it_names_and_beyond_them_all_but_c1_and_the_kelvin_sign() -> None:
    named = "-^]\\[az.\n"
    allowed = re.compile(command.beyond_ascii_and(named))
    others = set(map(chr, range(0xA0))) - set(named) | {"\u212a"}
    assert {character for character in map(chr, range(0x110000)) if not allowed.fullmatch(character)} == others


@pytest.mark.parametrize(
    ("argument", "chunk"),
    [
        ("0", Chunk(0, False)),
        ("0 LAST", Chunk(0, True)),
        ("86 last", Chunk(86, True)),
        ("007  Last", Chunk(7, True)),
        ("9223372036854775807", Chunk(2**63 - 1, False)),
        ("1" + "0" * 400, Chunk(10**400, False)),
    ],
)
def test_a_chunk(argument: str, chunk: Chunk) -> None:
    assert command.parse_bdat(argument) == chunk


@pytest.mark.parametrize(
    "argument", ["", "LAST", "x", "-1", "+1", "1.0", "0x10", "1 FIRST", "1 LAST LAST", "1LAST", "٣"]
)
def test_what_is_no_chunk(argument: str) -> None:
    with pytest.raises(CommandError) as error:
        command.parse_bdat(argument)
    assert (error.value.code, error.value.enhanced) == (501, "5.5.4")


@pytest.mark.parametrize("line", ["BDAT 0 LAST", "BDAT 9223372036854775807"])
def test_a_chunk_as_a_command(line: str) -> None:
    assert command.format_bdat(command.parse_bdat(line.removeprefix("BDAT "))) == line.encode("ascii") + b"\r\n"


_printable = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0x7E)
    | st.characters(min_codepoint=0xA0, exclude_categories=["Cs"]),
    max_size=80,
)


@given(_printable | _printable.map("<{}@moon.test>".format) | _printable.map("<a@b> {}".format))
def test_an_envelope_that_was_parsed_means_the_same_to_the_smarthost(text: str) -> None:
    with suppress(CommandError):
        envelope = command.parse_mail(f"FROM:{text}")
        octets = command.format_mail(envelope)
        assert octets.endswith(b"\r\n")
        assert octets.count(b"\n") == octets.count(b"\r") == 1
        again = command.parse_mail(octets.removeprefix(b"MAIL ").removesuffix(b"\r\n").decode())
        assert again == envelope


def test_parsing_takes_linear_time() -> None:
    # Each would take ages if a pattern tried all ways to read it.
    for text in (
        "<" + "a." * 1000,
        '<"' + "\\a" * 1000,
        "<a@" + "b-" * 1000,
        "<" + "@a," * 600,
        "<a@b> " + "c-" * 1000,
    ):
        with pytest.raises(CommandError):
            command.parse_mail(f"FROM:{text}!@")


@pytest.mark.parametrize(
    ("text", "octets"), [(b"=", b""), (b"", b""), (b"AGE=", b"\0a"), (b"AGEA", b"\0a\0"), (b"/+8=", b"\xff\xef")]
)
def test_base64(text: bytes, octets: bytes) -> None:
    assert command.parse_base64(text) == octets


@pytest.mark.parametrize(
    "text", [b"A", b"AG", b"AGE", b"AGE==", b"==", b"=AGE", b"A GE", b"AGE=\r", b"AG-_", b"\xff", b"*"]
)
def test_bad_base64(text: bytes) -> None:
    with pytest.raises(CommandError) as error:
        command.parse_base64(text)
    assert (error.value.code, error.value.enhanced) == (501, "5.5.2")
    assert error.value.__suppress_context__
