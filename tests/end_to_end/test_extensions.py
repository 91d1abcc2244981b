"""Extensions of SMTP, from clients that use them to real smarthosts, and to scripted ones that offer what few do."""

import os
import pwd
import re
import shutil
import smtplib
import socket
import ssl
import subprocess
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from end_to_end.messages import BODIES, HEADER, message, without_received
from servers.certificates import Certificate, Certificates
from servers.postfix import Postfix
from servers.processes import PATIENCE, wait_until
from servers.program import Connect, Sendooway, Start
from servers.scripted import CAPABILITIES, Answer, Fault, ScriptedSmarthost, Stage
from servers.users import User

pytestmark = pytest.mark.slow

CONTENT = HEADER + b"Hello.\r\n"
# `authBackend = none` lets in who runs the server, with any password.
ME = (pwd.getpwuid(os.geteuid()).pw_name, "not checked")


@pytest.fixture
def sendooway(start: Start, alice_with_two_identities: User) -> Sendooway:
    return start()


@pytest.fixture
def client(sendooway: Sendooway, connect: Connect, alice_with_two_identities: User) -> smtplib.SMTP:
    """Connected, with alice logged in, whose accounts are Postfix's."""
    return connect(sendooway, alice_with_two_identities)


def begin(client: smtplib.SMTP, sender: str = "alice@moon.test", recipient: str = "bob@mars.test") -> None:
    assert client.mail(sender)[0] == 250
    assert client.rcpt(recipient)[0] == 250


def chunk(client: smtplib.SMTP, octets: bytes, *, last: bool = False) -> tuple[int, bytes]:
    client.send(b"BDAT %d%s\r\n%s" % (len(octets), b" LAST" if last else b"", octets))
    return client.getreply()


# Chunks, to a smarthost with CHUNKING


def test_what_is_offered(client: smtplib.SMTP, postfix: Postfix) -> None:
    client.ehlo()
    assert set(client.esmtp_features) == {
        *("pipelining", "enhancedstatuscodes", "chunking", "dsn", "8bitmime", "smtputf8", "size")
    }


def test_messages_in_chunks_arrive_octet_for_octet(client: smtplib.SMTP, postfix: Postfix) -> None:
    for body in BODIES:
        content = message(body)
        begin(client)
        sizes = [1, 2, 3, 100, 60_000, 1_000_000]
        start = 0
        while start < len(content):
            size = sizes.pop(0) if sizes else 5_000_000
            assert chunk(client, content[start : start + size])[0] == 250
            start += size
        assert chunk(client, b"", last=True)[0] == 250
        # Compared outside of `assert`: nobody wants to read the difference of 20 MiB.
        same = without_received(postfix.take("bob@mars.test")[1].content) == content
        assert same, body


def test_all_of_a_mail_in_chunks_can_be_pipelined(client: smtplib.SMTP, postfix: Postfix) -> None:
    chunks = b"BDAT 100\r\n%sBDAT %d LAST\r\n%s" % (CONTENT[:100], len(CONTENT) - 100, CONTENT[100:])
    client.send(
        b"MAIL FROM:<alice@moon.test>\r\nRCPT TO:<moon@mars.test>\r\n%s"
        b"MAIL FROM:<alice@sun.test>\r\nRCPT TO:<sun@mars.test>\r\n%sQUIT\r\n" % (chunks, chunks)
    )
    assert [client.getreply()[0] for _ in range(9)] == [250] * 8 + [221]
    logins = {}
    for recipient in ("moon", "sun"):
        login, delivery = postfix.take(f"{recipient}@mars.test")
        logins[login] = without_received(delivery.content)
    assert logins == {"alice-moon": CONTENT, "alice-sun": CONTENT}


def test_a_message_without_line_end_gets_one(client: smtplib.SMTP, postfix: Postfix) -> None:
    begin(client)
    assert chunk(client, HEADER + b"Hello", last=True)[0] == 250
    assert without_received(postfix.take("bob@mars.test")[1].content) == HEADER + b"Hello\r\n"


