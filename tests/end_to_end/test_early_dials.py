"""`dialEarly`: after a login, the account of the user's last mail is logged in before there is a mail."""

import re
import smtplib
from collections.abc import Callable

import pytest
from end_to_end.messages import HEADER, without_received
from servers.postfix import Postfix
from servers.processes import wait_until
from servers.program import Connect, Sendooway, Start
from servers.scripted import Fault, ScriptedSmarthost, Stage
from servers.users import User

pytestmark = pytest.mark.slow

CONTENT = HEADER + b"Hello.\r\n"
RECIPIENTS = ["bob@mars.test"]


def account(name: str, port: int) -> str:
    return (
        f"poll {name}.test user a pass b\n#sendooway:server localhost\n#sendooway:port {port}\n"
        f"#sendooway:user {name}\n#sendooway:pass s3cret\n#sendooway:address *@{name}.test\n"
    )


def send_one(connect: Connect, sendooway: Sendooway, user: User, sender: str = "alice@moon.test") -> None:
    client = connect(sendooway, user)
    client.sendmail(sender, RECIPIENTS, CONTENT)
    client.quit()


def send_and_lose(connect: Connect, sendooway: Sendooway, user: User, smarthost: ScriptedSmarthost) -> None:
    """A mail, behind which the smarthost does not keep the connection."""
    smarthost.script({Stage.RSET: [Fault.CLOSE]})
    send_one(connect, sendooway, user)
    wait_until(smarthost.ended.is_set, "the smarthost closes")
    smarthost.script({})


def test_the_smarthost_has_seen_the_login_before_the_client_says_mail(
    start: Start, connect: Connect, alice: User
) -> None:
    with ScriptedSmarthost() as smarthost:
        alice.write(".fetchmailrc", account("moon", smarthost.port))
        sendooway = start("workers = 1\ndialEarly = yes")
        send_and_lose(connect, sendooway, alice, smarthost)
        before = len(smarthost.commands)
        client = connect(sendooway, alice)
        sendooway.wait_for_log("dial-early", "seconds=")
        assert [command.split()[0] for command in smarthost.commands[before:]] == [b"EHLO", b"AUTH"]
        client.sendmail("alice@moon.test", RECIPIENTS, CONTENT)
        client.quit()
        sendooway.wait_for_log("disconnect", "early=used")
        assert smarthost.logins == ["moon"] * 2
        assert [mail.complete for mail in smarthost.mails] == [True] * 2


def test_nothing_is_dialled_before_a_mail_unless_it_is_wanted(start: Start, connect: Connect, alice: User) -> None:
    with ScriptedSmarthost() as smarthost:
        alice.write(".fetchmailrc", account("moon", smarthost.port))
        sendooway = start("workers = 1")
        send_and_lose(connect, sendooway, alice, smarthost)
        connect(sendooway, alice).quit()
        ends = re.compile(f": disconnect .*user={alice.name}")
        wait_until(lambda: len(ends.findall(sendooway.log)) == 2, "the end of the session")
        assert smarthost.logins == ["moon"]
        assert "early" not in sendooway.log


def test_a_connection_that_was_dialled_early_for_nothing_serves_the_next_session_or_is_quit(
    start: Start, connect: Connect, alice: User
) -> None:
    with ScriptedSmarthost() as smarthost:
        alice.write(".fetchmailrc", account("moon", smarthost.port))
        sendooway = start("workers = 1\ndialEarly = yes\nsmarthostIdle = 5")
        send_and_lose(connect, sendooway, alice, smarthost)
        client = connect(sendooway, alice)
        sendooway.wait_for_log("dial-early", "dialled=1 wasted=0")
        client.quit()
        sendooway.wait_for_log("disconnect", "early=wasted")
        send_one(connect, sendooway, alice)
        assert smarthost.logins == ["moon"] * 2
        wait_until(lambda: smarthost.commands[-1] == b"QUIT", "QUIT")


