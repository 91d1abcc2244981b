import re
import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from servers.certificates import Certificate, Certificates
from servers.processes import PATIENCE

from sendooway.net import tls
from sendooway.net.deadline import Deadline
from sendooway.net.stream import RECEIVE_OCTETS, ConnectionLost, PipeTransport, SocketTransport, Stream


@pytest.fixture
def ends() -> Iterator[tuple[Stream, Stream]]:
    """A client's and a server's end of one connection."""
    one, other = socket.socketpair()
    streams = Stream(SocketTransport(one)), Stream(SocketTransport(other))
    yield streams
    for stream in streams:
        stream.close()


def handshake(
    ends: tuple[Stream, Stream],
    server: ssl.SSLContext,
    client: ssl.SSLContext,
    host: str = "localhost",
    certificate_sha256: bytes = b"",
) -> None:
    """Both sides at once; raises what the client's side raises."""

    def accept() -> None:
        try:
            tls.accept(ends[1], server, Deadline(PATIENCE))
        except tls.TlsError:
            ends[1].close()

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        tls.connect(ends[0], client, host, Deadline(PATIENCE), certificate_sha256)
    finally:
        thread.join()


def context_of(certificate: Certificate) -> ssl.SSLContext:
    return tls.server_context(str(certificate.certificate), str(certificate.key))


def test_octets_pass_through_tls(ends: tuple[Stream, Stream], certificates: Certificates) -> None:
    handshake(ends, context_of(certificates.good), tls.client_context(str(certificates.authority)))
    client, server = ends
    client.send(b"hello", Deadline(PATIENCE))
    assert server.receive(Deadline(PATIENCE)) == b"hello"
    assert isinstance(client.transport, tls.TlsTransport)
    assert client.transport.version == "TLSv1.3"
    assert client.transport.cipher


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_keeps_no_octets_that_no_poll_would_tell_of(
    ends: tuple[Stream, Stream], certificates: Certificates, version: ssl.TLSVersion
) -> None:
    context = tls.client_context(str(certificates.authority))
    context.maximum_version = version
    handshake(ends, context_of(certificates.good), context)
    client, server = ends
    said = [bytes([number]) * size for number, size in enumerate((1, 100, 16384, 16383, 16384, 16384, 5))]
    for octets in said:
        client.send(octets, Deadline(PATIENCE))
    heard = b""
    while select.select([server.transport.descriptors()[0]], [], [], 0)[0]:
        heard += server.transport.receive_now() or b""
    assert heard == b"".join(said)


def test_full_records_go_together(ends: tuple[Stream, Stream], certificates: Certificates) -> None:
    handshake(ends, context_of(certificates.good), tls.client_context(str(certificates.authority)))
    client, server = ends
    server.transport.receive_now()
    assert client.transport.send_now(bytes(40000)) == 40000
    assert server.transport.receive_now() == bytes(40000)
    client.send(bytes(80000), Deadline(PATIENCE))
    assert server.transport.receive_now() == bytes(RECEIVE_OCTETS)
    assert server.transport.receive_now() == bytes(80000 - RECEIVE_OCTETS)


def test_what_came_before_a_loss_is_received_before_it_is_told(
    ends: tuple[Stream, Stream], certificates: Certificates
) -> None:
    handshake(ends, context_of(certificates.good), tls.client_context(str(certificates.authority)))
    client, server = ends
    client.send(bytes(2 * 16384), Deadline(PATIENCE))
    assert isinstance(client.transport, tls.TlsTransport)
    client.transport.socket.shutdown(socket.SHUT_RDWR)
    assert server.transport.receive_now() == bytes(2 * 16384)
    for _ in range(2):
        assert_nothing_more(server)


def assert_nothing_more(stream: Stream) -> None:
    """The other side has gone without the end of TLS.

    Python 3.11.2, that of Debian 12, takes it for an orderly end. To the relay both are the end of a client, or of a
    smarthost, in the middle of what it said.
    """
    try:
        assert stream.receive(Deadline(PATIENCE)) == b""
    except ConnectionLost as error:
        assert re.search("without the end of TLS|reset", str(error))  # noqa: PT017