def test_what_cannot_be_carried_in_chunks_is_refused_and_never_arrives(client: smtplib.SMTP, postfix: Postfix) -> None:
    for bad in (b"a bare\nLF", b"a bare\rCR", b"a NUL \0", b"smuggled\n.\r\nMAIL FROM:<x@y.test>\r\n"):
        begin(client)
        assert chunk(client, HEADER)[0] == 250
        code, text = chunk(client, bad)
        assert (code, text[:5]) == (550, b"5.6.0")
        assert chunk(client, b"more\r\n", last=True)[0] == 550
    # The session is good for the next mail, and that is the first one to arrive.
    begin(client)
    assert chunk(client, CONTENT, last=True)[0] == 250
    assert without_received(postfix.take("bob@mars.test")[1].content) == CONTENT


def test_rset_between_chunks_forgets_the_message(client: smtplib.SMTP, postfix: Postfix) -> None:
    begin(client)
    assert chunk(client, b"Forgotten")[0] == 250
    assert client.docmd("DATA")[0] == 503
    assert client.noop()[0] == 250
    assert client.rset()[0] == 250
    assert chunk(client, b"QUIT\r\n", last=True)[0] == 503
    begin(client)
    assert client.data(CONTENT)[0] == 250
    assert without_received(postfix.take("bob@mars.test")[1].content) == CONTENT


def test_chunks_for_nobody_are_read_to_their_end(client: smtplib.SMTP, postfix: Postfix) -> None:
    assert client.mail("alice@moon.test")[0] == 250
    assert chunk(client, b"NOOP\r\n" * 20_000)[0] == 554
    assert chunk(client, b"NOOP\r\n", last=True)[0] == 503
    begin(client)
    assert chunk(client, CONTENT, last=True)[0] == 250
    assert postfix.take("bob@mars.test")[0] == "alice-moon"


def test_a_chunk_of_unknown_size_ends_the_session(client: smtplib.SMTP, sendooway: Sendooway) -> None:
    begin(client)
    assert client.docmd("BDAT", "many LAST")[0] == 501
    with pytest.raises(smtplib.SMTPServerDisconnected):
        client.noop()
    sendooway.wait_for_log("disconnect", 'reason="501 5.5.4 ')


def test_the_size_limit_is_for_all_chunks_together(
    start: Start, connect: Connect, alice_with_two_identities: User, postfix: Postfix
) -> None:
    client = connect(start(f"extMessageSize = {len(CONTENT)}"), alice_with_two_identities)
    begin(client)
    assert chunk(client, CONTENT)[0] == 250
    assert chunk(client, b"x", last=True)[0] == 552
    begin(client)
    assert chunk(client, CONTENT[:50])[0] == 250
    assert chunk(client, CONTENT[50:], last=True)[0] == 250
    assert without_received(postfix.take("bob@mars.test")[1].content) == CONTENT


# Delivery reports


def test_what_dsn_asks_for_reaches_the_smarthost(client: smtplib.SMTP, postfix: Postfix) -> None:
    asked = ["NOTIFY=SUCCESS,DELAY", "ORCPT=rfc822;Bob+2B1@mars.test"]
    client.sendmail("alice@moon.test", ["bob@mars.test"], CONTENT, ["RET=HDRS", "ENVID=QQ+2B1"], asked)
    _, delivery = postfix.take("bob@mars.test")
    assert {"RET=HDRS", "ENVID=QQ+2B1", *asked} <= set(delivery.parameters)


def test_msmtp_asks_for_delivery_reports(
    sendooway: Sendooway, alice_with_two_identities: User, postfix: Postfix, certificates: Certificates, tmp_path: Path
) -> None:
    if not shutil.which("msmtp"):
        pytest.skip("msmtp is not installed")
    password = tmp_path / "password"
    password.write_text(alice_with_two_identities.password)
    subprocess.run(
        [
            *("msmtp", "--file=/dev/null", "--host=localhost", f"--port={sendooway.port}", "--auth=plain"),
            *("--tls=on", f"--tls-trust-file={certificates.authority}", f"--passwordeval=cat {password}"),
            *(f"--user={alice_with_two_identities.name}", "--from=alice@moon.test"),
            *("--dsn-notify=failure,delay", "--dsn-return=hdrs", "bob@mars.test"),
        ],
        input=CONTENT.replace(b"\r\n", b"\n"),
        timeout=60,
        check=True,
    )
    _, delivery = postfix.take("bob@mars.test")
    assert {"RET=HDRS", "NOTIFY=FAILURE,DELAY"} <= set(delivery.parameters)


