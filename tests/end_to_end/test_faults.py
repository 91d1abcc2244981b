"""A smarthost that fails at each stage in turn: what the client reads, and what the log says."""

import hashlib
import os
import pwd
import smtplib
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from end_to_end.messages import HEADER
from servers.certificates import Certificate, Certificates
from servers.processes import PATIENCE, free_port
from servers.program import Connect, Start
from servers.scripted import CAPABILITIES, Answer, Fault, ScriptedSmarthost, Stage

pytestmark = pytest.mark.slow

CONTENT = HEADER + b"Hello.\r\n"
LOGIN, PASSWORD = "alice-moon", "moon-secret"
ME = (pwd.getpwuid(os.geteuid()).pw_name, "not checked")


def configuration(port: int, options: str = "tls") -> str:
    return f"authBackend = none\nsmarthostMapping = direct:* localhost {port} {LOGIN} {PASSWORD} {options}\n"


def hurried_by(answers: dict[Stage, list[Answer]]) -> str:
    """More lines, so that an answer that does not come is not waited for."""
    return "timeout = 3\n" if [Fault.HANG] in answers.values() else ""


class Smarthosts:
    """Scripted smarthosts with certificates of the test's authority; each ends with the test."""

    def __init__(self, certificates: Certificates, stack: ExitStack) -> None:
        self.certificates, self._stack = certificates, stack

    def start(
        self,
        answers: dict[Stage, list[Answer]] | None = None,
        *,
        certificate: str | None = "good",
        implicit: bool = False,
        capabilities: tuple[bytes, ...] = CAPABILITIES,
    ) -> ScriptedSmarthost:
        """`certificate` is the name of a field of Certificates; None: no TLS."""
        context = None
        if certificate:
            files: Certificate = getattr(self.certificates, certificate)
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(files.certificate, files.key)
        smarthost = ScriptedSmarthost(tls=context, implicit=implicit, capabilities=capabilities, answers=answers)
        return self._stack.enter_context(smarthost)


@pytest.fixture
def smarthosts(certificates: Certificates) -> Iterator[Smarthosts]:
    with ExitStack() as stack:
        yield Smarthosts(certificates, stack)


@dataclass(frozen=True)
class Way:
    """A smarthost that gives no way to it: what it does, and the reply to MAIL that this leads to."""

    name: str
    code: int
    enhanced: str
    stage: str  # as the client and the log are told
    words: str = ""  # the smarthost's own, or the reason; in the client's reply
    answers: dict[Stage, list[Answer]] = field(default_factory=dict)
    certificate: str | None = "good"
    capabilities: tuple[bytes, ...] = CAPABILITIES
    options: str = "tls"


