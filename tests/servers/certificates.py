"""A certificate authority for one test run: every good and bad certificate a smarthost can show."""

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = timedelta(days=1)
# The last one is the smarthost of the examples in the README.
HERE = ("localhost", "127.0.0.1", "::1", "smtp.example.com")


@dataclass(frozen=True)
class Certificate:
    """PEM files of one server: its certificate and its private key."""

    certificate: Path
    key: Path


@dataclass(frozen=True)
class Certificates:
    """`authority` is the file of the authority that clients trust; the rest are servers. `moon` is of all names in and
    below moon.test, `wrong_name` of elsewhere.test, the others of this machine."""

    authority: Path
    good: Certificate
    expired: Certificate
    foreign: Certificate
    self_signed: Certificate
    wrong_name: Certificate
    moon: Certificate


def make_certificates(folder: Path) -> Certificates:
    """Make them all in `folder`. Keys are readable by their owner only."""
    authority, stranger = _Issuer("Test authority"), _Issuer("Stranger")
    authority_file = folder / "authority.pem"
    authority_file.write_bytes(authority.certificate.public_bytes(serialization.Encoding.PEM))

    def issue(name: str, issuer: _Issuer | None, hosts: tuple[str, ...] = HERE, end: timedelta = DAY) -> Certificate:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _certify(name, key, issuer, hosts, end)
        files = Certificate(folder / f"{name}.pem", folder / f"{name}.key")
        files.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        files.key.touch(mode=0o600)
        files.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return files

    return Certificates(
        authority=authority_file,
        good=issue("good", authority),
        expired=issue("expired", authority, end=-DAY),
        foreign=issue("foreign", stranger),
        self_signed=issue("self-signed", None),
        wrong_name=issue("wrong-name", authority, hosts=("elsewhere.test",)),
        moon=issue("moon", authority, hosts=("moon.test", "*.moon.test")),
    )


class _Issuer:
    def __init__(self, name: str) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = _certify(name, self.key, None, (), 2 * DAY, authority=True)


def _certify(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: _Issuer | None,
    hosts: tuple[str, ...],
    end: timedelta,
    *,
    authority: bool = False,
) -> x509.Certificate:
    now = datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signing_key = issuer.key if issuer else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 3 * DAY)
        .not_valid_after(now + end)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key()), critical=False)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                key_cert_sign=authority,
                crl_sign=authority,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
    )
    if hosts:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False
        ).add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    return builder.sign(signing_key, hashes.SHA256())


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