# UTF-8


@pytest.fixture
def alice_with_an_umlaut(alice: User, postfix: Postfix) -> User:
    alice.write(
        ".fetchmailrc",
        "poll x.test user a pass b\n#sendooway:server localhost\n"
        f'#sendooway:port {postfix.port}\n#sendooway:tls\n#sendooway:user alice-moon\n#sendooway:pass "moon secret"\n'
        "#sendooway:address jörg@moon.test\n",
    )
    return alice


def test_curl_sends_from_and_to_addresses_in_utf8(
    start: Start, alice_with_an_umlaut: User, postfix: Postfix, certificates: Certificates, tmp_path: Path
) -> None:
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    user = alice_with_an_umlaut
    message = tmp_path / "message"
    message.write_bytes(CONTENT)
    subprocess.run(
        [
            *("curl", "--silent", "--show-error", "--cacert", str(certificates.authority), "--ssl-reqd"),
            *("--url", f"smtp://localhost:{start().port}", "--user", f"{user.name}:{user.password}"),
            *("--mail-from", "jörg@moon.test", "--mail-rcpt", "bøb@mars.test", "--upload-file", str(message)),
        ],
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
        timeout=60,
        check=True,
    )
    login, delivery = postfix.take("bøb@mars.test")
    assert (login, delivery.sender) == ("alice-moon", "jörg@moon.test")
    assert without_received(delivery.content) == CONTENT


def test_addresses_in_utf8(start: Start, connect: Connect, alice_with_an_umlaut: User, postfix: Postfix) -> None:
    client = connect(start(), alice_with_an_umlaut)
    message = HEADER.replace(b"Alice", "Jörg".encode()) + b"Hello.\r\n"
    client.sendmail("jörg@moon.test", ["bøb@mars.test"], message, ["SMTPUTF8", "BODY=8BITMIME"])
    login, delivery = postfix.take("bøb@mars.test")
    assert (login, delivery.sender) == ("alice-moon", "jörg@moon.test")
    assert "SMTPUTF8" in delivery.parameters
    assert without_received(delivery.content) == message
    assert b" with UTF8SMTPSA id " in delivery.content.partition(b"\r\n\r\n")[0]
    # Without the word for it, or with another address, it is none of alice's.
    assert client.docmd("MAIL", "FROM:<alice@moon.test>")[0] == 550
    client.send("MAIL FROM:<jörg@moon.test>\r\n".encode())
    assert client.getreply()[0] == 553


# Smarthosts that offer what few do


@dataclass(frozen=True)
class Way:
    """A client that is logged in, and what is behind it."""

    client: smtplib.SMTP
    sendooway: Sendooway
    smarthost: ScriptedSmarthost

    def mail(self, *parameters: str) -> tuple[int, bytes]:
        """The smarthost's own words tell whether it was asked."""
        return self.client.mail("alice@moon.test", parameters)

    @property
    def said(self) -> list[bytes]:
        """To the smarthost, of mails."""
        return [line for line in self.smarthost.commands if line.startswith((b"MAIL", b"RCPT", b"BDAT"))]


To = Callable[..., Way]


@pytest.fixture
def to(start: Start, connect: Connect, certificates: Certificates) -> Iterator[To]:
    """A way to a smarthost with these extensions, with `*@moon.test` for everybody."""
    with ExitStack() as stack:

        def way(
            *extensions: bytes,
            certificate: str = "good",
            options: str = "tls",
            secure: bool = True,
            answers: dict[Stage, list[Answer]] | None = None,
        ) -> Way:
            files: Certificate = getattr(certificates, certificate)
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(files.certificate, files.key)
            capabilities = (*CAPABILITIES, *extensions)
            smarthost = stack.enter_context(ScriptedSmarthost(tls=context, capabilities=capabilities, answers=answers))
            mapping = f"direct:*@moon.test localhost {smarthost.port} a secret {options}"
            sendooway = start(f"authBackend = none\nsmarthostMapping = {mapping}")
            return Way(connect(sendooway, ME, secure=secure), sendooway, smarthost)

        yield way