WAYS = [
    Way("greets with 554", 451, "4.4.1", "greeting", "Go away", {Stage.GREETING: [b"554 5.3.2 Go away"]}),
    Way("says nothing", 451, "4.4.1", "greeting", "", {Stage.GREETING: [Fault.HANG]}),
    Way("closes at once", 451, "4.4.1", "greeting", "", {Stage.GREETING: [Fault.CLOSE]}),
    Way("greets with another protocol", 451, "4.4.1", "greeting", "", {Stage.GREETING: [b"* OK IMAP4rev1"]}),
    Way("hangs at EHLO", 451, "4.4.1", "EHLO", "", {Stage.EHLO: [Fault.HANG]}),
    Way("refuses EHLO", 451, "4.4.1", "EHLO", "No such host", {Stage.EHLO: [b"550 5.7.1 No such host"]}),
    Way("goes away at EHLO", 451, "4.4.1", "EHLO", "", {Stage.EHLO: [Fault.CLOSE]}),
    Way(
        "contradicts itself at EHLO",
        451,
        "4.4.1",
        "EHLO",
        "",
        {Stage.EHLO: [b"250-scripted.test\r\n550 PIPELINING"]},
    ),
    Way("does not offer STARTTLS", 454, "4.7.0", "STARTTLS", "STARTTLS", certificate=None),
    Way("refuses STARTTLS", 454, "4.7.0", "STARTTLS", "Not today", {Stage.STARTTLS: [b"454 4.7.0 Not today"]}),
    Way("hangs at STARTTLS", 451, "4.4.1", "STARTTLS", "", {Stage.STARTTLS: [Fault.HANG]}),
    Way(
        "sends more with the reply to STARTTLS",
        454,
        "4.7.0",
        "TLS",
        "",
        {Stage.STARTTLS: [b"220 2.0.0 Go\r\n250 injected\r\n"]},
    ),
    Way("hangs in the handshake", 451, "4.4.1", "TLS", "", {Stage.TLS: [Fault.HANG]}),
    Way("goes away in the handshake", 454, "4.7.0", "TLS", "", {Stage.TLS: [Fault.CLOSE]}),
    Way("has an expired certificate", 454, "4.7.0", "TLS", "expired", certificate="expired"),
    Way("has a certificate of a foreign authority", 454, "4.7.0", "TLS", "", certificate="foreign"),
    Way("has a self-signed certificate", 454, "4.7.0", "TLS", "self-signed", certificate="self_signed"),
    Way("has a certificate of another name", 454, "4.7.0", "TLS", "localhost", certificate="wrong_name"),
    Way("refuses the login", 454, "4.7.0", "login", "Bad password", {Stage.AUTH: [b"535 5.7.8 Bad password"]}),
    Way("cannot check the login", 454, "4.7.0", "login", "Later", {Stage.AUTH: [b"454 4.7.0 Later"]}),
    Way("hangs at the login", 451, "4.4.1", "login", "", {Stage.AUTH: [Fault.HANG]}),
    Way("goes away at the login", 451, "4.4.1", "login", "", {Stage.AUTH: [Fault.CLOSE]}),
    Way(
        "offers no login",
        454,
        "4.7.0",
        "login",
        "mechanism",
        capabilities=tuple(each for each in CAPABILITIES if not each.startswith(b"AUTH")),
    ),
    Way(
        "offers only logins that we do not know",
        454,
        "4.7.0",
        "login",
        "mechanism",
        capabilities=(b"AUTH GSSAPI NTLM", b"8BITMIME"),
    ),
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
def test_no_way_to_the_smarthost_is_told_with_stage_host_and_account(
    way: Way, start: Start, connect: Connect, smarthosts: Smarthosts
) -> None:
    smarthost = smarthosts.start(way.answers, certificate=way.certificate, capabilities=way.capabilities)
    sendooway = start(configuration(smarthost.port, way.options) + hurried_by(way.answers))
    client = connect(sendooway, ME)
    code, text = client.mail("alice@moon.test")
    assert (code, text[:5].decode()) == (way.code, way.enhanced)
    told = text.decode()
    for word in (way.stage, "localhost", LOGIN, way.words):
        assert word in told
    line = sendooway.wait_for_log("smarthost", way.stage)
    assert "localhost" in line
    assert PASSWORD not in sendooway.log + told
    assert not smarthost.mails
    # The client is told once, and may go on: here, to say goodbye.
    assert client.docmd("RCPT", "TO:<bob@mars.test>")[0] == 503
    assert client.docmd("QUIT")[0] == 221


@pytest.mark.parametrize("way", [way for way in WAYS if way.stage in ("STARTTLS", "TLS")], ids=lambda way: way.name)
def test_no_login_is_tried_where_tls_has_failed(
    way: Way, start: Start, connect: Connect, smarthosts: Smarthosts
) -> None:
    smarthost = smarthosts.start(way.answers, certificate=way.certificate, capabilities=way.capabilities)
    connect(start(configuration(smarthost.port) + hurried_by(way.answers)), ME).mail("alice@moon.test")
    assert not [line for line in smarthost.commands if line.upper().startswith((b"AUTH", b"MAIL"))]


def test_a_smarthost_that_refuses_connections_is_told(start: Start, connect: Connect) -> None:
    sendooway = start(configuration(free_port()))
    code, text = connect(sendooway, ME).mail("alice@moon.test")
    assert (code, text[:5]) == (451, b"4.4.1")
    for word in (b"localhost", b"connect", LOGIN.encode(), b"refused"):
        assert word in text
    assert "localhost" in sendooway.wait_for_log("smarthost", "connect")


def test_a_smarthost_that_is_this_server_itself_is_told_before_it_serves_nobody_else(
    start: Start, connect: Connect
) -> None:
    port = free_port()
    sendooway = start(configuration(port, "noAuth"), port=port)
    code, text = connect(sendooway, ME).mail("alice@moon.test")
    assert (code, text[:5]) == (451, b"4.4.1")
    assert b"this server itself" in text


def test_a_host_without_an_address_is_told(start: Start, connect: Connect) -> None:
    sendooway = start("authBackend = none\nsmarthostMapping = direct:* nowhere.invalid 587 someone something tls")
    code, text = connect(sendooway, ME).mail("alice@moon.test")
    assert (code, text[:5]) == (451, b"4.4.1")
    assert b"nowhere.invalid" in text


def test_implicit_tls_verifies_the_certificate_too(start: Start, connect: Connect, smarthosts: Smarthosts) -> None:
    smarthost = smarthosts.start(certificate="wrong_name", implicit=True)
    code, text = connect(start(configuration(smarthost.port, "ssl")), ME).mail("alice@moon.test")
    assert (code, text[:5]) == (454, b"4.7.0")
    assert smarthost.commands == []


@pytest.mark.parametrize("certificate", ["expired", "foreign", "self_signed", "wrong_name"])
def test_nocertcheck_goes_on_and_logs_what_is_wrong(
    certificate: str, start: Start, connect: Connect, smarthosts: Smarthosts
) -> None:
    smarthost = smarthosts.start(certificate=certificate)
    sendooway = start(configuration(smarthost.port, "tls,noCertCheck"))
    connect(sendooway, ME).sendmail("alice@moon.test", ["bob@mars.test"], CONTENT)
    assert [mail.complete for mail in smarthost.mails] == [True]
    assert "localhost" in sendooway.wait_for_log("certificate")


def msmtprc(folder: Path, port: int, command: str) -> str:
    """The configuration with an account of msmtp for which this says what its smarthost has to prove."""
    file = folder / "msmtprc"
    file.touch(mode=0o600)
    file.write_text(
        f"account a\nhost localhost\nport {port}\nfrom *\nauth on\nuser {LOGIN}\npassword {PASSWORD}\ntls on\n"
        f"{command}\ndomain me.test\n"
    )
    return f"authBackend = none\nsmarthostMapping = msmtp:{file}"


def tls_fingerprint(certificate: Certificate) -> str:
    pem = certificate.certificate.read_text().partition("-----END")[0] + "-----END CERTIFICATE-----\n"
    fingerprint = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
    return f"tls_fingerprint {':'.join(fingerprint[place : place + 2] for place in range(0, 64, 2))}"


def tls_trust_file(certificate: Certificate) -> str:
    return f"tls_trust_file {certificate.certificate}"


@pytest.mark.parametrize("command", [tls_fingerprint, tls_trust_file])
def test_a_smarthost_may_be_known_by_its_own_certificate(
    start: Start,
    connect: Connect,
    smarthosts: Smarthosts,
    certificates: Certificates,
    tmp_path: Path,
    command: Callable[[Certificate], str],
) -> None:
    smarthost = smarthosts.start(certificate="self_signed")
    sendooway = start(msmtprc(tmp_path, smarthost.port, command(certificates.self_signed)))
    connect(sendooway, ME).sendmail("alice@moon.test", ["bob@mars.test"], CONTENT)
    assert [mail.complete for mail in smarthost.mails] == [True]
    assert smarthost.commands[0] == b"EHLO me.test"


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (tls_fingerprint, b"not the one that the account's fingerprint is of"),
        (tls_trust_file, b"unable to get local issuer"),
        (lambda certificate: f"tls_trust_file {certificate.key}", b"cannot read trusted certificates"),
    ],
)
def test_what_proves_the_name_of_other_smarthosts_is_no_proof_for_it_then(
    start: Start,
    connect: Connect,
    smarthosts: Smarthosts,
    certificates: Certificates,
    tmp_path: Path,
    command: Callable[[Certificate], str],
    reason: bytes,
) -> None:
    smarthost = smarthosts.start(certificate="good")
    sendooway = start(msmtprc(tmp_path, smarthost.port, command(certificates.self_signed)))
    code, text = connect(sendooway, ME).mail("alice@moon.test")
    assert (code, text[:5]) == (454, b"4.7.0")
    assert reason in text
    assert smarthost.logins == []


