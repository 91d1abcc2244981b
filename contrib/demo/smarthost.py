"""A small smarthost on loopback for the demonstration: aiosmtpd with TLS, one login, and a memory."""

import datetime
import ipaddress
import logging
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

# aiosmtpd warns at each login of a deprecated attribute that it sets itself.
logging.getLogger("mail.log").setLevel(logging.ERROR)


@dataclass(frozen=True)
class Taken:
    """A mail that a smarthost has accepted."""

    login: str
    sender: str
    content: bytes


class Smarthost:
    """Wants TLS (at once with `implicit`, else by STARTTLS) and this login; `mails` is what it has accepted."""

    def __init__(self, name: str, login: str, password: str, certificate: Path, *, implicit: bool) -> None:
        self.name, self.login, self.implicit = name, login, implicit
        self.port = free_port()
        self.mails: list[Taken] = []
        self._password = password
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
        options: dict[str, Any] = (
            # aiosmtpd does not see that the connection it stands on is safe.
            {"ssl_context": context, "auth_require_tls": False}
            if implicit
            else {"tls_context": context, "require_starttls": True}
        )
        self._controller = Controller(
            self,
            hostname="127.0.0.1",
            port=self.port,
            server_hostname=name,
            authenticator=self._authenticate,
            **options,
        )

    def start(self) -> None:
        self._controller.start()

    def stop(self) -> None:
        self._controller.stop()

    def _authenticate(
        self, server: object, session: Session, envelope: Envelope, mechanism: str, credentials: LoginPassword
    ) -> AuthResult:
        expected = LoginPassword(self.login.encode(), self._password.encode())
        return AuthResult(success=credentials == expected, auth_data=credentials)

    async def handle_MAIL(
        self, server: object, session: Session, envelope: Envelope, address: str, parameters: list[str]
    ) -> str:
        if not session.authenticated:
            return "530 5.7.0 Log in first"
        envelope.mail_from = address
        return "250 2.1.0 OK"

    async def handle_DATA(self, server: object, session: Session, envelope: Envelope) -> str:
        assert isinstance(session.auth_data, LoginPassword)
        assert isinstance(envelope.content, bytes)
        self.mails.append(Taken(session.auth_data.login.decode(), envelope.mail_from or "", envelope.content))
        return f"250 2.0.0 {self.name} has taken mail number {len(self.mails)}"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def make_certificate(file: Path) -> None:
    """Write a certificate for localhost that signs itself, valid for an hour, and its private key (PEM)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Sendooway's demonstration")])
    now = datetime.datetime.now(datetime.UTC)
    hosts = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    file.touch(mode=0o600)
    file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