def test_a_smarthost_without_chunking_gets_the_chunks_behind_data(to: To) -> None:
    way = to()
    begin(way.client)
    assert chunk(way.client, HEADER + b".")[0] == 250
    assert chunk(way.client, b"\r\n.", last=True)[0] == 250
    (mail,) = way.smarthost.mails
    assert without_received(bytes(mail.data)) == HEADER + b"..\r\n..\r\n.\r\n"


@pytest.mark.parametrize("extensions", [(), (b"CHUNKING",)], ids=["DATA", "BDAT"])
def test_who_leaves_within_a_chunk_leaves_no_message_behind(to: To, extensions: tuple[bytes, ...]) -> None:
    way = to(*extensions)
    begin(way.client)
    way.client.send(b"BDAT 1000 LAST\r\nHello\r\n")
    wait_until(lambda: extensions or way.smarthost.mails, "the message has begun")
    way.client.close()
    way.sendooway.wait_for_log("mail-failed", "the client left in the middle of the message")
    assert not any(mail.complete for mail in way.smarthost.mails)


def test_a_chunk_that_the_smarthost_refuses_is_the_last_one_that_it_gets(to: To) -> None:
    way = to(b"CHUNKING", answers={Stage.CHUNK: [b"452 4.3.1 Disk full", b"250 2.0.0 Chunk OK"]})
    begin(way.client)
    assert chunk(way.client, HEADER) == (452, b"4.3.1 Disk full")
    assert chunk(way.client, b"Hello.\r\n")[0] == 503
    assert chunk(way.client, b"", last=True)[0] == 503
    (mail,) = way.smarthost.mails
    assert without_received(bytes(mail.data)) == HEADER
    assert not mail.complete
    # The next mail has the connection, which was reset, and all of its chunks.
    begin(way.client)
    assert chunk(way.client, HEADER)[0] == 250
    assert chunk(way.client, b"Hello.\r\n", last=True)[0] == 250
    mail = way.smarthost.mails[-1]
    assert mail.complete
    assert without_received(bytes(mail.data)) == CONTENT
    assert way.smarthost.commands.count(b"RSET") == 1
    assert len(way.smarthost.logins) == 1
    way.sendooway.wait_for_log(" mail ", "452 4.3.1 Disk full")


@pytest.mark.parametrize("fault", [Fault.CLOSE, Fault.RESET])
@pytest.mark.parametrize(
    ("stage", "words"), [(Stage.CHUNK, b"The smarthost was lost:"), (Stage.DOT, b"whether it delivers the message")]
)
def test_a_smarthost_that_is_lost_within_a_message_in_chunks(to: To, stage: Stage, words: bytes, fault: Fault) -> None:
    way = to(b"CHUNKING", answers={stage: [fault]})
    begin(way.client)
    heard = [chunk(way.client, HEADER), chunk(way.client, b"Hello.\r\n", last=True)]
    assert [code for code, _ in heard] == ([451, 451] if stage is Stage.CHUNK else [250, 451])
    assert words in heard[-1][1]
    assert b"localhost" in heard[-1][1]
    assert way.client.noop()[0] == 250


def test_a_smarthost_that_refuses_data_refuses_the_chunk_in_its_own_words(to: To) -> None:
    way = to(answers={Stage.DATA: [b"451 4.7.1 Not now"]})
    begin(way.client)
    assert chunk(way.client, CONTENT) == (451, b"4.7.1 Not now")
    assert chunk(way.client, b"", last=True)[0] == 503
    assert way.smarthost.mails == []


def test_what_dsn_asks_for_is_dropped_with_a_word_in_the_log(to: To) -> None:
    way = to()
    assert way.mail("RET=FULL", "ENVID=1")[0] == 250
    assert way.client.rcpt("bob@mars.test", ["NOTIFY=NEVER", "ORCPT=rfc822;bob@mars.test"])[0] == 250
    assert way.client.data(CONTENT)[0] == 250
    assert way.said == [b"MAIL FROM:<alice@moon.test>", b"RCPT TO:<bob@mars.test>"]
    way.sendooway.wait_for_log(" mail ", 'dropped="RET ENVID NOTIFY ORCPT"')