def test_after_one_refused_mechanism_the_next_is_tried(start: Start, connect: Connect, smarthosts: Smarthosts) -> None:
    smarthost = smarthosts.start({Stage.AUTH: [b"504 5.5.4 Not that one", b"235 2.7.0 Welcome"]})
    connect(start(configuration(smarthost.port)), ME).sendmail("alice@moon.test", ["bob@mars.test"], CONTENT)
    tried = [line.split()[1] for line in smarthost.commands if line.startswith(b"AUTH")]
    assert tried == [b"PLAIN", b"LOGIN"]


def test_the_smarthosts_refusal_of_the_sender_is_passed_on(
    start: Start, connect: Connect, smarthosts: Smarthosts
) -> None:
    smarthost = smarthosts.start({Stage.MAIL: [b"550 5.1.8 Sender unknown here", b"250 2.1.0 OK"]})
    client = connect(start(configuration(smarthost.port)), ME)
    assert client.mail("alice@moon.test") == (550, b"5.1.8 Sender unknown here")
    assert client.docmd("RCPT", "TO:<bob@mars.test>")[0] == 503
    client.sendmail("alice@moon.test", ["bob@mars.test"], CONTENT)
    assert smarthost.mails[-1].complete


def test_each_recipient_gets_the_smarthosts_own_answer(start: Start, connect: Connect, smarthosts: Smarthosts) -> None:
    answers: list[Answer] = [b"250 2.1.5 OK", b"550 5.1.1 No such user", b"452 4.2.2 Full", b"250 2.1.5 Fine"]
    smarthost = smarthosts.start({Stage.RCPT: answers})
    client = connect(start(configuration(smarthost.port)), ME)
    client.mail("alice@moon.test")
    replies = [client.rcpt(f"{name}@mars.test") for name in "abcd"]
    assert replies == [
        (250, b"2.1.5 OK"),
        (550, b"5.1.1 No such user"),
        (452, b"4.2.2 Full"),
        (250, b"2.1.5 Fine"),
    ]
    assert client.data(CONTENT) == (250, b"2.0.0 Queued as SCRIPTED")
    assert smarthost.mails[-1].recipients == (b"a@mars.test", b"d@mars.test")


