"""What the configuration and the accounts' files change in the dialogue with a smarthost."""

import os
import pwd
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from end_to_end.messages import HEADER
from servers.program import Connect, Start
from servers.scripted import CAPABILITIES, Answer, Fault, ScriptedSmarthost, Stage

pytestmark = pytest.mark.slow

CONTENT = HEADER + b"Hello.\r\n"
ME = (pwd.getpwuid(os.geteuid()).pw_name, "not checked")
RECIPIENTS = ["bob@mars.test"]


class Smarthosts:
    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def start(
        self, answers: dict[Stage, list[Answer]] | None = None, capabilities: Sequence[bytes] = CAPABILITIES
    ) -> ScriptedSmarthost:
        return self._stack.enter_context(ScriptedSmarthost(capabilities=capabilities, answers=answers))


@pytest.fixture
def smarthosts() -> Iterator[Smarthosts]:
    with ExitStack() as stack:
        yield Smarthosts(stack)


def mapping(smarthost: ScriptedSmarthost, pattern: str = "*", account: str = "someone pass-word") -> str:
    options = "noAuth" if account == "- -" else ""
    return f"smarthostMapping = direct:{pattern} localhost {smarthost.port} {account} {options}\n"


def without(*names: bytes) -> list[bytes]:
    return [each for each in CAPABILITIES if each.split(b" ")[0] not in names]


# The connection to the smarthost between mails


def test_two_mails_of_one_account_take_one_connection_and_one_login(
    start: Start, connect: Connect, smarthosts: Smarthosts
) -> None:
    smarthost = smarthosts.start()
    client = connect(start("authBackend = none\n" + mapping(smarthost)), ME)
    for sender in ("one@moon.test", "two@moon.test"):
        client.sendmail(sender, RECIPIENTS, CONTENT)
    assert [mail.sender for mail in smarthost.mails] == [b"one@moon.test", b"two@moon.test"]
    assert smarthost.logins == ["someone"]


def test_a_mail_that_was_given_up_is_reset_before_the_next(
    start: Start, connect: Connect, smarthosts: Smarthosts
) -> None:
    smarthost = smarthosts.start()
    client = connect(start("authBackend = none\n" + mapping(smarthost)), ME)
    client.mail("one@moon.test")
    client.rcpt("bob@mars.test")
    client.rset()
    client.sendmail("two@moon.test", RECIPIENTS, CONTENT)
    verbs = [line.split(b" ")[0] for line in smarthost.commands]
    assert verbs == [b"EHLO", b"AUTH", b"MAIL", b"RCPT", b"RSET", b"MAIL", b"RCPT", b"DATA"]
    assert [mail.sender for mail in smarthost.mails] == [b"two@moon.test"]


@pytest.mark.parametrize("answer", [Fault.CLOSE, b"421 4.3.2 Closing", b"250 Ok\r\n250 Twice"], ids=str)
def test_a_connection_that_cannot_be_reset_is_replaced_and_the_client_hears_nothing_of_it(
    answer: Answer, start: Start, connect: Connect, smarthosts: Smarthosts
) -> None:
    smarthost = smarthosts.start({Stage.RSET: [answer]})
    client = connect(start("authBackend = none\n" + mapping(smarthost)), ME)
    client.mail("one@moon.test")
    client.rset()
    client.sendmail("two@moon.test", RECIPIENTS, CONTENT)
    assert smarthost.logins == ["someone", "someone"]
    assert [mail.complete for mail in smarthost.mails] == [True]


def test_a_connection_that_the_smarthost_closed_between_mails_is_replaced(
    start: Start, connect: Connect, smarthosts: Smarthosts
) -> None:
    smarthost = smarthosts.start(
        {Stage.DOT: [b"250 Ok\r\n", b"250 Ok\r\n421 4.4.2 Idle for too long\r\n", b"250 Ok\r\n"]}
    )
    client = connect(start("authBackend = none\n" + mapping(smarthost)), ME)
    for _ in range(3):
        client.sendmail("one@moon.test", RECIPIENTS, CONTENT)
    assert [mail.complete for mail in smarthost.mails] == [True] * 3
    assert smarthost.logins == ["someone", "someone"]


def test_another_account_gets_another_connection_even_at_the_same_smarthost(
    start: Start, connect: Connect, smarthosts: Smarthosts
) -> None:
    smarthost = smarthosts.start()
    accounts = mapping(smarthost, "one@moon.test", "first pass-one") + mapping(smarthost, "two@moon.test", "second 2")
    client = connect(start("authBackend = none\n" + accounts), ME)
    for sender in ("one@moon.test", "two@moon.test", "one@moon.test"):
        client.sendmail(sender, RECIPIENTS, CONTENT)
    assert [mail.login for mail in smarthost.mails] == ["first", "second", "first"]


