"""The parameters of MAIL and RCPT: passed on, dropped or refused."""

import pytest

from sendooway.smtp import capabilities
from sendooway.smtp.capabilities import NONE, Capabilities
from sendooway.smtp.command import Envelope
from sendooway.smtp.parameters import adapt_mail, adapt_rcpt, dropped
from sendooway.smtp.reply import Reply


def offering(*lines: str) -> Capabilities:
    return capabilities.parse(Reply(250, "", ("mx.moon.test greets you", *lines)))


def mail(
    asked: dict[str, str],
    offers: Capabilities,
    *,
    address: str = "a@b",
    eight_bit_needed: bool = True,
    size_limit: int | None = 950,
    verified_tls: bool = True,
) -> Envelope | Reply:
    return adapt_mail(
        Envelope(address, asked),
        offers,
        eight_bit_needed=eight_bit_needed,
        size_limit=size_limit,
        added=100,
        verified_tls=verified_tls,
    )


FULL = offering(
    "SIZE 1000",
    "8BITMIME",
    "AUTH PLAIN",
    "DSN",
    "SMTPUTF8",
    "FUTURERELEASE 86400 2030-01-01T00:00:00Z",
    "DELIVERBY 60",
    "MT-PRIORITY",
    "REQUIRETLS",
)

PASSED = [
    {},
    {"BODY": "8bitmime"},
    {"BODY": "7BIT"},
    {"SMTPUTF8": ""},
    {"RET": "FULL"},
    {"RET": "hdrs"},
    {"ENVID": "QQ314159+2B"},
    {"ENVID": "x" * 100},
    {"HOLDFOR": "1"},
    {"HOLDFOR": "999999999"},
    {"HOLDUNTIL": "2026-12-24T18:00:00Z"},
    {"HOLDUNTIL": "2026-12-24t18:00:00.25+01:00"},
    {"BY": "120;R"},
    {"BY": "+120;rt"},
    {"BY": "-5;N"},
    {"BY": "0;NT"},
    {"MT-PRIORITY": "0"},
    {"MT-PRIORITY": "9"},
    {"MT-PRIORITY": "-9"},
    {"REQUIRETLS": ""},
    {"RET": "HDRS", "ENVID": "1", "BODY": "8BITMIME", "SMTPUTF8": "", "BY": "60;N", "MT-PRIORITY": "3"},
]


@pytest.mark.parametrize("asked", PASSED, ids=str)
def test_what_the_smarthost_offers_is_passed_on_as_it_was_said(asked: dict[str, str]) -> None:
    assert mail(asked, FULL) == Envelope("a@b", asked)


# By extension, as the smarthost offers it, and with what is asked of it.
DROPPED = [
    {"SIZE": "900"},
    {"BODY": "7BIT"},
    {"SMTPUTF8": ""},
    {"AUTH": "alice+40moon.test"},
    {"RET": "FULL", "ENVID": "1"},
]


@pytest.mark.parametrize("asked", DROPPED, ids=str)
def test_what_the_smarthost_does_not_offer_is_dropped_where_the_mail_arrives_all_the_same(
    asked: dict[str, str],
) -> None:
    assert mail(asked, NONE) == Envelope("a@b", {})
    assert mail(asked, offering("8BITMIME" if "BODY" not in asked else "DSN")) == Envelope("a@b", {})


REFUSED = [
    ({"HOLDFOR": "60"}, 555, "5.5.4"),
    ({"HOLDUNTIL": "2026-12-24T18:00:00Z"}, 555, "5.5.4"),
    ({"BY": "60;R"}, 555, "5.5.4"),
    ({"BY": "60;N"}, 555, "5.5.4"),
    ({"MT-PRIORITY": "3"}, 555, "5.5.4"),
    ({"REQUIRETLS": ""}, 550, "5.7.30"),
    ({"BODY": "8BITMIME"}, 554, "5.6.3"),
]


@pytest.mark.parametrize(("asked", "code", "enhanced"), REFUSED, ids=str)
def test_what_the_smarthost_does_not_offer_is_refused_where_the_mail_would_be_another(
    asked: dict[str, str], code: int, enhanced: str
) -> None:
    refusal = mail(asked, offering("DSN", "SIZE"))
    assert isinstance(refusal, Reply)
    assert (refusal.code, refusal.enhanced) == (code, enhanced)


