"""Our side of the dialogue with a smarthost: transcripts, and what each failure is called."""

from base64 import b64encode

import pytest

from sendooway.smtp import client
from sendooway.smtp.capabilities import NONE, Capabilities
from sendooway.smtp.client import (
    BeginLogin,
    ContinueLogin,
    LoginMessage,
    LoginUnavailable,
    Outcome,
    Receive,
    Secure,
    Send,
    SmarthostError,
    Stage,
    Step,
)
from sendooway.smtp.reply import Reply, ReplyReader

Transcript = list[tuple[Step, Outcome]]


def said(octets: bytes) -> Reply:
    reader = ReplyReader()
    reader.receive(octets + b"\r\n")
    reply = reader.next_reply()
    assert reply is not None
    assert reader.empty
    return reply


def play(transcript: Transcript, *, starttls: bool = False, log_in: bool = False) -> Capabilities:
    """Each step has to be the one written, and comes out as written."""
    dialogue = client.prepare("sendooway.test", starttls=starttls, log_in=log_in)
    outcome: Outcome = None
    try:
        for step, comes_out in transcript:
            assert dialogue.send(outcome) == step
            outcome = comes_out
        dialogue.send(outcome)
    except StopIteration as end:
        offers = end.value
        assert isinstance(offers, Capabilities)
        return offers
    raise AssertionError("the dialogue goes on")


def failure(transcript: Transcript, *, starttls: bool = False, log_in: bool = False) -> SmarthostError:
    with pytest.raises(SmarthostError) as error:
        play(transcript, starttls=starttls, log_in=log_in)
    return error.value


EHLO = Send(Stage.EHLO, b"EHLO sendooway.test\r\n")
HELO = Send(Stage.EHLO, b"HELO sendooway.test\r\n")
STARTTLS = Send(Stage.STARTTLS, b"STARTTLS\r\n")
GREETED: Transcript = [(Receive(Stage.GREETING), said(b"220 mx.moon.test"))]
IN_CLEAR: Transcript = [*GREETED, (EHLO, said(b"250-mx\r\n250-STARTTLS\r\n250 AUTH EVIL"))]
WITH_LOGIN: Transcript = [*GREETED, (EHLO, said(b"250-mx\r\n250-PIPELINING\r\n250 AUTH CRAM-MD5 PLAIN LOGIN"))]
OFFERED = ("CRAM-MD5", "PLAIN", "LOGIN")
SUCCESS = said(b"235 2.7.0 Welcome")


def auth(line: bytes) -> Send:
    return Send(Stage.LOGIN, line + b"\r\n")


def base64(octets: bytes) -> bytes:
    return b64encode(octets)


def test_without_tls_and_login() -> None:
    offers = play([*GREETED, (EHLO, said(b"250-mx\r\n250-SIZE 10\r\n250 PIPELINING"))])
    assert offers == Capabilities({"SIZE": "10", "PIPELINING": ""})


@pytest.mark.parametrize("code", [500, 502, 504])
def test_a_smarthost_that_knows_only_helo(code: int) -> None:
    refusal = said(f"{code} What?".encode())
    assert play([*GREETED, (EHLO, refusal), (HELO, said(b"250 mx"))]) == NONE


def test_after_tls_only_what_is_said_then_counts() -> None:
    transcript: Transcript = [
        *IN_CLEAR,
        (STARTTLS, said(b"220 Go on")),
        (Secure(), None),
        (EHLO, said(b"250-mx\r\n250 AUTH PLAIN")),
        (BeginLogin(("PLAIN",), ()), LoginMessage("PLAIN", b"\0a\0b")),
        (auth(b"AUTH PLAIN AGEAYg=="), SUCCESS),
    ]
    assert play(transcript, starttls=True, log_in=True) == Capabilities({"AUTH": "PLAIN"})