@pytest.mark.parametrize("change", ["gone", "moved", "another sender"])
def test_the_account_of_now_counts(start: Start, connect: Connect, alice: User, change: str) -> None:
    with ScriptedSmarthost() as old, ScriptedSmarthost() as new:
        alice.write(".fetchmailrc", account("moon", old.port) + account("sun", new.port))
        sendooway = start("workers = 1\ndialEarly = yes")
        send_and_lose(connect, sendooway, alice, old)
        sender = "alice@moon.test"
        match change:
            case "gone":
                alice.write(".fetchmailrc", account("sun", new.port))
                sender = "alice@sun.test"
            case "moved":
                alice.write(".fetchmailrc", account("moon", new.port))
            case _:
                sender = "alice@sun.test"
        send_one(connect, sendooway, alice, sender)
        assert [mail.sender for mail in new.mails] == [sender.encode()]
        assert len(old.mails) == 1
        if change != "another sender":  # for which alice@moon.test may be dialled in vain
            assert old.logins == ["moon"]


def test_no_user_s_connection_is_another_s(start: Start, connect: Connect, alice: User, bob: User) -> None:
    with ScriptedSmarthost() as smarthost:
        for user in (alice, bob):
            user.write(".fetchmailrc", account("moon", smarthost.port))
        sendooway = start("workers = 1\ndialEarly = yes")
        send_and_lose(connect, sendooway, alice, smarthost)
        idle = connect(sendooway, alice)
        sendooway.wait_for_log("dial-early")
        send_one(connect, sendooway, bob)
        idle.quit()
        assert smarthost.logins == ["moon"] * 3


FAILURES: list[tuple[Stage, bytes | Fault]] = [
    (Stage.GREETING, b"554 Not now"),
    (Stage.GREETING, Fault.CLOSE),
    (Stage.AUTH, b"535 5.7.8 No"),
]


@pytest.mark.parametrize(("stage", "answer"), FAILURES)
def test_a_failure_is_nothing_that_the_client_hears(
    start: Start, connect: Connect, alice: User, stage: Stage, answer: bytes | Fault
) -> None:
    with ScriptedSmarthost() as smarthost:
        alice.write(".fetchmailrc", account("moon", smarthost.port))
        sendooway = start("workers = 1\ndialEarly = yes")
        send_and_lose(connect, sendooway, alice, smarthost)
        smarthost.script({stage: [answer]})
        client = connect(sendooway, alice)
        sendooway.wait_for_log("dial-early", "reason=")
        smarthost.script({})
        client.sendmail("alice@moon.test", RECIPIENTS, CONTENT)
        client.quit()
        sendooway.wait_for_log("disconnect", "early=failed")
        assert [mail.complete for mail in smarthost.mails] == [True] * 2


def leave(client: smtplib.SMTP) -> None:
    client.quit()


def vanish(client: smtplib.SMTP) -> None:
    client.close()


@pytest.mark.parametrize("end", [leave, vanish])
def test_the_end_of_the_session_ends_the_dialling(
    start: Start, connect: Connect, alice: User, end: Callable[[smtplib.SMTP], None]
) -> None:
    with ScriptedSmarthost() as smarthost:
        alice.write(".fetchmailrc", account("moon", smarthost.port))
        sendooway = start("workers = 1\ndialEarly = yes")
        send_and_lose(connect, sendooway, alice, smarthost)
        smarthost.script({Stage.EHLO: [Fault.HANG]})
        before = len(smarthost.commands)
        client = connect(sendooway, alice)
        wait_until(lambda: len(smarthost.commands) > before, "EHLO")
        smarthost.ended.clear()
        end(client)
        sendooway.wait_for_log("dial-early", 'reason="given up"')
        wait_until(smarthost.ended.is_set, "the end of the connection")
        sendooway.wait_for_log("disconnect", "early=wasted")


def test_through_tls_to_postfix_the_mail_takes_the_connection_that_waits(
    start: Start, connect: Connect, alice_with_two_identities: User, postfix: Postfix
) -> None:
    alice = alice_with_two_identities
    sendooway = start("workers = 1\ndialEarly = yes")
    first = connect(sendooway, alice)
    first.sendmail("alice@moon.test", RECIPIENTS, CONTENT)
    postfix.take("bob@mars.test")
    client = connect(sendooway, alice)  # while the first session has the first connection
    sendooway.wait_for_log("dial-early", "account=alice-moon", "seconds=")
    client.sendmail("alice@moon.test", RECIPIENTS, CONTENT)
    client.quit()
    login, delivery = postfix.take("bob@mars.test")
    assert login == "alice-moon"
    assert without_received(delivery.content) == CONTENT
    sendooway.wait_for_log("disconnect", "early=used")
