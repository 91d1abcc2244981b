"""Our side of the dialogue with a client: what the dialogue files, which hold no TLS and no login, do not show."""

import dataclasses

import pytest

from sendooway.smtp.command import Envelope
from sendooway.smtp.lines import LineFault
from sendooway.smtp.reply import Reply
from sendooway.smtp.server import (
    Authenticate,
    Close,
    Discard,
    Forward,
    Policy,
    Respond,
    Server,
    StartTls,
)

POLICY = Policy(
    localname="sendooway.test",
    starttls=True,
    login_needs_tls=True,
    mechanisms=("PLAIN", "LOGIN"),
    eight_bit_mime=True,
    size_limit=1000,
    most_errors=4,
    most_failed_logins=3,
)


def offers(server: Server) -> list[str]:
    decision = server.receive(b"EHLO client.test")
    assert isinstance(decision, Respond)
    return list(decision.reply.text[1:])


def answer(server: Server, line: bytes | LineFault) -> tuple[int, str]:
    decision = server.receive(line)
    assert isinstance(decision, Respond)
    return decision.reply.code, decision.reply.enhanced


def test_the_greeting_says_who_we_are() -> None:
    assert Server(POLICY).greeting() == Reply(220, "", ("sendooway.test ESMTP Sendooway",))


def test_what_is_offered_before_and_after_tls_and_login() -> None:
    server = Server(POLICY)
    always = ["PIPELINING", "ENHANCEDSTATUSCODES", "CHUNKING", "DSN", "8BITMIME", "SMTPUTF8", "SIZE 1000"]
    assert offers(server) == [*always, "STARTTLS"]
    server.tls_started()
    assert offers(server) == [*always, "AUTH PLAIN LOGIN"]
    server.login_succeeded()
    assert offers(server) == always


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        # SMTPUTF8 without 8BITMIME must not be (RFC 6531, 3.1).
        ({"eight_bit_mime": False}, {"8BITMIME", "SMTPUTF8"}),
        ({"size_limit": None}, {"SIZE 1000"}),
        ({"starttls": False}, {"STARTTLS"}),
    ],
)
def test_what_is_configured_away_is_not_offered(change: dict[str, object], missing: set[str]) -> None:
    server = Server(dataclasses.replace(POLICY, **change))  # type: ignore[arg-type]
    assert offers(server) == [line for line in offers(Server(POLICY)) if line not in missing]


def test_nothing_is_offered_that_only_some_smarthosts_have() -> None:
    assert not {"BINARYMIME", "REQUIRETLS", "FUTURERELEASE", "DELIVERBY", "MT-PRIORITY", "LIMITS"} & set(
        offers(Server(POLICY))
    )


def test_no_mechanisms_no_auth() -> None:
    server = Server(dataclasses.replace(POLICY, mechanisms=(), login_needs_tls=False))
    assert not [line for line in offers(server) if line.startswith("AUTH")]
    assert answer(server, b"AUTH PLAIN") == (504, "5.5.4")


def test_implicit_tls_is_tls() -> None:
    server = Server(POLICY, tls=True)
    assert "STARTTLS" not in offers(server)
    assert answer(server, b"STARTTLS") == (503, "5.5.1")
    assert server.receive(b"AUTH PLAIN") == Authenticate("PLAIN", None)


def test_starttls() -> None:
    server = Server(POLICY)
    assert server.receive(b"starttls") == StartTls(Reply(220, "2.0.0", ("Begin TLS",)))
    server.tls_started()
    assert answer(server, b"STARTTLS") == (503, "5.5.1")


def test_starttls_after_a_login_in_clear_is_too_late() -> None:
    server = Server(dataclasses.replace(POLICY, login_needs_tls=False))
    server.login_succeeded()
    assert answer(server, b"STARTTLS") == (503, "5.5.1")


def test_after_tls_the_client_has_said_nothing_yet() -> None:
    server = Server(POLICY)
    offers(server)
    assert server.client_name == "client.test"
    server.tls_started()
    assert server.client_name == ""


def test_the_last_ehlo_or_helo_names_the_client() -> None:
    server = Server(POLICY)
    offers(server)
    assert answer(server, b"HELO other.test") == (250, "")
    assert server.client_name == "other.test"
    assert answer(server, b"EHLO") == (500, "5.5.2")
    assert server.client_name == "other.test"


@pytest.mark.parametrize("line", [b"AUTH PLAIN AGFsaWNlAHNlY3JldA==", b"AUTH LOGIN", b"AUTH NONSENSE"])
def test_no_login_in_clear_where_tls_is_required(line: bytes) -> None:
    assert answer(Server(POLICY), line) == (530, "5.7.0")


@pytest.mark.parametrize("line", [b"MAIL FROM:<a@b>", b"MAIL"])
def test_no_mail_before_login(line: bytes) -> None:
    server = Server(POLICY)
    decision = server.receive(line)
    assert decision == Respond(Reply(530, "5.7.0", ("Must issue a STARTTLS command first",)))
    server.tls_started()
    assert server.receive(line) == Respond(Reply(530, "5.7.0", ("Authentication required",)))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"AUTH PLAIN", Authenticate("PLAIN", None)),
        (b"auth login ", Authenticate("LOGIN", None)),
        (b"AUTH PLAIN =", Authenticate("PLAIN", b"")),
        (b"AUTH PLAIN AGFsaWNlAHNlY3JldA==", Authenticate("PLAIN", b"\0alice\0secret")),
    ],
)
def test_auth(line: bytes, expected: Authenticate) -> None:
    assert Server(POLICY, tls=True).receive(line) == expected