@pytest.mark.parametrize(
    ("transcript", "stage"),
    [
        ([(Receive(Stage.GREETING), said(b"554 No"))], Stage.GREETING),
        ([(Receive(Stage.GREETING), said(b"250 Hello"))], Stage.GREETING),
        ([*GREETED, (EHLO, said(b"550 No"))], Stage.EHLO),
        ([*GREETED, (EHLO, said(b"421 No"))], Stage.EHLO),
        ([*GREETED, (EHLO, said(b"354 Go on"))], Stage.EHLO),
        ([*GREETED, (EHLO, said(b"502 What?")), (HELO, said(b"550 No"))], Stage.EHLO),
        ([*IN_CLEAR, (STARTTLS, said(b"454 Not now"))], Stage.STARTTLS),
        ([*IN_CLEAR, (STARTTLS, said(b"250 Ok"))], Stage.STARTTLS),
        ([*IN_CLEAR, (STARTTLS, said(b"220 Go on")), (Secure(), None), (EHLO, said(b"421 No"))], Stage.EHLO),
    ],
)
def test_a_refusal_names_the_stage_and_quotes_the_smarthost(transcript: Transcript, stage: Stage) -> None:
    error = failure(transcript, starttls=True)
    assert error.stage is stage
    assert error.reply == transcript[-1][1]
    assert error.reason == str(error)


def test_without_an_offer_of_starttls_nothing_more_is_said() -> None:
    error = failure([*GREETED, (EHLO, said(b"250-mx\r\n250 AUTH PLAIN"))], starttls=True, log_in=True)
    assert (error.stage, error.reply) == (Stage.STARTTLS, None)


def test_login_with_an_initial_response() -> None:
    play(
        [
            *WITH_LOGIN,
            (BeginLogin(OFFERED, ()), LoginMessage("PLAIN", b"\0alice\0secret")),
            (auth(b"AUTH PLAIN AGFsaWNlAHNlY3JldA=="), SUCCESS),
        ],
        log_in=True,
    )


def test_an_empty_initial_response_is_an_equals_sign() -> None:
    play(
        [
            *WITH_LOGIN,
            (BeginLogin(OFFERED, ()), LoginMessage("EXTERNAL", b"")),
            (auth(b"AUTH EXTERNAL ="), SUCCESS),
        ],
        log_in=True,
    )


@pytest.mark.parametrize("challenge", [b"334", b"334 ", b"334 Go on, please", b"334 Z28gb24="])
@pytest.mark.parametrize(("octets", "fits"), [(372, True), (373, False), (3000, False)])
def test_an_initial_response_is_sent_only_within_512_octets(octets: int, fits: bool, challenge: bytes) -> None:
    response = b"x" * octets
    login: Transcript = [(auth(b"AUTH PLAIN " + base64(response)), SUCCESS)]
    if not fits:
        login = [(auth(b"AUTH PLAIN"), said(challenge)), (auth(base64(response)), SUCCESS)]
    play([*WITH_LOGIN, (BeginLogin(OFFERED, ()), LoginMessage("PLAIN", response)), *login], log_in=True)
    assert fits == (len(b"AUTH PLAIN " + base64(response) + b"\r\n") <= 512)


def test_login_where_the_smarthost_speaks_first() -> None:
    play(
        [
            *WITH_LOGIN,
            (BeginLogin(OFFERED, ()), LoginMessage("LOGIN", None)),
            (auth(b"AUTH LOGIN"), said(b"334 VXNlcm5hbWU6")),
            (ContinueLogin(b"Username:"), LoginMessage("LOGIN", b"alice")),
            (auth(b"YWxpY2U="), said(b"334")),
            (ContinueLogin(b""), LoginMessage("LOGIN", b"")),
            (auth(b""), said(b"334 =")),
            (ContinueLogin(b""), LoginMessage("LOGIN", None)),
            (auth(b""), SUCCESS),
        ],
        log_in=True,
    )