def test_octets_that_are_not_taken_at_once_go_later(ends: tuple[Stream, Stream], certificates: Certificates) -> None:
    handshake(ends, context_of(certificates.good), tls.client_context(str(certificates.authority)))
    client, server = ends
    octets = bytes(range(256)) * 16384
    rest, received = bytearray(octets), bytearray()
    while len(received) < len(octets):
        del rest[: client.transport.send_now(rest) if rest else 0]
        received += server.transport.receive_now() or b""
    assert received == octets


@pytest.mark.parametrize(
    ("choose", "reason"),
    [
        (lambda all_: all_.expired, "expired"),
        (lambda all_: all_.foreign, "unable to get local issuer"),
        (lambda all_: all_.self_signed, "self-signed"),
        (lambda all_: all_.wrong_name, "localhost"),
    ],
)
def test_a_certificate_that_proves_nothing_is_refused_with_the_reason(
    ends: tuple[Stream, Stream],
    certificates: Certificates,
    choose: Callable[[Certificates], Certificate],
    reason: str,
) -> None:
    with pytest.raises(tls.CertificateError, match=reason):
        handshake(ends, context_of(choose(certificates)), tls.client_context(str(certificates.authority)))


def test_an_unverified_context_takes_any_certificate(ends: tuple[Stream, Stream], certificates: Certificates) -> None:
    context = tls.unverified(tls.client_context(str(certificates.authority)))
    handshake(ends, context_of(certificates.self_signed), context)


def sha256_of(certificate: Certificate) -> bytes:
    pem = certificate.certificate.read_text().partition("-----END")[0] + "-----END CERTIFICATE-----\n"
    return sha256(ssl.PEM_cert_to_DER_cert(pem)).digest()


def test_the_certificate_of_a_fingerprint_needs_no_other_proof(
    ends: tuple[Stream, Stream], certificates: Certificates
) -> None:
    shown = certificates.self_signed
    trusted = tls.client_context(str(certificates.authority))
    handshake(ends, context_of(shown), trusted, "another.test", sha256_of(shown))
    ends[0].send(b"hello", Deadline(PATIENCE))
    assert ends[1].receive(Deadline(PATIENCE)) == b"hello"


def test_with_a_fingerprint_no_other_certificate_is_any_proof(
    ends: tuple[Stream, Stream], certificates: Certificates
) -> None:
    trusted = tls.client_context(str(certificates.authority))
    with pytest.raises(tls.CertificateError, match="not the one that the account's fingerprint is of"):
        handshake(ends, context_of(certificates.good), trusted, "localhost", sha256_of(certificates.self_signed))


def test_the_orderly_end_of_tls_is_no_octets(ends: tuple[Stream, Stream], certificates: Certificates) -> None:
    handshake(ends, context_of(certificates.good), tls.client_context(str(certificates.authority)))
    ends[0].close()
    assert ends[1].receive(Deadline(PATIENCE)) == b""


def test_a_truncated_tls_connection_brings_nothing_more(
    ends: tuple[Stream, Stream], certificates: Certificates
) -> None:
    handshake(ends, context_of(certificates.good), tls.client_context(str(certificates.authority)))
    transport = ends[0].transport
    assert isinstance(transport, tls.TlsTransport)
    transport.socket.shutdown(socket.SHUT_RDWR)
    assert_nothing_more(ends[1])


def test_a_peer_that_speaks_no_tls_is_an_error(ends: tuple[Stream, Stream], certificates: Certificates) -> None:
    ends[0].send(b"EHLO client.test\r\n", Deadline(PATIENCE))
    with pytest.raises(tls.TlsError):
        tls.accept(ends[1], context_of(certificates.good), Deadline(PATIENCE))


