"""Ways through a session: commands one by one or all at once, starting over, and a refused recipient."""

import smtplib

import pytest
from end_to_end.messages import HEADER, without_received
from servers.postfix import Postfix
from servers.program import Connect, Start
from servers.users import User

pytestmark = pytest.mark.slow

CONTENT = HEADER + b"Hello.\r\n"


@pytest.fixture
def client(start: Start, connect: Connect, alice_with_two_identities: User) -> smtplib.SMTP:
    return connect(start(), alice_with_two_identities)


def codes(client: smtplib.SMTP, number: int) -> list[int]:
    return [client.getreply()[0] for _ in range(number)]


def test_pipelined_commands_are_answered_in_order(client: smtplib.SMTP, postfix: Postfix) -> None:
    client.send(b"MAIL FROM:<alice@moon.test>\r\nRCPT TO:<a@mars.test>\r\nRCPT TO:<b@mars.test>\r\nDATA\r\n")
    assert codes(client, 4) == [250, 250, 250, 354]
    client.send(CONTENT + b".\r\n")
    assert codes(client, 1) == [250]
    login, delivery = postfix.take("a@mars.test")
    assert login == "alice-moon"
    assert delivery.recipients == ("a@mars.test", "b@mars.test")
    assert without_received(delivery.content) == CONTENT


def test_two_mails_of_two_identities_can_be_pipelined_behind_one_another(
    client: smtplib.SMTP, postfix: Postfix
) -> None:
    client.send(b"MAIL FROM:<alice@moon.test>\r\nRCPT TO:<a@mars.test>\r\nDATA\r\n")
    assert codes(client, 3) == [250, 250, 354]
    client.send(CONTENT + b".\r\nMAIL FROM:<alice@sun.test>\r\nRCPT TO:<b@mars.test>\r\nDATA\r\n")
    assert codes(client, 4) == [250, 250, 250, 354]
    client.send(CONTENT + b".\r\nQUIT\r\n")
    assert codes(client, 2) == [250, 221]
    assert postfix.take("a@mars.test")[0] == "alice-moon"
    assert postfix.take("b@mars.test")[0] == "alice-sun"


def test_commands_cut_into_single_octets_are_understood(client: smtplib.SMTP, postfix: Postfix) -> None:
    def send(octets: bytes) -> int:
        for number in range(len(octets)):
            client.send(octets[number : number + 1])
        return client.getreply()[0]

    assert send(b"MAIL FROM:<alice@moon.test>\r\n") == 250
    assert send(b"RCPT TO:<a@mars.test>\r\n") == 250
    assert send(b"DATA\r\n") == 354
    assert send(CONTENT + b".\r\n") == 250
    assert without_received(postfix.take("a@mars.test")[1].content) == CONTENT


def test_rset_forgets_the_mail_and_lets_another_identity_begin(client: smtplib.SMTP, postfix: Postfix) -> None:
    client.mail("alice@moon.test")
    client.rcpt("forgotten@mars.test")
    assert client.docmd("RSET")[0] == 250
    assert client.docmd("RCPT", "TO:<forgotten@mars.test>")[0] == 503
    client.sendmail("alice@sun.test", ["a@mars.test"], CONTENT)
    login, delivery = postfix.take("a@mars.test")
    assert (login, delivery.recipients) == ("alice-sun", ("a@mars.test",))


@pytest.mark.parametrize("greeting", ["EHLO", "HELO"])
def test_a_second_greeting_forgets_the_mail_but_not_the_login(
    greeting: str, client: smtplib.SMTP, postfix: Postfix
) -> None:
    client.mail("alice@moon.test")
    assert client.docmd(greeting, "again.test")[0] == 250
    assert client.docmd("RCPT", "TO:<a@mars.test>")[0] == 503
    client.sendmail("alice@sun.test", ["a@mars.test"], CONTENT)
    assert postfix.take("a@mars.test")[0] == "alice-sun"


def test_a_second_mail_inside_a_mail_is_out_of_sequence(client: smtplib.SMTP) -> None:
    client.mail("alice@moon.test")
    client.rcpt("a@mars.test")
    assert client.mail("alice@sun.test")[0] == 503


def test_data_without_an_accepted_recipient_is_refused(client: smtplib.SMTP) -> None:
    client.mail("alice@moon.test")
    assert client.docmd("DATA")[0] == 554


def test_commands_that_change_the_session_are_refused_after_login(client: smtplib.SMTP) -> None:
    assert client.docmd("STARTTLS")[0] == 503
    assert client.docmd("AUTH", "PLAIN AGEAYg==")[0] == 503
    client.mail("alice@moon.test")
    assert client.docmd("STARTTLS")[0] == 503
    assert client.docmd("AUTH", "PLAIN AGEAYg==")[0] == 503


def test_the_smarthosts_own_refusal_of_a_sender_is_passed_on(
    start: Start, connect: Connect, alice: User, postfix: Postfix
) -> None:
    alice.write(
        ".fetchmailrc",
        "poll x.test user a pass b\n#sendooway:server localhost\n#sendooway:tls\n"
        f"#sendooway:port {postfix.port}\n#sendooway:user alice-moon\n"
        '#sendooway:pass "moon secret"\n#sendooway:address *@sun.test\n',
    )
    client = connect(start(), alice)
    with pytest.raises(smtplib.SMTPRecipientsRefused) as refusal:
        client.sendmail("alice@sun.test", ["a@mars.test"], CONTENT)
    code, text = refusal.value.recipients["a@mars.test"]
    assert code == 553
    assert b"not owned by user alice-moon" in text