def test_data_refused_by_the_smarthost_is_passed_on(start: Start, connect: Connect, smarthosts: Smarthosts) -> None:
    smarthost = smarthosts.start({Stage.DATA: [b"451 4.3.0 Disk full", b"354 Go"]})
    client = connect(start(configuration(smarthost.port)), ME)
    client.mail("alice@moon.test")
    client.rcpt("bob@mars.test")
    assert client.docmd("DATA") == (451, b"4.3.0 Disk full")
    assert client.docmd("RSET")[0] == 250
    client.sendmail("alice@moon.test", ["bob@mars.test"], CONTENT)
    assert smarthost.mails[-1].complete


@pytest.mark.parametrize("verdict", [b"550 5.7.1 Looks like spam", b"452 4.3.1 Too much", b"554 Refused"])
def test_the_verdict_on_the_message_is_passed_on(
    verdict: bytes, start: Start, connect: Connect, smarthosts: Smarthosts
) -> None:
    smarthost = smarthosts.start({Stage.DOT: [verdict]})
    sendooway = start(configuration(smarthost.port))
    client = connect(sendooway, ME)
    with pytest.raises(smtplib.SMTPDataError) as refusal:
        client.sendmail("alice@moon.test", ["bob@mars.test"], CONTENT)
    assert refusal.value.smtp_code == int(verdict[:3])
    assert isinstance(refusal.value.smtp_error, bytes)
    assert refusal.value.smtp_error.endswith(verdict.split(b" ", 1 if verdict.startswith(b"554") else 2)[-1])
    sendooway.wait_for_log("alice@moon.test", verdict[:3].decode())


