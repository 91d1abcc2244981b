"""Sendooway between real clients and real smarthosts."""

import smtplib
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from servers import deployment
from servers.certificates import Certificates
from servers.postfix import Postfix
from servers.processes import PATIENCE
from servers.program import Connect, Sendooway, Start
from servers.users import User


@pytest.fixture
def start(tmp_path: Path, certificates: Certificates) -> Iterator[Start]:
    """Start Sendooway with more lines of configuration than those that every test needs, and with options.

    It ends with the test, which fails if Sendooway then leaves a process or has logged a crash.
    """
    with ExitStack() as stack:

        def run(configuration: str = "", *options: str, **streams: object) -> Sendooway:
            text = f"{basic_configuration(certificates)}{configuration}\n"
            return stack.enter_context(Sendooway(tmp_path, text, *options, **streams))  # type: ignore[arg-type]

        yield run


def basic_configuration(certificates: Certificates) -> str:
    return (
        "localname = proxy.test\n"
        f"sslCA = {certificates.authority}\n"
        f"sslCert = {certificates.good.certificate}\n"
        f"sslKey = {certificates.good.key}\n"
    )


def is_served(sendooway: Sendooway, connect: Connect, user: tuple[str, str]) -> bool:
    """Whether one more client can log in now."""
    try:
        connect(sendooway, user).quit()
    except (OSError, smtplib.SMTPException):
        return False
    return True


@pytest.fixture
def alice_with_two_identities(alice: User, postfix: Postfix) -> User:
    """alice@moon.test in a .fetchmailrc (STARTTLS), alice@sun.test in a getmailrc (implicit TLS)."""
    alice.write(
        ".fetchmailrc",
        f"""\
poll mailbox.moon.test proto pop3 user "alice" pass "of the mailbox only"
  #sendooway:server "localhost"
  #sendooway:port {postfix.port}
  #sendooway:user "alice-moon"
  #sendooway:pass "moon secret"
  #sendooway:tls
  #sendooway:address "alice@moon.test"
""",
    )
    alice.write(
        ".getmail/getmailrc",
        f"""\
[retriever]
type = SimplePOP3SSLRetriever
server = mailbox.sun.test
username = alice
password = of the mailbox only

[destination]
type = Maildir
path = ~/Mail/

[sender]
type = SimpleSMTPSSLSender
server = localhost
port = {postfix.smtps_port}
username = alice-sun
password = sun-s3cret:+
address = alice@sun.test, office@sun.test
""",
    )
    return alice


@pytest.fixture
def connect(tls: ssl.SSLContext) -> Iterator[Connect]:
    """smtplib connected to Sendooway, over TLS by STARTTLS; logged in where a user (or name and password) is given."""
    with ExitStack() as stack:

        def run(
            sendooway: Sendooway, user: User | tuple[str, str] | None = None, *, secure: bool = True
        ) -> smtplib.SMTP:
            client = smtplib.SMTP("localhost", sendooway.port, local_hostname="client.test", timeout=PATIENCE)
            stack.callback(client.close)
            if secure:
                client.starttls(context=tls)
            client.ehlo()
            if user is not None:
                name, password = (user.name, user.password) if isinstance(user, User) else user
                client.login(name, password)
            return client

        yield run


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Debian package."""
    return deployment.build_package(tmp_path_factory.mktemp("package"))