def test_smtputf8_is_dropped_where_no_address_needs_it(to: To) -> None:
    way = to()
    assert way.mail("SMTPUTF8")[0] == 250
    assert way.client.docmd("RCPT", "TO:<bob@mars.test>")[0] == 250
    way.client.send("RCPT TO:<jörg@mars.test>\r\n".encode())
    code, text = way.client.getreply()
    assert (code, text[:5]) == (553, b"5.6.7")
    assert way.client.rset()[0] == 250
    way.client.send("MAIL FROM:<jörg@moon.test> SMTPUTF8\r\n".encode())
    code, text = way.client.getreply()
    assert (code, text[:5]) == (553, b"5.6.7")
    assert way.said == [b"MAIL FROM:<alice@moon.test>", b"RCPT TO:<bob@mars.test>"]
    way.sendooway.wait_for_log("mail-abandoned", "dropped=SMTPUTF8")


OTHERS = [
    (b"REQUIRETLS", "REQUIRETLS", 550),
    (b"FUTURERELEASE 86400 2030-01-01T00:00:00Z", "HOLDFOR=60", 555),
    (b"DELIVERBY 60", "BY=120;R", 555),
    (b"MT-PRIORITY MIXER", "MT-PRIORITY=3", 555),
]


def test_what_is_not_offered_to_clients_is_passed_on_to_smarthosts_that_offer_it(to: To) -> None:
    way = to(*(extension for extension, _, _ in OTHERS))
    for _, parameter, _ in OTHERS:
        assert way.mail(parameter) == (250, b"2.1.0 Sender OK")
        assert way.said[-1] == b"MAIL FROM:<alice@moon.test> " + parameter.encode()
        assert way.client.rset()[0] == 250


def test_and_refused_at_others(to: To) -> None:
    way = to()
    for _, parameter, refusal in OTHERS:
        assert way.mail(parameter)[0] == refusal
    assert way.said == []
    # The session goes on.
    assert way.mail() == (250, b"2.1.0 Sender OK")


def test_requiretls_needs_a_verified_certificate(to: To) -> None:
    way = to(b"REQUIRETLS", certificate="self_signed", options="tls,noCertCheck")
    code, text = way.mail("REQUIRETLS")
    assert (code, text[:6]) == (550, b"5.7.30")
    assert way.mail()[0] == 250
    assert way.said == [b"MAIL FROM:<alice@moon.test>"]


def test_requiretls_needs_tls_at_the_client_too(to: To) -> None:
    way = to(b"REQUIRETLS", secure=False)
    code, text = way.mail("REQUIRETLS")
    assert (code, text[:5]) == (530, b"5.7.0")
    assert way.said == []


def test_nobody_vouches_for_who_wrote_a_message(to: To) -> None:
    way = to()
    assert way.mail("AUTH=alice+40moon.test")[0] == 250
    assert way.said == [b"MAIL FROM:<alice@moon.test> AUTH=<>"]


def test_the_octets_of_the_trace_are_added_to_the_size(to: To) -> None:
    way = to()
    # smtplib says SIZE by itself.
    way.client.sendmail("alice@moon.test", ["bob@mars.test"], CONTENT)
    (mail,) = way.smarthost.mails
    assert way.said[0] == b"MAIL FROM:<alice@moon.test> SIZE=%d" % (len(mail.data) - len(b".\r\n"))


def test_a_smarthost_gets_no_more_mails_on_a_connection_than_it_wants(to: To) -> None:
    way = to(b"LIMITS MAILMAX=2 RCPTMAX=100")
    for _ in range(5):
        way.client.sendmail("alice@moon.test", ["bob@mars.test"], CONTENT)
    greetings = [line for line in way.smarthost.commands if line.startswith((b"EHLO", b"MAIL"))]
    # EHLO is said before and after STARTTLS.
    assert [line[:4] for line in greetings] == [b"EHLO", b"EHLO", b"MAIL", b"MAIL"] * 2 + [b"EHLO", b"EHLO", b"MAIL"]
    assert len(way.smarthost.mails) == 5


# Clients of other times