def test_a_password_that_changes_between_mails_is_used_at_once(
    start: Start, connect: Connect, smarthosts: Smarthosts, tmp_path: Path
) -> None:
    smarthost = smarthosts.start()
    account = tmp_path / "fetchmailrc"

    def write(password: str) -> None:
        account.touch(mode=0o600)
        account.write_text(
            f"poll x user someone pass {password}\n"
            f'  #sendooway:server "localhost"\n  #sendooway:port {smarthost.port}\n  #sendooway:address "*"\n'
        )

    write("old")
    client = connect(start(f"authBackend = none\nsmarthostMapping = fetchmail:{account}"), ME)
    client.sendmail("one@moon.test", RECIPIENTS, CONTENT)
    write("new")
    client.sendmail("one@moon.test", RECIPIENTS, CONTENT)
    assert smarthost.logins == ["someone", "someone"]


def test_the_null_reverse_path_goes_where_the_last_mail_went(
    start: Start, connect: Connect, smarthosts: Smarthosts
) -> None:
    smarthost = smarthosts.start()
    client = connect(start("authBackend = none\n" + mapping(smarthost, "one@moon.test")), ME)
    assert client.docmd("MAIL FROM:<>")[0] == 550
    client.sendmail("one@moon.test", RECIPIENTS, CONTENT)
    client.sendmail("", RECIPIENTS, CONTENT)
    assert [mail.sender for mail in smarthost.mails] == [b"one@moon.test", b""]


# Greeting and login


def test_a_smarthost_that_knows_only_helo_is_served(start: Start, connect: Connect, smarthosts: Smarthosts) -> None:
    smarthost = smarthosts.start({Stage.EHLO: [b"502 5.5.1 What?"], Stage.OTHER: [b"250 scripted.test"]})
    client = connect(start("authBackend = none\next8BitMime = ignore\n" + mapping(smarthost, account="- -")), ME)
    client.sendmail("one@moon.test", RECIPIENTS, CONTENT, ["BODY=8BITMIME"])
    assert smarthost.commands[:3] == [b"EHLO proxy.test", b"HELO proxy.test", b"MAIL FROM:<one@moon.test>"]


@pytest.mark.parametrize(("clone", "name"), [("no", b"EHLO proxy.test"), ("yes", b"EHLO client.test")])
def test_the_name_told_is_ours_or_the_clients(
    clone: str, name: bytes, start: Start, connect: Connect, smarthosts: Smarthosts
) -> None:
    smarthost = smarthosts.start()
    connect(start(f"authBackend = none\ncloneEhlo = {clone}\n" + mapping(smarthost)), ME).mail("one@moon.test")
    assert smarthost.commands[0] == name


def test_no_received_field_is_added_where_none_is_wanted(
    start: Start, connect: Connect, smarthosts: Smarthosts
) -> None:
    smarthost = smarthosts.start()
    client = connect(start("authBackend = none\naddReceivedField = no\n" + mapping(smarthost)), ME)
    client.sendmail("one@moon.test", RECIPIENTS, CONTENT)
    assert bytes(smarthost.mails[0].data) == CONTENT + b".\r\n"


@pytest.mark.parametrize(
    ("settings", "offered", "tried"),
    [
        ("", b"AUTH LOGIN PLAIN", [b"PLAIN"]),
        ("smarthostPlain = never", b"AUTH LOGIN PLAIN", [b"LOGIN"]),
        ("smarthostPlain = never\nsmarthostLogin = never", b"AUTH LOGIN PLAIN", []),
        ("smarthostLogin = alwaysTry", b"AUTH GSSAPI", [b"LOGIN"]),
        ("", b"AUTH=LOGIN", [b"LOGIN"]),
    ],
)
def test_the_mechanism_is_the_strongest_offered_and_allowed(
    settings: str, offered: bytes, tried: list[bytes], start: Start, connect: Connect, smarthosts: Smarthosts
) -> None:
    smarthost = smarthosts.start(capabilities=[*without(b"AUTH"), offered])
    client = connect(start(f"authBackend = none\n{settings}\n" + mapping(smarthost)), ME)
    code, _ = client.mail("one@moon.test")
    assert code == (250 if tried else 454)
    assert [line.split()[1] for line in smarthost.commands if line.startswith(b"AUTH")] == tried


def test_a_long_password_is_sent_without_an_initial_response(
    start: Start, connect: Connect, smarthosts: Smarthosts
) -> None:
    smarthost = smarthosts.start()
    client = connect(start("authBackend = none\n" + mapping(smarthost, account=f"someone {'x' * 600}")), ME)
    assert client.mail("one@moon.test")[0] == 250
    assert b"AUTH PLAIN" in smarthost.commands
    assert smarthost.logins == ["someone"]


@pytest.mark.parametrize("echoed", [b"pass-word", b"AHNvbWVvbmUAcGFzcy13b3Jk"])
def test_a_password_that_a_smarthost_repeats_reaches_neither_client_nor_log(
    echoed: bytes, start: Start, connect: Connect, smarthosts: Smarthosts
) -> None:
    smarthost = smarthosts.start({Stage.AUTH: [b"535 5.7.8 I do not know " + echoed + b"!"]})
    sendooway = start("authBackend = none\nsmarthostLogin = never\n" + mapping(smarthost))
    code, text = connect(sendooway, ME).mail("one@moon.test")
    assert code == 454
    assert b"535" in text
    assert echoed not in text
    assert echoed.decode() not in sendooway.wait_for_log("smarthost-failed")
    assert echoed.decode() not in sendooway.log


