"""What a smarthost offers."""

import pytest

from sendooway.smtp import capabilities
from sendooway.smtp.capabilities import Capabilities
from sendooway.smtp.reply import Reply


def parse(*lines: str) -> Capabilities:
    return capabilities.parse(Reply(250, "", ("mx.moon.test greets you", *lines)))


def test_keywords_are_without_case() -> None:
    offers = parse("Pipelining", "starttls", "AUTH Plain login", "size 1000")
    assert offers.pipelining
    assert offers.starttls
    assert offers.mechanisms == ("PLAIN", "LOGIN")
    assert offers.size_limit == 1000


def test_nothing_is_offered_by_a_smarthost_that_says_nothing() -> None:
    for offers in (parse(), capabilities.NONE):
        assert not offers.pipelining
        assert not offers.starttls
        assert offers.mechanisms == ()
        assert offers.size_limit is None


def test_the_first_line_is_a_greeting() -> None:
    assert capabilities.parse(Reply(250, "", ("STARTTLS",))) == capabilities.NONE


@pytest.mark.parametrize("line", ["AUTH=PLAIN LOGIN", "AUTH=plain login", "auth= PLAIN LOGIN", " AUTH  PLAIN  LOGIN "])
def test_old_ways_to_offer_mechanisms(line: str) -> None:
    assert parse(line).mechanisms == ("PLAIN", "LOGIN")


def test_several_lines_of_mechanisms_count_together() -> None:
    assert parse("AUTH PLAIN", "AUTH=LOGIN", "AUTH CRAM-MD5").mechanisms == ("PLAIN", "LOGIN", "CRAM-MD5")


def test_of_mechanisms_without_end_and_of_nonsense_little_is_kept() -> None:
    assert parse("AUTH PLAIN PLAIN plain \u00e4 \udce4 X.Y " + "A" * 21).mechanisms == ("PLAIN",)
    assert len(parse(*(f"AUTH X{number}" for number in range(1000))).mechanisms) == capabilities.MAX_MECHANISMS


@pytest.mark.parametrize(
    ("parameter", "limit"),
    [("0", None), ("", None), ("1", 1), ("many", None), ("-1", None), ("1 2", None), ("9" * 21, None), ("٣", None)],
)
def test_size_limit(parameter: str, limit: int | None) -> None:
    assert parse(f"SIZE {parameter}").size_limit == limit


@pytest.mark.parametrize(
    ("parameters", "limit"),
    [
        ("RCPTMAX=10 MAILMAX=5", 5),
        ("mailmax=1", 1),
        ("RCPTMAX=10", None),
        ("MAILMAX", None),
        ("MAILMAX=", None),
        ("MAILMAX=0", None),
        ("MAILMAX=many", None),
        ("", None),
    ],
)
def test_how_many_mails_it_takes_on_one_connection(parameters: str, limit: int | None) -> None:
    assert parse(f"LIMITS {parameters}").mails_limit == limit
    assert capabilities.NONE.mails_limit is None


def test_chunking_and_smtputf8() -> None:
    assert parse("CHUNKING").chunking
    assert parse("smtputf8").smtputf8
    assert not capabilities.NONE.chunking
    assert not capabilities.NONE.smtputf8
