"""What a smarthost offers, and envelopes made to fit it."""

import pytest

from sendooway.smtp import capabilities
from sendooway.smtp.capabilities import Capabilities, adapt_mail, adapt_rcpt
from sendooway.smtp.command import Envelope
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
    assert len(parse(*(f"AUTH X{number}" for number in range(1000))).mechanisms) == capabilities.MOST_MECHANISMS


@pytest.mark.parametrize(
    ("parameter", "limit"),
    [("0", None), ("", None), ("1", 1), ("many", None), ("-1", None), ("1 2", None), ("9" * 21, None), ("٣", None)],
)
def test_size_limit(parameter: str, limit: int | None) -> None:
    assert parse(f"SIZE {parameter}").size_limit == limit


FULL = parse("SIZE 1000", "8BITMIME")
MAILS = [
    # parameters of the client, what the smarthost offers, parameters for the smarthost
    ({}, FULL, {}),
    ({"SIZE": "900"}, FULL, {"SIZE": "1000"}),
    ({"SIZE": "900"}, parse("SIZE"), {"SIZE": "1000"}),
    ({"SIZE": "900"}, parse("SIZE 0"), {"SIZE": "1000"}),
    ({"SIZE": "900"}, capabilities.NONE, {}),
    ({"BODY": "8bitmime"}, FULL, {"BODY": "8BITMIME"}),
    ({"BODY": "7BIT"}, FULL, {"BODY": "7BIT"}),
    ({"BODY": "7BIT"}, capabilities.NONE, {}),
    ({"AUTH": "<>"}, FULL, {}),
]


@pytest.mark.parametrize(("asked", "offers", "expected"), MAILS)
def test_mail_is_made_to_fit(asked: dict[str, str], offers: Capabilities, expected: dict[str, str]) -> None:
    adapted = adapt_mail(Envelope("a@b", asked), offers, eight_bit_needed=True, size_limit=950, added=100)
    assert adapted == Envelope("a@b", expected)


REFUSALS = [
    ({"SIZE": "901"}, FULL, 552, "5.3.4"),
    ({"SIZE": "951"}, capabilities.NONE, 552, "5.3.4"),
    ({"SIZE": ""}, FULL, 501, "5.5.4"),
    ({"SIZE": "-1"}, FULL, 501, "5.5.4"),
    ({"SIZE": "9" * 21}, FULL, 501, "5.5.4"),
    ({"BODY": "8BITMIME"}, capabilities.NONE, 554, "5.6.3"),
    ({"BODY": "BINARYMIME"}, FULL, 501, "5.5.4"),
    ({"BODY": ""}, FULL, 501, "5.5.4"),
    ({"SMTPUTF8": ""}, parse("SMTPUTF8"), 555, "5.5.4"),
    ({"RET": "HDRS"}, parse("DSN"), 555, "5.5.4"),
]


@pytest.mark.parametrize(("asked", "offers", "code", "enhanced"), REFUSALS)
def test_mail_that_does_not_fit_is_refused(
    asked: dict[str, str], offers: Capabilities, code: int, enhanced: str
) -> None:
    refusal = adapt_mail(Envelope("a@b", asked), offers, eight_bit_needed=True, size_limit=950, added=100)
    assert isinstance(refusal, Reply)
    assert (refusal.code, refusal.enhanced) == (code, enhanced)


def test_eight_bit_goes_anywhere_if_nobody_minds() -> None:
    mail = Envelope("a@b", {"BODY": "8BITMIME"})
    assert adapt_mail(mail, capabilities.NONE, eight_bit_needed=False, size_limit=None, added=0) == Envelope("a@b", {})


def test_no_limit_of_ours() -> None:
    mail = Envelope("a@b", {"SIZE": "9" * 20})
    assert adapt_mail(mail, capabilities.NONE, eight_bit_needed=False, size_limit=None, added=0) == Envelope("a@b", {})


def test_rcpt_has_no_parameters() -> None:
    assert adapt_rcpt(Envelope("a@b", {})) == Envelope("a@b", {})
    refusal = adapt_rcpt(Envelope("a@b", {"NOTIFY": "NEVER"}))
    assert isinstance(refusal, Reply)
    assert (refusal.code, refusal.enhanced) == (555, "5.5.4")
