"""Shows the main job: log in once, send as two identities, and each mail takes the way of its own.

Everything runs on loopback, as the user who starts it, in a temporary folder: two smarthosts, Sendooway before them,
and a mail client. Ends 0 if each mail went through the smarthost of its sender with the login of that account.
"""

import os
import pwd
import smtplib
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from smarthost import Smarthost, free_port, make_certificate

ROOT = Path(__file__).resolve().parents[2]
MOON, SUN = "alice@moon.test", "alice@sun.test"

# What a user has already for fetching mail, with what Sendooway needs beside it in comments.
FETCHMAILRC = """\
poll mailbox.moon.test proto pop3 user "alice" pass "opens the mailbox only"
  #sendooway:server "localhost"
  #sendooway:port {port}
  #sendooway:tls
  #sendooway:user "alice-at-moon"
  #sendooway:pass "moonshine"
  #sendooway:address "{address}"
"""

# The same for getmail, in a section of its own.
GETMAILRC = """\
[retriever]
type = SimplePOP3SSLRetriever
server = mailbox.sun.test
username = alice
password = opens the mailbox only

[destination]
type = Maildir
path = ~/Mail/

[sender]
type = SimpleSMTPSSLSender
server = localhost
port = {port}
username = alice-at-sun
password = sunshine
address = {address}
"""

SENDOOWAY_CONF = """\
listen = 127.0.0.1:{port}
# Only the user who runs Sendooway may log in; the password is not checked.
authBackend = none
sslCert = {certificate}
sslKey = {certificate}
# The smarthosts show the same certificate, which nobody but itself has signed.
sslCA = {certificate}
smarthostMapping = fetchmail:{folder}/.fetchmailrc
smarthostMapping = getmail:{folder}/getmailrc
"""


@dataclass(frozen=True)
class Sent:
    """A mail that the client was told is accepted, and the smarthost that it should have gone through."""

    sender: str
    way: Smarthost
    content: bytes
    reply: str


def main(moon_address: str = MOON, sun_address: str = SUN) -> int:
    """The addresses are those that the accounts' files name: change them, and the mails go astray."""
    with tempfile.TemporaryDirectory(prefix="sendooway-demo-") as name:
        folder = Path(name)
        certificate = folder / "certificate.pem"
        make_certificate(certificate)
        moon = Smarthost("smtp.moon.test", "alice-at-moon", "moonshine", certificate, implicit=False)
        sun = Smarthost("smtp.sun.test", "alice-at-sun", "sunshine", certificate, implicit=True)
        write(folder / ".fetchmailrc", FETCHMAILRC.format(port=moon.port, address=moon_address))
        write(folder / "getmailrc", GETMAILRC.format(port=sun.port, address=sun_address))
        port = free_port()
        write(folder / "conf", SENDOOWAY_CONF.format(port=port, certificate=certificate, folder=folder))
        with running(moon), running(sun), sendooway(folder, port):
            print(f"Sendooway listens on localhost:{port} and finds its accounts in")
            print(f"  .fetchmailrc: {moon_address} through {describe(moon)}")
            print(f"  getmailrc:    {sun_address} through {describe(sun)}")
            sent = send(port, certificate, {MOON: moon, SUN: sun})
        complaints = [complaint for mail in sent for complaint in check(mail, (moon, sun))]
    print("\n".join(complaints) if complaints else "Each mail took the way of its sender.")
    return 1 if complaints else 0


def write(file: Path, text: str) -> None:
    file.touch(mode=0o600)
    file.write_text(text)


def describe(smarthost: Smarthost) -> str:
    security = "TLS at once" if smarthost.implicit else "STARTTLS"
    return f"{smarthost.name} (here localhost:{smarthost.port}, {security}), login {smarthost.login}"


@contextmanager
def running(smarthost: Smarthost) -> Iterator[None]:
    smarthost.start()
    try:
        yield
    finally:
        smarthost.stop()


@contextmanager
def sendooway(folder: Path, port: int) -> Iterator[None]:
    """Sendooway as a user would start it."""
    log = folder / "log"
    process = subprocess.Popen([sys.executable, "-m", "sendooway", "-c", folder / "conf", "-l", log], cwd=ROOT)
    try:
        wait_until_it_listens(process, port)
        yield
    except Exception:
        print(f"The log of Sendooway:\n{log.read_text()}" if log.exists() else "Sendooway has no log.")
        raise
    finally:
        process.terminate()
        process.wait()


def wait_until_it_listens(process: "subprocess.Popen[bytes]", port: int) -> None:
    deadline = time.monotonic() + 20
    while process.poll() is None and time.monotonic() < deadline:
        try:
            smtplib.SMTP("localhost", port, timeout=5).quit()
            return
        except OSError:
            time.sleep(0.02)
    raise RuntimeError("Sendooway does not answer")


def send(port: int, certificate: Path, ways: dict[str, Smarthost]) -> list[Sent]:
    """Log in once, and send one mail as each identity in this one session."""
    user = pwd.getpwuid(os.getuid()).pw_name
    sent = []
    with smtplib.SMTP("localhost", port, timeout=30) as client:
        client.starttls(context=ssl.create_default_context(cafile=certificate))
        client.login(user, "any password")
        print(f"A mail client logs in over TLS, once, as {user}, and sends")
        for sender, way in ways.items():
            content = f"From: <{sender}>\r\nTo: <bob@mars.test>\r\nSubject: Hello\r\n\r\n.\r\nHi Bob!\r\n".encode()
            code, text = client.mail(sender)
            if code == 250:
                code, text = client.rcpt("bob@mars.test")
            if code == 250:
                code, text = client.data(content)
            sent.append(Sent(sender, way, content, f"{code} {text.decode()}"))
    return sent


def check(mail: Sent, smarthosts: tuple[Smarthost, ...]) -> list[str]:
    """Tell which way the mail went; complaints, if that was wrong."""
    ways = [(smarthost, taken) for smarthost in smarthosts for taken in smarthost.mails if taken.sender == mail.sender]
    for smarthost, taken in ways:
        print(f"  as {taken.sender}: left through {smarthost.name}, logged in as {taken.login},")
        print(f"    which answered: {mail.reply}")
    if len(ways) != 1:
        return [f"WRONG: the mail as {mail.sender} arrived {len(ways)} times; the client read {mail.reply!r}"]
    ((smarthost, taken),) = ways
    complaints = []
    if smarthost is not mail.way or taken.login != mail.way.login:
        complaints.append(f"WRONG: the mail as {mail.sender} should have left through {mail.way.name}")
    if not taken.content.startswith(b"Received: ") or not taken.content.endswith(mail.content):
        complaints.append(f"WRONG: the mail as {mail.sender} was changed on its way")
    if smarthost.name not in mail.reply:
        complaints.append(f"WRONG: the client read {mail.reply!r}, which {smarthost.name} has not said")
    return complaints


if __name__ == "__main__":
    sys.exit(main())