def test_a_peer_that_says_nothing_ends_the_handshake_at_the_deadline(
    ends: tuple[Stream, Stream], certificates: Certificates
) -> None:
    with pytest.raises(TimeoutError):
        tls.accept(ends[1], context_of(certificates.good), Deadline(0.02))


def test_pipes_cannot_have_tls(certificates: Certificates) -> None:
    with pytest.raises(tls.TlsError, match="socket"):
        tls.accept(Stream(PipeTransport(0, 1)), context_of(certificates.good), Deadline(1))


def test_a_key_that_is_not_there_is_an_error_naming_the_files(tmp_path: Path) -> None:
    with pytest.raises(tls.TlsError, match=r"none\.pem and .*none\.key: .*No such file"):
        tls.server_context(str(tmp_path / "none.pem"), str(tmp_path / "none.key"))


@pytest.mark.parametrize(
    ("certificate", "key", "said"),
    [
        ("none.pem", "", "{0}/none.pem: No such file or directory"),
        ("none.pem", "none.pem", "{0}/none.pem: No such file or directory"),
        ("text.pem", "", "{0}/text.pem: there must be a certificate and its key in PEM"),
        ("text.pem", "text.key", "{0}/text.pem and {0}/text.key: there must be a certificate and its key in PEM"),
        ("good.pem", "other.key", "{0}/good.pem and {0}/other.key: key values mismatch"),
    ],
)
def test_what_is_wrong_with_certificate_and_key_is_said_in_words(
    tmp_path: Path, certificates: Certificates, certificate: str, key: str, said: str
) -> None:
    (tmp_path / "good.pem").write_bytes(certificates.good.certificate.read_bytes())
    (tmp_path / "other.key").write_bytes(certificates.expired.key.read_bytes())
    for name in ("text.pem", "text.key"):
        (tmp_path / name).write_text("a text")
    with pytest.raises(tls.TlsError) as error:
        tls.server_context(str(tmp_path / certificate), key and str(tmp_path / key))
    assert str(error.value) == f"cannot use certificate and key of {said.format(tmp_path)}"


def test_trusted_certificates_come_from_a_file_or_its_contents(certificates: Certificates) -> None:
    octets = certificates.authority.read_bytes()
    assert len(tls.client_context(octets).get_ca_certs()) == 1
    assert len(tls.client_context(str(certificates.authority)).get_ca_certs()) == 1


@pytest.mark.parametrize("content", [b"", b"no certificate", b"\xff\xfe"])
def test_a_file_without_certificates_is_an_error(content: bytes) -> None:
    with pytest.raises(tls.TlsError, match="trusted certificates"):
        tls.client_context(content)


def test_a_missing_file_of_certificates_is_an_error_naming_it(tmp_path: Path) -> None:
    with pytest.raises(tls.TlsError, match=r"of .*none\.pem: .*No such file"):
        tls.client_context(str(tmp_path / "none.pem"))


def test_without_a_file_the_systems_store_or_certifis_is_trusted() -> None:
    context = tls.client_context("")
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert not context.hostname_checks_common_name


def test_of_a_file_of_certificates_what_is_none_is_passed_over(certificates: Certificates) -> None:
    octets = certificates.authority.read_bytes()
    key = b"-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n"
    context = tls.client_context(b"M\xc3\xbcnd\r\n" + key + octets.replace(b"\n", b"\r\n") + b"# more\n" + octets)
    assert len(context.get_ca_certs()) == 1


def test_a_file_of_trusted_certificates_has_so_many_at_most(certificates: Certificates) -> None:
    octets = certificates.authority.read_bytes()
    assert tls.client_context(octets * tls.MAX_CERTIFICATES).get_ca_certs()
    with pytest.raises(tls.TlsError, match=f"more than {tls.MAX_CERTIFICATES} in it"):
        tls.client_context(octets * (tls.MAX_CERTIFICATES + 1))


def test_others_get_a_turn_after_each_certificate_that_is_read(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", lambda _, cadata: read.append(cadata.count("BEGIN")))
    tls.client_context(certificates.authority.read_bytes() * 3)
    assert read == [1, 1, 1]
