"""The main job: a real client logs in once with a UNIX password, and each mail takes the way of its sender."""

from pathlib import Path

import pytest
from end_to_end.messages import BODIES, HEADER, message, without_received
from interop.clients import CURL, MSMTP, SWAKS, Client, Submission
from servers.certificates import Certificates
from servers.postfix import Postfix
from servers.program import Connect, Sendooway, Start
from servers.users import User

pytestmark = pytest.mark.slow


CONTENT = HEADER + b".dot\r\n..\r\nGr\xfc\xdfe, 100 % \\n %NEW%\r\n" + b"z" * 900 + b"\r\n"
IDENTITIES = {"alice@moon.test": "alice-moon", "alice@sun.test": "alice-sun"}


@pytest.mark.parametrize("sender", IDENTITIES)
@pytest.mark.parametrize("implicit", [False, True], ids=["STARTTLS", "implicit TLS"])
@pytest.mark.parametrize("client", [SWAKS, MSMTP, CURL], ids=str)
def test_a_mail_program_sends_through_the_account_of_the_sender(
    client: Client,
    implicit: bool,
    sender: str,
    start: Start,
    alice_with_two_identities: User,
    postfix: Postfix,
    certificates: Certificates,
    tmp_path: Path,
) -> None:
    if reason := client.why_not():
        pytest.skip(reason)
    sendooway = start("", *(["-s"] if implicit else []))
    alice = alice_with_two_identities
    recipient = f"{client}@mars.test"
    client.send(
        Submission(
            *(sendooway.port, alice.name, alice.password, certificates.authority, sender, recipient, CONTENT, tmp_path),
            implicit=implicit,
        )
    )
    login, delivery = postfix.take(recipient)
    assert (login, delivery.sender) == (IDENTITIES[sender], sender)
    assert without_received(delivery.content) == CONTENT


def test_two_identities_send_in_one_session_each_with_its_own_login(
    start: Start, connect: Connect, alice_with_two_identities: User, postfix: Postfix
) -> None:
    sendooway = start()
    client = connect(sendooway, alice_with_two_identities)
    for sender in ("alice@moon.test", "alice@sun.test", "alice@moon.test", "office@sun.test"):
        assert client.sendmail(sender, ["bob@mars.test"], CONTENT) == {}
        login, delivery = postfix.take("bob@mars.test")
        assert (login, delivery.sender) == ("alice-moon" if "moon" in sender else "alice-sun", sender)
        assert without_received(delivery.content) == CONTENT
    client.quit()
    for sender in ("alice@moon.test", "alice@sun.test", "office@sun.test"):
        sendooway.wait_for_log(sender, "250")
    assert_no_secret(sendooway, alice_with_two_identities)


def assert_no_secret(sendooway: Sendooway, user: User) -> None:
    for secret in (user.password, "moon secret", "sun-s3cret", "of the mailbox only"):
        assert secret not in sendooway.log


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("sender", IDENTITIES)
def test_every_octet_of_a_message_arrives_as_it_was_sent(
    body: str, sender: str, start: Start, connect: Connect, alice_with_two_identities: User, postfix: Postfix
) -> None:
    client = connect(start("addReceivedField = no"), alice_with_two_identities)
    content = message(body)
    client.sendmail(sender, ["octets@mars.test"], content, mail_options=["BODY=8BITMIME"])
    # Compared outside of `assert`: nobody wants to read the difference of 20 MiB.
    _, delivery = postfix.take("octets@mars.test")
    same = delivery.content == content
    assert same, f"{len(content)} octets were sent, {len(delivery.content)} came"


def test_the_received_field_is_the_only_octets_added(
    start: Start, connect: Connect, alice_with_two_identities: User, postfix: Postfix
) -> None:
    client = connect(start(), alice_with_two_identities)
    content = message("20 MiB")
    client.sendmail("alice@moon.test", ["octets@mars.test"], content)
    same = without_received(postfix.take("octets@mars.test")[1].content) == content
    assert same


@pytest.mark.parametrize(
    "data",
    [
        b"a bare\nLF\r\n.\r\n",
        b"a bare\rCR\r\n.\r\n",
        b"a NUL \0\r\n.\r\n",
        b"smuggled\n.\nMAIL FROM:<x@y.test>\r\n.\r\n",
        b"smuggled\r\n.\nMAIL FROM:<x@y.test>\r\n.\r\n",
        b"smuggled\n.\r\nMAIL FROM:<x@y.test>\r\n.\r\n",
    ],
)
def test_what_cannot_be_carried_unchanged_is_refused_and_never_arrives(
    data: bytes, start: Start, connect: Connect, alice_with_two_identities: User, postfix: Postfix
) -> None:
    client = connect(start(), alice_with_two_identities)
    client.mail("alice@moon.test")
    client.rcpt("never@mars.test")
    assert client.docmd("DATA")[0] == 354
    client.send(HEADER + data)
    code, text = client.getreply()
    assert (code, text[:5]) == (550, b"5.6.0")
    # The session is good for the next mail, and that is the first one to arrive.
    client.sendmail("alice@moon.test", ["never@mars.test"], CONTENT)
    assert without_received(postfix.take("never@mars.test")[1].content) == CONTENT


def test_a_sender_of_nobodys_account_is_refused_with_the_places_searched(
    start: Start, connect: Connect, alice_with_two_identities: User
) -> None:
    client = connect(start(), alice_with_two_identities)
    code, text = client.mail("mallory@moon.test")
    assert (code, text[:5]) == (550, b"5.7.1")
    assert b"mallory@moon.test" in text
    assert b".fetchmailrc" in text
    assert b"getmailrc" in text
    assert client.mail("alice@moon.test")[0] == 250


def test_one_user_cannot_send_as_another(
    start: Start, connect: Connect, alice_with_two_identities: User, bob: User, postfix: Postfix
) -> None:
    bob.write(
        ".getmail/getmailrc",
        "[sender]\ntype = SimpleSMTPTLSSender\nserver = localhost\n"
        f"port = {postfix.port}\nusername = alice-sun\npassword = sun-s3cret:+\naddress = office@sun.test\n",
    )
    client = connect(start(), bob)
    assert client.mail("alice@moon.test")[0] == 550
    assert client.sendmail("office@sun.test", ["bob@mars.test"], CONTENT) == {}
    assert postfix.take("bob@mars.test")[0] == "alice-sun"