@pytest.mark.parametrize("line", [b"AUTH PLAIN  AGFsaWNl", b"AUTH PLAIN AGFsaWNl AGFsaWNl", b"AUTH PLAIN x"])
def test_auth_with_what_is_no_base64(line: bytes) -> None:
    assert answer(Server(POLICY, tls=True), line) == (501, "5.5.2")


def test_the_initial_response_does_not_show() -> None:
    decision = Server(POLICY, tls=True).receive(b"AUTH PLAIN AGFsaWNlAHNlY3JldA==")
    assert "secret" not in repr(decision)
    assert "AGFs" not in repr(decision)


def test_who_is_logged_in_is_not_logged_in_again() -> None:
    server = Server(POLICY, tls=True)
    server.login_succeeded()
    assert server.logged_in
    assert answer(server, b"AUTH PLAIN") == (503, "5.5.1")


def test_mail_after_login_is_forwarded() -> None:
    server = Server(POLICY, tls=True)
    server.login_succeeded()
    assert server.receive(b"MAIL FROM:<a@b> SIZE=1") == Forward(Envelope("a@b", {"SIZE": "1"}))
    assert server.receive(b"MAIL FROM:<>") == Forward(Envelope("", {}))
    assert answer(server, b"MAIL FROM:a@b") == (501, "5.1.7")
    assert answer(server, b"RCPT TO:<a@b>") == (503, "5.5.1")
    assert answer(server, b"DATA") == (503, "5.5.1")


def test_a_utf8_sender_needs_smtputf8() -> None:
    server = Server(POLICY, tls=True)
    server.login_succeeded()
    line = "MAIL FROM:<jörg@moon.test>".encode()
    assert answer(server, line) == (553, "5.6.7")
    assert answer(server, b"MAIL FROM:<a@b> AUTH=" + "jörg@moon.test".encode()) == (553, "5.6.7")
    assert server.receive(line + b" smtputf8") == Forward(Envelope("jörg@moon.test", {"SMTPUTF8": ""}))


def test_requiretls_begins_here() -> None:
    server = Server(dataclasses.replace(POLICY, login_needs_tls=False))
    server.login_succeeded()
    assert answer(server, b"MAIL FROM:<a@b> REQUIRETLS") == (530, "5.7.0")
    server.tls_started()
    assert server.receive(b"MAIL FROM:<a@b> REQUIRETLS") == Forward(Envelope("a@b", {"REQUIRETLS": ""}))


@pytest.mark.parametrize("logged_in", [False, True])
def test_a_chunk_without_a_mail_is_read_before_it_is_refused(logged_in: bool) -> None:
    server = Server(POLICY, tls=True)
    if logged_in:
        server.login_succeeded()
    refusal = Respond(Reply(503, "5.5.1", ("MAIL first",)))
    assert server.receive(b"BDAT 9223372036854775808 LAST") == Discard(2**63, refusal)


@pytest.mark.parametrize("line", [b"BDAT", b"BDAT x", b"BDAT -1", b"BDAT 1 FIRST", b"BDAT 1 LAST LAST", b"BDAT 1,LAST"])
def test_a_chunk_of_unknown_size_ends_the_connection(line: bytes) -> None:
    decision = Server(POLICY).receive(line)
    assert isinstance(decision, Close)
    assert (decision.reply.code, decision.reply.enhanced) == (501, "5.5.4")


@pytest.mark.parametrize("fault", LineFault)
def test_a_faulty_line_is_told_and_not_acted_on(fault: LineFault) -> None:
    assert Server(POLICY).receive(fault) == Respond(Reply(500, "5.5.2", (fault.value,)))


def test_too_many_errors_end_the_connection() -> None:
    server = Server(POLICY)
    for _ in range(POLICY.most_errors - 2):
        assert answer(server, b"WHAT") == (502, "5.5.1")
        assert answer(server, b"NOOP") == (250, "2.0.0")
    assert server.fault(Reply(501, "5.5.2", ("Cancelled",))) == Respond(Reply(501, "5.5.2", ("Cancelled",)))
    decision = server.receive(LineFault.TOO_LONG)
    assert isinstance(decision, Close)
    assert decision.reply.code == 421


def test_errors_within_a_mail_count_and_an_accepted_mail_makes_up_for_all() -> None:
    server = Server(POLICY)
    server.fault(Reply(500, "", ()))
    assert server.errors_left == 3
    server.mail_ended(2, accepted=False)
    assert server.errors_left == 1
    server.mail_ended(0, accepted=True)
    assert server.errors_left == 4
    server.mail_ended(5, accepted=False)
    assert server.errors_left == 0


def test_too_many_failed_logins_are_told() -> None:
    server = Server(POLICY)
    assert [server.login_failed() for _ in range(POLICY.most_failed_logins)] == [False, False, True]