# Size, 8-bit, parameters, time


def test_a_message_above_our_limit_is_refused_as_declared_and_as_found(
    start: Start, connect: Connect, smarthosts: Smarthosts
) -> None:
    smarthost = smarthosts.start()
    client = connect(start("authBackend = none\nextMessageSize = 1000\n" + mapping(smarthost)), ME)
    assert client.esmtp_features["size"] == "1000"
    assert client.docmd("MAIL FROM:<one@moon.test> SIZE=1001")[0] == 552
    assert client.docmd("MAIL FROM:<one@moon.test> SIZE=1000")[0] == 250
    assert client.rset()[0] == 250
    client.docmd("MAIL FROM:<one@moon.test> SIZE=10")
    client.rcpt("bob@mars.test")
    assert client.data(b"x" * 70 + b"\r\n" * 466)[0] == 552
    assert not any(mail.complete for mail in smarthost.mails)
    client.sendmail("one@moon.test", RECIPIENTS, b"x" * 70 + b"\r\n" * 465)
    assert smarthost.mails[-1].complete


def test_the_smarthosts_own_limit_counts_the_field_that_we_add(
    start: Start, connect: Connect, smarthosts: Smarthosts
) -> None:
    smarthost = smarthosts.start(capabilities=[*without(b"SIZE"), b"SIZE 1000"])
    client = connect(start("authBackend = none\n" + mapping(smarthost)), ME)
    code, text = client.docmd("MAIL FROM:<one@moon.test> SIZE=990")
    assert (code, text[:5]) == (552, b"5.3.4")
    assert client.docmd("MAIL FROM:<one@moon.test> SIZE=100")[0] == 250
    declared = int(smarthost.commands[-1].partition(b"SIZE=")[2])
    assert 150 < declared < 500


@pytest.mark.parametrize(
    ("setting", "offered", "code"), [("force", True, 554), ("ignore", True, 250), ("disable", False, 250)]
)
def test_8bitmime_is_forced_ignored_or_not_offered(
    setting: str, offered: bool, code: int, start: Start, connect: Connect, smarthosts: Smarthosts
) -> None:
    smarthost = smarthosts.start(capabilities=without(b"8BITMIME"))
    client = connect(start(f"authBackend = none\next8BitMime = {setting}\n" + mapping(smarthost)), ME)
    assert ("8bitmime" in client.esmtp_features) is offered
    assert client.docmd("MAIL FROM:<one@moon.test> BODY=8BITMIME")[0] == code
    assert client.docmd("MAIL FROM:<one@moon.test> BODY=7BIT")[0] == (503 if code == 250 else 250)


def test_parameters_that_nobody_was_offered_are_refused(start: Start, connect: Connect, smarthosts: Smarthosts) -> None:
    smarthost = smarthosts.start(capabilities=[*CAPABILITIES, b"XSPEED"])
    client = connect(start("authBackend = none\n" + mapping(smarthost)), ME)
    assert client.docmd("MAIL FROM:<one@moon.test> XSPEED=11")[0] == 555
    assert client.docmd("MAIL FROM:<one@moon.test> AUTH=<>")[0] == 250
    assert client.docmd("RCPT TO:<bob@mars.test> XSPEED=11")[0] == 555


def test_a_client_that_says_nothing_is_told_421(start: Start, connect: Connect, smarthosts: Smarthosts) -> None:
    smarthost = smarthosts.start()
    sendooway = start("authBackend = none\ntimeout = 2\n" + mapping(smarthost))
    client = connect(sendooway, ME)
    assert client.getreply()[0] == 421
    client = connect(sendooway, ME)
    client.mail("one@moon.test")
    assert client.getreply()[0] == 421
    client = connect(sendooway, ME)
    client.mail("one@moon.test")
    client.rcpt("bob@mars.test")
    client.docmd("DATA")
    client.send(b"half a mes")
    assert client.getreply()[0] == 421
    sendooway.wait_for_log("mail-failed", "one@moon.test")
    assert not any(mail.complete for mail in smarthost.mails)


def test_each_mail_has_one_line_in_the_log(start: Start, connect: Connect, smarthosts: Smarthosts) -> None:
    smarthost = smarthosts.start()
    sendooway = start("authBackend = none\n" + mapping(smarthost))
    connect(sendooway, ME).sendmail("one@moon.test", RECIPIENTS, CONTENT)
    line = sendooway.wait_for_log(" mail ")
    for field in (
        'sender="<one@moon.test>"',
        "account=someone",
        f"smarthost=localhost:{smarthost.port}",
        "recipients=1",
        f"octets={len(CONTENT)}",
        'reply="250 2.0.0 Queued as SCRIPTED"',
        "rip=127.0.0.1",
        f"user={ME[0]}",
        "session=",
    ):
        assert field in line
    assert re.search(r" seconds=\d+\.\d{3}\b", line)