@pytest.mark.parametrize("fault", [Fault.CLOSE, Fault.RESET])
def test_a_smarthost_that_vanishes_inside_the_message_is_4_4_2(
    fault: Fault, start: Start, connect: Connect, smarthosts: Smarthosts
) -> None:
    smarthost = smarthosts.start({Stage.BODY: [fault]})
    sendooway = start(configuration(smarthost.port))
    with pytest.raises(smtplib.SMTPDataError) as refusal:
        connect(sendooway, ME).sendmail("alice@moon.test", ["bob@mars.test"], CONTENT + b"x" * 5_000_000)
    assert_reply(refusal.value, 451, b"4.4.2")
    assert not any(mail.complete for mail in smarthost.mails)
    assert "localhost" in sendooway.wait_for_log("alice@moon.test", "451")


@pytest.mark.parametrize("fault", [Fault.CLOSE, Fault.RESET, Fault.HANG])
def test_a_smarthost_that_vanishes_after_the_dot_leaves_the_delivery_unknown(
    fault: Fault, start: Start, connect: Connect, smarthosts: Smarthosts
) -> None:
    answers: dict[Stage, list[Answer]] = {Stage.DOT: [fault]}
    smarthost = smarthosts.start(answers)
    sendooway = start(configuration(smarthost.port) + hurried_by(answers))
    with pytest.raises(smtplib.SMTPDataError) as refusal:
        connect(sendooway, ME).sendmail("alice@moon.test", ["bob@mars.test"], CONTENT)
    assert_reply(refusal.value, 451, b"4.4.2")
    assert isinstance(refusal.value.smtp_error, bytes)
    assert b"unknown" in refusal.value.smtp_error
    assert [mail.complete for mail in smarthost.mails] == [True]
    sendooway.wait_for_log("alice@moon.test", "451")


def test_a_smarthost_that_answers_too_much_is_out_of_step(
    start: Start, connect: Connect, smarthosts: Smarthosts
) -> None:
    smarthost = smarthosts.start({Stage.RCPT: [b"250 2.1.5 OK\r\n250 2.1.5 Twice\r\n"]})
    client = connect(start(configuration(smarthost.port)), ME)
    client.mail("alice@moon.test")
    client.rcpt("bob@mars.test")
    code, _ = client.docmd("DATA")
    if code == 354:
        code, _ = client.docmd(CONTENT.decode() + ".")
    assert code == 451
    assert not any(mail.complete for mail in smarthost.mails)


def test_a_client_that_vanishes_inside_the_message_never_completes_it(
    start: Start, connect: Connect, smarthosts: Smarthosts
) -> None:
    smarthost = smarthosts.start()
    sendooway = start(configuration(smarthost.port))
    client = connect(sendooway, ME)
    client.mail("alice@moon.test")
    client.rcpt("bob@mars.test")
    client.docmd("DATA")
    client.send(CONTENT + b"\r\n.")
    client.close()
    assert smarthost.ended.wait(PATIENCE)
    assert [mail.complete for mail in smarthost.mails] == [False]
    sendooway.wait_for_log("disconnect", "user=")


def test_without_pipelining_the_smarthost_hears_one_command_at_a_time(
    start: Start, connect: Connect, smarthosts: Smarthosts
) -> None:
    capabilities = tuple(each for each in CAPABILITIES if each != b"PIPELINING")
    smarthost = smarthosts.start(capabilities=capabilities)
    client = connect(start(configuration(smarthost.port)), ME)
    client.send(b"MAIL FROM:<alice@moon.test>\r\nRCPT TO:<a@mars.test>\r\nRCPT TO:<b@mars.test>\r\nDATA\r\n")
    assert [client.getreply()[0] for _ in range(4)] == [250, 250, 250, 354]
    client.send(CONTENT + b".\r\n")
    assert client.getreply()[0] == 250
    assert smarthost.hurried == []


def assert_reply(error: smtplib.SMTPResponseException, code: int, enhanced: bytes) -> None:
    text = error.smtp_error
    assert isinstance(text, bytes)
    assert (error.smtp_code, text[:5]) == (code, enhanced)