@pytest.mark.parametrize(
    ("asked", "code", "enhanced"),
    [
        ({"SIZE": ""}, 501, "5.5.4"),
        ({"SIZE": "-1"}, 501, "5.5.4"),
        ({"SIZE": "٣"}, 501, "5.5.4"),
        ({"SIZE": "9" * 21}, 501, "5.5.4"),
        ({"BODY": ""}, 501, "5.5.4"),
        ({"BODY": "9BIT"}, 501, "5.5.4"),
        ({"BODY": "BINARYMIME"}, 555, "5.6.1"),
        ({"SMTPUTF8": "yes"}, 501, "5.5.4"),
        ({"AUTH": ""}, 501, "5.5.4"),
        ({"AUTH": "+4"}, 501, "5.5.4"),
        ({"RET": ""}, 501, "5.5.4"),
        ({"RET": "BODY"}, 501, "5.5.4"),
        ({"ENVID": ""}, 501, "5.5.4"),
        ({"ENVID": "+zz"}, 501, "5.5.4"),
        ({"ENVID": "x" * 101}, 501, "5.5.4"),
        ({"HOLDFOR": "0"}, 501, "5.5.4"),
        ({"HOLDFOR": "1" * 10}, 501, "5.5.4"),
        ({"HOLDUNTIL": "tomorrow"}, 501, "5.5.4"),
        ({"HOLDFOR": "60", "HOLDUNTIL": "2026-12-24T18:00:00Z"}, 501, "5.5.4"),
        ({"BY": "60"}, 501, "5.5.4"),
        ({"BY": "0;R"}, 501, "5.5.4"),
        ({"BY": "-60;R"}, 501, "5.5.4"),
        ({"BY": "60;X"}, 501, "5.5.4"),
        ({"BY": "1" * 10 + ";N"}, 501, "5.5.4"),
        ({"MT-PRIORITY": "10"}, 501, "5.5.4"),
        ({"MT-PRIORITY": "-0"}, 501, "5.5.4"),
        ({"REQUIRETLS": "yes"}, 501, "5.5.4"),
        ({"NOTIFY": "NEVER"}, 555, "5.5.4"),
        ({"X-UNKNOWN": "1"}, 555, "5.5.4"),
    ],
)
@pytest.mark.parametrize("offers", [FULL, NONE], ids=["offered", "not offered"])
def test_what_no_smarthost_would_take_is_refused(
    asked: dict[str, str], code: int, enhanced: str, offers: Capabilities
) -> None:
    refusal = mail(asked, offers)
    assert isinstance(refusal, Reply)
    if "HOLDUNTIL" in asked and len(asked) == 2 and offers is NONE:
        assert refusal.code == 555
        return
    assert (refusal.code, refusal.enhanced) == (code, enhanced)


def test_what_is_wrong_everywhere_is_told_first() -> None:
    refusal = mail({"BY": "60;R", "RET": "BODY"}, NONE)
    assert isinstance(refusal, Reply)
    assert refusal.code == 501


@pytest.mark.parametrize("offers", [offering("SIZE 1000"), offering("SIZE"), offering("SIZE 0")])
def test_the_octets_that_we_add_count(offers: Capabilities) -> None:
    assert mail({"SIZE": "900"}, offers) == Envelope("a@b", {"SIZE": "1000"})


@pytest.mark.parametrize(("size", "offers"), [(901, offering("SIZE 1000")), (951, NONE), (951, offering("SIZE"))])
def test_what_is_too_large_is_refused_before_it_is_sent(size: int, offers: Capabilities) -> None:
    refusal = mail({"SIZE": str(size)}, offers)
    assert isinstance(refusal, Reply)
    assert (refusal.code, refusal.enhanced) == (552, "5.3.4")


def test_no_limit_of_ours() -> None:
    assert mail({"SIZE": "9" * 20}, NONE, size_limit=None) == Envelope("a@b", {})


def test_eight_bit_goes_anywhere_if_nobody_minds() -> None:
    assert mail({"BODY": "8BITMIME"}, NONE, eight_bit_needed=False) == Envelope("a@b", {})


@pytest.mark.parametrize("author", ["<>", "alice+40moon.test", "jörg@moon.test"])
def test_who_wrote_a_message_is_not_known(author: str) -> None:
    # RFC 4954, 5.: who does not trust the client to know must say `<>` to a smarthost with AUTH.
    assert mail({"AUTH": author, "SMTPUTF8": ""}, FULL) == Envelope("a@b", {"AUTH": "<>", "SMTPUTF8": ""})


