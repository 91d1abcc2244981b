"""A second mail of a user goes through the connection of the first."""

import smtplib

import pytest
from end_to_end.messages import HEADER
from servers.processes import wait_until
from servers.program import Connect, Sendooway, Start
from servers.scripted import Fault, ScriptedSmarthost, Stage
from servers.users import User

pytestmark = pytest.mark.slow

CONTENT = HEADER + b"Hello.\r\n"


def account(port: int, password: str = "moon") -> str:  # noqa: S107
    return (
        f"poll x.test user a pass b\n#sendooway:server localhost\n#sendooway:port {port}\n"
        f"#sendooway:user alice\n#sendooway:pass {password}\n#sendooway:address *@moon.test\n"
    )


def send(connect: Connect, sendooway: Sendooway, user: User) -> smtplib.SMTP:
    client = connect(sendooway, user)
    client.sendmail("alice@moon.test", ["bob@mars.test"], CONTENT)
    client.quit()
    return client


def connections(smarthost: ScriptedSmarthost) -> int:
    return len([command for command in smarthost.commands if command.startswith(b"EHLO")])


def test_a_user_s_next_session_uses_the_connection_again(start: Start, connect: Connect, alice: User) -> None:
    with ScriptedSmarthost() as smarthost:
        alice.write(".fetchmailrc", account(smarthost.port))
        sendooway = start("workers = 1")
        for number in (1, 2, 3):
            send(connect, sendooway, alice)
            sendooway.wait_for_log("smarthost-kept", f"mails={number}")
        assert connections(smarthost) == len(smarthost.logins) == 1
        assert [mail.complete for mail in smarthost.mails] == [True] * 3


def test_a_mail_that_was_given_up_is_reset_before_the_connection_waits(
    start: Start, connect: Connect, alice: User
) -> None:
    with ScriptedSmarthost() as smarthost:
        alice.write(".fetchmailrc", account(smarthost.port))
        sendooway = start("workers = 1")
        client = connect(sendooway, alice)
        client.mail("alice@moon.test")
        client.rcpt("bob@mars.test")
        client.quit()
        sendooway.wait_for_log("smarthost-kept", "mails=1")
        assert smarthost.commands[-1] == b"RSET"
        send(connect, sendooway, alice)
        assert connections(smarthost) == 1
        assert [mail.recipients for mail in smarthost.mails] == [(b"bob@mars.test",)]


@pytest.mark.parametrize("change", ["password", "own settings", "another user"])
def test_what_is_not_the_same_gets_a_connection_of_its_own(
    start: Start, connect: Connect, alice: User, bob: User, change: str
) -> None:
    with ScriptedSmarthost() as smarthost:
        for user in (alice, bob):
            user.write(".fetchmailrc", account(smarthost.port))
        sendooway = start("workers = 1\nuserInclude = %h/.sendoowayrc")
        send(connect, sendooway, alice)
        sendooway.wait_for_log("smarthost-kept", f"user={alice.name}")
        if change == "password":
            alice.write(".fetchmailrc", account(smarthost.port, "another"))
        elif change == "own settings":
            alice.write(".sendoowayrc", "localname = other.test\n")
        send(connect, sendooway, bob if change == "another user" else alice)
        assert connections(smarthost) == len(smarthost.logins) == 2


def test_a_connection_that_the_smarthost_has_closed_is_replaced_without_notice(
    start: Start, connect: Connect, alice: User
) -> None:
    with ScriptedSmarthost(answers={Stage.RSET: [Fault.CLOSE]}) as smarthost:
        alice.write(".fetchmailrc", account(smarthost.port))
        sendooway = start("workers = 1")
        send(connect, sendooway, alice)
        wait_until(smarthost.ended.is_set, "the smarthost closes")
        send(connect, sendooway, alice)
        assert connections(smarthost) == 2
        assert [mail.complete for mail in smarthost.mails] == [True] * 2


def test_zero_seconds_end_a_connection_with_its_session(start: Start, connect: Connect, alice: User) -> None:
    with ScriptedSmarthost() as smarthost:
        alice.write(".fetchmailrc", account(smarthost.port))
        sendooway = start("workers = 1\nsmarthostIdle = 0")
        for _ in range(2):
            send(connect, sendooway, alice)
        assert connections(smarthost) == 2


def test_a_connection_ends_with_quit_when_nobody_wants_it(start: Start, connect: Connect, alice: User) -> None:
    with ScriptedSmarthost() as smarthost:
        alice.write(".fetchmailrc", account(smarthost.port))
        send(connect, start("workers = 1\nsmarthostIdle = 1"), alice)
        wait_until(lambda: smarthost.commands[-1] == b"QUIT", "QUIT")
