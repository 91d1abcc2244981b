"""Logging in with the UNIX password, through PAM."""

import base64
import smtplib
import time

import pytest
from servers.program import Connect, Start
from servers.users import User

pytestmark = pytest.mark.slow


def plain(*fields: str) -> str:
    return "PLAIN " + base64.b64encode("\0".join(fields).encode()).decode()


def test_plain_takes_an_authorization_identity_that_is_empty_or_the_same(
    start: Start, connect: Connect, alice: User
) -> None:
    sendooway = start()
    for authzid in ("", alice.name):
        client = connect(sendooway)
        code, text = client.docmd("AUTH", plain(authzid, alice.name, alice.password))
        assert (code, text[:5]) == (235, b"2.7.0")
    client = connect(sendooway)
    assert client.docmd("AUTH", plain("root", alice.name, alice.password))[0] == 535


def test_plain_works_without_an_initial_response(start: Start, connect: Connect, alice: User) -> None:
    client = connect(start())
    assert client.docmd("AUTH", "PLAIN")[0] == 334
    assert client.docmd(plain("", alice.name, alice.password).removeprefix("PLAIN "))[0] == 235


def test_login_asks_with_the_customary_prompts(start: Start, connect: Connect, alice: User) -> None:
    client = connect(start())
    assert client.docmd("AUTH", "LOGIN") == (334, base64.b64encode(b"Username:"))
    assert client.docmd(base64.b64encode(alice.name.encode()).decode()) == (
        334,
        base64.b64encode(b"Password:"),
    )
    assert client.docmd(base64.b64encode(alice.password.encode()).decode())[0] == 235


def test_a_cancelled_login_is_501_and_may_be_repeated(start: Start, connect: Connect, alice: User) -> None:
    client = connect(start())
    assert client.docmd("AUTH", "LOGIN")[0] == 334
    assert client.docmd("*")[0] == 501
    assert client.docmd("AUTH", plain("", alice.name, alice.password))[0] == 235


def test_wrong_password_unknown_user_and_empty_password_look_the_same(
    start: Start, connect: Connect, alice: User
) -> None:
    sendooway = start()
    answers = []
    for name, password in (
        (alice.name, "wrong"),
        ("sendooway-nobody", "wrong"),
        (alice.name, ""),
        ("root", "wrong"),
    ):
        client = connect(sendooway)
        begin = time.monotonic()
        answers.append(client.docmd("AUTH", plain("", name, password)))
        assert time.monotonic() - begin > 1.9
    assert len(set(answers)) == 1
    assert answers[0][0] == 535
    assert answers[0][1].startswith(b"5.7.8")
    assert sendooway.log.count("auth-failure") == 4
    assert "rip=" in sendooway.wait_for_log("auth-failure", alice.name)


def test_the_fifth_failure_ends_the_connection(start: Start, connect: Connect, alice: User) -> None:
    client = connect(start())
    for _ in range(5):
        assert client.docmd("AUTH", plain("", alice.name, "wrong"))[0] == 535
    code, text = client.getreply()
    assert (code, text[:5]) == (421, b"4.7.0")
    with pytest.raises(smtplib.SMTPServerDisconnected):
        client.getreply()


def test_only_valid_users_may_log_in(start: Start, connect: Connect, alice: User, bob: User) -> None:
    sendooway = start(f"validUser = root\nvalidUser = {alice.name}")
    assert connect(sendooway).docmd("AUTH", plain("", alice.name, alice.password))[0] == 235
    assert connect(sendooway).docmd("AUTH", plain("", bob.name, bob.password))[0] == 535


def test_a_group_of_users_may_log_in(start: Start, connect: Connect, alice: User, bob: User) -> None:
    # useradd gave each user a group of the same name.
    sendooway = start(f"validUser = %{bob.name}")
    assert connect(sendooway).docmd("AUTH", plain("", alice.name, alice.password))[0] == 535
    assert connect(sendooway).docmd("AUTH", plain("", bob.name, bob.password))[0] == 235


def test_where_encryption_is_required_there_is_no_login_in_clear(start: Start, connect: Connect, alice: User) -> None:
    client = connect(start("mailerEncryption = required"), secure=False)
    assert "auth" not in client.esmtp_features
    assert "starttls" in client.esmtp_features
    code, text = client.docmd("AUTH", plain("", alice.name, alice.password))
    assert (code, text[:5]) == (530, b"5.7.0")


def test_on_loopback_a_login_in_clear_is_allowed_unless_configured(start: Start, connect: Connect, alice: User) -> None:
    client = connect(start(), secure=False)
    assert client.docmd("AUTH", plain("", alice.name, alice.password))[0] == 235


def test_a_users_own_settings_come_from_the_file_that_userinclude_names(
    start: Start, connect: Connect, alice: User
) -> None:
    alice.write(".sendoowayrc", "smarthostMapping = direct:own@moon.test localhost 1 - - noAuth\nsslKey = /x\n")
    sendooway = start("userInclude = %h/.sendoowayrc")
    client = connect(sendooway, alice)
    code, text = client.mail("own@moon.test")
    assert (code, text[:5]) == (451, b"4.4.1")
    assert b"localhost" in text


def test_a_file_that_others_may_write_is_refused(start: Start, connect: Connect, alice: User) -> None:
    alice.write(".fetchmailrc", "poll x.test user a pass b\n", mode=0o666)
    client = connect(start(), alice)
    code, text = client.mail("alice@moon.test")
    assert (code, text[:5]) == (451, b"4.3.0")
    assert b".fetchmailrc" in text