def test_a_client_that_says_helo_can_use_what_it_was_not_offered(
    sendooway: Sendooway, alice_with_two_identities: User, postfix: Postfix, tls: ssl.SSLContext
) -> None:
    client = smtplib.SMTP("localhost", sendooway.port, timeout=PATIENCE)
    client.starttls(context=tls)
    assert client.helo("old.test")[0] == 250
    plain = f"\0{alice_with_two_identities.name}\0{alice_with_two_identities.password}"
    assert client.docmd("AUTH", f"PLAIN {b64encode(plain.encode()).decode()}")[0] == 235
    begin(client)
    assert client.data(CONTENT)[0] == 250
    client.quit()
    assert without_received(postfix.take("bob@mars.test")[1].content) == CONTENT


def test_a_client_that_does_not_say_who_it_is_and_does_not_wait(
    sendooway: Sendooway, alice_with_two_identities: User, postfix: Postfix, tls: ssl.SSLContext
) -> None:
    plain = f"\0{alice_with_two_identities.name}\0{alice_with_two_identities.password}"
    with socket.create_connection(("localhost", sendooway.port), timeout=PATIENCE) as plain_socket:
        assert plain_socket.recv(100).startswith(b"220 ")
        plain_socket.sendall(b"STARTTLS\r\n")
        assert plain_socket.recv(100).startswith(b"220 ")
        with tls.wrap_socket(plain_socket, server_hostname="localhost") as client:
            client.sendall(
                b"AUTH PLAIN %s\r\nMAIL FROM:<alice@moon.test> BODY=8BITMIME\r\nRCPT TO:<bob@mars.test>\r\n"
                b"BDAT %d LAST\r\n%sQUIT\r\n" % (b64encode(plain.encode()), len(CONTENT), CONTENT)
            )
            heard = b""
            while octets := client.recv(1000):
                heard += octets
    assert re.findall(rb"^\d{3} ", heard, re.MULTILINE) == [b"235 ", b"250 ", b"250 ", b"250 ", b"221 "]
    content = postfix.take("bob@mars.test")[1].content
    assert without_received(content) == CONTENT
    assert content.startswith(b"Received: from unknown ([127.0.0.1])")


def test_a_client_that_knows_only_line_feeds_is_told_so_and_then_left(sendooway: Sendooway) -> None:
    with socket.create_connection(("localhost", sendooway.port), timeout=PATIENCE) as client:
        client.sendall(b"EHLO old.test\n" * 30)
        heard = b""
        while octets := client.recv(1000):
            heard += octets
    codes = re.findall(rb"^\d{3} ", heard, re.MULTILINE)
    assert codes == [b"220 ", *[b"500 "] * 19, b"421 "]


def test_on_pipes_line_feeds_end_commands_and_never_a_message(
    start: Start, tmp_path: Path, certificates: Certificates
) -> None:
    with ScriptedSmarthost() as smarthost:
        reading, writing = os.pipe()
        answers = tmp_path / "answers"
        with answers.open("wb") as stdout:
            start(
                f"authBackend = none\nsmarthostMapping = direct:*@moon.test localhost {smarthost.port} a secret",
                stdin=reading,
                stdout=stdout.fileno(),
            )
        os.close(reading)
        credentials = b64encode(f"\0{ME[0]}\0any".encode())
        with open(writing, "wb") as stdin:
            stdin.write(
                b"AUTH PLAIN %s\nMAIL FROM:<alice@moon.test>\nRCPT TO:<bob@mars.test>\nDATA\nHello\n.\n"
                b"RSET\n.\r\n\r\n.\r\nMAIL FROM:<alice@moon.test>\nRCPT TO:<bob@mars.test>\n"
                b"BDAT 7 LAST\nHello\r\nQUIT\n" % credentials
            )
        wait_until(lambda: b"\n221 " in answers.read_bytes(), "it is over")
        codes = re.findall(rb"^(\d{3}) ", answers.read_bytes(), re.MULTILINE)
        assert codes == [b"220", b"235", b"250", b"250", b"354", b"550", b"250", b"250", b"250", b"221"]
        assert [without_received(bytes(mail.data)) for mail in smarthost.mails if mail.complete] == [b"Hello\r\n.\r\n"]
