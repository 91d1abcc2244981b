"""What every deployment finds on its machine, and what its users do with it."""

import contextlib
import shutil
import smtplib
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from servers.certificates import Certificates
from servers.machine import Machine
from servers.processes import accepts, wait_until
from servers.program import ONE_FILE, ROOT
from servers.scripted import ScriptedSmarthost

SMARTHOST = "smtp.example.com"
PASSWORD = "alice's own"  # noqa: S105
FETCHMAILRC = f"""\
poll pop.example.com proto pop3 user "alice" pass "secret" ssl
  #sendooway:server "{SMARTHOST}"
  #sendooway:ssl
  #sendooway:address "alice@example.com"
"""
MESSAGE = b"From: alice@example.com\r\nTo: bob@mars.test\r\nSubject: it works\r\n\r\nHello.\r\n"


def build_package(folder: Path) -> Path:
    """The Debian package, as `make deb` makes it, in `folder`."""
    subprocess.run([sys.executable, ROOT / "build/deb.py", folder], check=True, capture_output=True)
    (package,) = folder.glob("sendooway_*_*.deb")
    return package


def furnish(machine: Machine, certificates: Certificates) -> None:
    """The user alice, a certificate for the host, and an authority that it trusts."""
    machine.run("useradd", "--create-home", "--shell", "/bin/bash", "alice")
    machine.run("chpasswd", text=f"alice:{PASSWORD}\n")
    with machine.path("/etc/hosts").open("a") as hosts:
        hosts.write(f"127.0.0.1 localhost {SMARTHOST}\n")
    _trust(machine, certificates.authority)
    shutil.copy(certificates.good.certificate, machine.path("/etc/ssl/certs/mail.example.org.pem"))
    machine.path("/etc/ssl/private").mkdir(mode=0o700, exist_ok=True)
    shutil.copy(certificates.good.key, machine.path("/etc/ssl/private/mail.example.org.key"))


def _trust(machine: Machine, authority: Path) -> None:
    machine.path("/etc/ssl/certs").mkdir(parents=True, exist_ok=True)
    if machine.path("/usr/sbin/update-ca-certificates").exists():
        shutil.copy(authority, machine.path("/usr/local/share/ca-certificates/test.crt"))
        machine.run("update-ca-certificates")
    else:
        shutil.copy(authority, machine.path("/etc/ssl/certs/ca-certificates.crt"))


def write_as_alice(machine: Machine, name: str, text: str) -> None:
    """A file in alice's home that nobody else may read."""
    script = f"umask 077; cat > /home/alice/{name}"
    machine.run("runuser", "-u", "alice", "--", "sh", "-c", script, text=text)


def copy(machine: Machine, file: Path, target: str, mode: int = 0o644) -> None:
    path = Path(shutil.copy(file, machine.path(target)))
    path.chmod(mode)


def copy_program(machine: Machine) -> None:
    """What there is to do for who has nothing but the one file: a user, and a PAM service."""
    copy(machine, ONE_FILE, "/usr/local/sbin/sendooway", 0o755)
    copy(machine, ROOT / "contrib/pam/sendooway", "/etc/pam.d/sendooway")
    machine.run("useradd", "--system", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin", "sendooway")


@contextlib.contextmanager
def smarthost(machine: Machine, certificates: Certificates) -> Iterator[ScriptedSmarthost]:
    """smtp.example.com, port 465, as the machine sees it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.good.certificate, certificates.good.key)
    with machine.network():
        server = ScriptedSmarthost(tls=context, implicit=True, port=465)
    with server:
        yield server


@contextlib.contextmanager
def connected(machine: Machine, port: int, tls: ssl.SSLContext | None) -> Iterator[smtplib.SMTP]:
    """Waits until somebody accepts connections there. Over TLS by STARTTLS if `tls` is given; EHLO is said."""
    with machine.network():
        wait_until(lambda: accepts(port), f"the machine accepts at port {port}", 60)
        client = smtplib.SMTP("localhost", port, local_hostname="client.test", timeout=60)
    with contextlib.closing(client):
        if tls is not None:
            client.starttls(context=tls)
        client.ehlo()
        yield client


def send(client: smtplib.SMTP, smarthost: ScriptedSmarthost) -> None:
    """Log in as alice and send a mail, which has to arrive."""
    before = len(smarthost.mails)
    client.login("alice", PASSWORD)
    client.sendmail("alice@example.com", ["bob@mars.test"], MESSAGE)
    client.quit()
    (mail,) = smarthost.mails[before:]
    assert mail.login == "alice"
    assert mail.data.endswith(MESSAGE + b".\r\n")