@pytest.mark.parametrize("code", [504, 534, 535])
def test_another_mechanism_is_tried_where_one_is_refused(code: int) -> None:
    refusal = said(f"{code} 5.7.8 No".encode())
    play(
        [
            *WITH_LOGIN,
            (BeginLogin(OFFERED, ()), LoginMessage("CRAM-MD5", None)),
            (auth(b"AUTH CRAM-MD5"), said(b"334 PDE+")),
            (ContinueLogin(b"<1>"), LoginMessage("CRAM-MD5", b"alice 00")),
            (auth(b"YWxpY2UgMDA="), refusal),
            (BeginLogin(OFFERED, ("CRAM-MD5",)), LoginMessage("PLAIN", b"x")),
            (auth(b"AUTH PLAIN eA=="), refusal),
            (BeginLogin(OFFERED, ("CRAM-MD5", "PLAIN")), LoginMessage("LOGIN", b"x")),
            (auth(b"AUTH LOGIN eA=="), SUCCESS),
        ],
        log_in=True,
    )


def test_the_last_refusal_is_quoted_when_no_mechanism_is_left() -> None:
    refusal = said(b"535 5.7.8 Wrong password")
    error = failure(
        [
            *WITH_LOGIN,
            (BeginLogin(OFFERED, ()), LoginMessage("PLAIN", b"x")),
            (auth(b"AUTH PLAIN eA=="), refusal),
            (BeginLogin(OFFERED, ("PLAIN",)), LoginUnavailable("no mechanism is left")),
        ],
        log_in=True,
    )
    assert (error.stage, error.reason, error.reply) == (Stage.LOGIN, "it refused the login", refusal)


def test_no_mechanism_at_all() -> None:
    error = failure(
        [
            *GREETED,
            (EHLO, said(b"250 mx")),
            (BeginLogin((), ()), LoginUnavailable("it offers no mechanism that we know")),
        ],
        log_in=True,
    )
    assert (error.stage, error.reason, error.reply) == (Stage.LOGIN, "it offers no mechanism that we know", None)


@pytest.mark.parametrize(
    "refusal", [b"454 4.7.0 Later", b"421 Bye", b"530 No", b"250 Ok", b"354 Go on", b"235-a\r\n235 b"]
)
def test_any_other_reply_ends_the_login(refusal: bytes) -> None:
    transcript: Transcript = [
        *WITH_LOGIN,
        (BeginLogin(OFFERED, ()), LoginMessage("PLAIN", b"x")),
        (auth(b"AUTH PLAIN eA=="), said(refusal)),
    ]
    if refusal.startswith(b"235"):
        play(transcript, log_in=True)
    else:
        error = failure(transcript, log_in=True)
        assert (error.stage, error.reply) == (Stage.LOGIN, said(refusal))


def test_a_challenge_that_makes_no_sense_to_the_mechanism() -> None:
    error = failure(
        [
            *WITH_LOGIN,
            (BeginLogin(OFFERED, ()), LoginMessage("PLAIN", b"x")),
            (auth(b"AUTH PLAIN eA=="), said(b"334 Z28gb24=")),
            (ContinueLogin(b"go on"), LoginUnavailable("a challenge after the PLAIN message")),
        ],
        log_in=True,
    )
    assert (error.stage, error.reason) == (Stage.LOGIN, "a challenge after the PLAIN message")


@pytest.mark.parametrize("challenge", [b"334 Go on, please", b"334 \xe4", b"334 A"])
def test_a_challenge_that_is_no_base64(challenge: bytes) -> None:
    error = failure(
        [
            *WITH_LOGIN,
            (BeginLogin(OFFERED, ()), LoginMessage("CRAM-MD5", None)),
            (auth(b"AUTH CRAM-MD5"), said(challenge)),
        ],
        log_in=True,
    )
    assert (error.stage, error.reason) == (Stage.LOGIN, "its challenge is not base64")


def test_what_is_said_at_login_does_not_show() -> None:
    for step in (auth(b"AUTH PLAIN AGFsaWNlAHNlY3JldA=="), LoginMessage("PLAIN", b"\0alice\0secret")):
        assert "secret" not in repr(step)
        assert "AGFs" not in repr(step)