def test_requiretls_needs_a_connection_that_is_verified() -> None:
    refusal = mail({"REQUIRETLS": ""}, FULL, verified_tls=False)
    assert isinstance(refusal, Reply)
    assert (refusal.code, refusal.enhanced) == (550, "5.7.30")
    assert mail({}, FULL, verified_tls=False) == Envelope("a@b", {})


def test_a_utf8_address_needs_smtputf8_at_the_smarthost() -> None:
    asked = {"SMTPUTF8": ""}
    assert mail(asked, FULL, address="jörg@moon.test") == Envelope("jörg@moon.test", asked)
    refusal = mail(asked, offering("8BITMIME"), address="jörg@moon.test")
    assert isinstance(refusal, Reply)
    assert (refusal.code, refusal.enhanced) == (553, "5.6.7")
    refusal = mail({"AUTH": "jörg@moon.test", **asked}, NONE)
    assert isinstance(refusal, Reply)
    assert (refusal.code, refusal.enhanced) == (553, "5.6.7")


def rcpt(
    asked: dict[str, str], offers: Capabilities, *, address: str = "a@b", utf8: bool = False
) -> Envelope | tuple[int, str]:
    adapted = adapt_rcpt(Envelope(address, asked), offers, utf8=utf8)
    return (adapted.code, adapted.enhanced) if isinstance(adapted, Reply) else adapted


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"NOTIFY": "NEVER"},
        {"NOTIFY": "success,FAILURE,Delay"},
        {"ORCPT": "rfc822;Bob+2B1@sun.test"},
        {"ORCPT": "utf-8;j\\x{f6}rg@sun.test", "NOTIFY": "DELAY"},
        {"ORCPT": "rfc822;" + "x" * 493},
    ],
)
def test_the_parameters_of_a_recipient_are_passed_on_or_dropped(asked: dict[str, str]) -> None:
    assert rcpt(asked, FULL) == Envelope("a@b", asked)
    assert rcpt(asked, NONE) == Envelope("a@b", {})


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"NOTIFY": ""}, 501),
        ({"NOTIFY": "NEVER,DELAY"}, 501),
        ({"NOTIFY": "SUCCESS,"}, 501),
        ({"NOTIFY": "ALWAYS"}, 501),
        ({"ORCPT": "bob@sun.test"}, 501),
        ({"ORCPT": "rfc822;"}, 501),
        ({"ORCPT": ";bob@sun.test"}, 501),
        ({"ORCPT": "rfc822;bob+2"}, 501),
        ({"ORCPT": "rfc822;" + "x" * 494}, 501),
        ({"RET": "FULL"}, 555),
        ({"X-UNKNOWN": "1"}, 555),
    ],
)
@pytest.mark.parametrize("offers", [FULL, NONE], ids=["offered", "not offered"])
def test_a_bad_parameter_of_a_recipient_is_refused(asked: dict[str, str], code: int, offers: Capabilities) -> None:
    assert rcpt(asked, offers) == (code, "5.5.4")


def test_a_utf8_recipient_needs_smtputf8_behind_mail_and_at_the_smarthost() -> None:
    envelope = Envelope("jörg@sun.test", {})
    assert rcpt({}, FULL, address=envelope.address, utf8=True) == envelope
    assert rcpt({}, FULL, address=envelope.address) == (553, "5.6.7")
    assert rcpt({}, NONE, address=envelope.address) == (553, "5.6.7")
    assert rcpt({"ORCPT": "utf-8;jörg@sun.test"}, FULL, utf8=True) != (553, "5.6.7")
    assert rcpt({"ORCPT": "utf-8;jörg@sun.test"}, FULL) == (553, "5.6.7")


def test_what_the_smarthost_will_not_do_is_told_apart_from_what_it_only_need_not_know() -> None:
    asked = Envelope("a@b", {"SIZE": "1", "RET": "FULL", "BODY": "8BITMIME", "ENVID": "1"})
    assert dropped(asked, Envelope("a@b", {"ENVID": "1"})) == ["RET", "BODY"]
    assert dropped(Envelope("a@b", {"BODY": "7bit"}), Envelope("a@b", {})) == []
