"""Logins at LDAP servers: a real slapd, and servers that do what slapd does not."""

import contextlib
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import slapd as slapd_
from servers.certificates import Certificates
from servers.processes import wait_until
from servers.slapd import ALICE, UNREADABLE, Person, Slapd

from sendooway.config import ldap_uri
from sendooway.config.ldap_uri import Server
from sendooway.ldap.client import BindRefused, LdapError, read_own_entry
from sendooway.net import tls
from sendooway.net.deadline import Deadline
from sendooway.secret import Secret

SECONDS = 30.0


@pytest.fixture
def context(certificates: Certificates) -> ssl.SSLContext:
    return tls.client_context(str(certificates.authority))


def read(
    address: str, context: ssl.SSLContext, person: Person = ALICE, password: str = "", seconds: float = SECONDS
) -> dict[str, tuple[bytes, ...]]:
    dn = f"uid={person.name},{person.folder}"
    secret = Secret((password or person.password).encode())
    return read_own_entry(ldap_uri.parse(address), dn, secret, ("uid", "uidNumber"), context, Deadline(seconds))


@pytest.fixture
def far_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """No server counts as one on this machine."""
    monkeypatch.setattr(Server, "is_here", False)


def start(folder: Path, certificate: object) -> Slapd:
    if reason := slapd_.why_not():
        pytest.skip(reason)
    return Slapd(folder, [ALICE], certificate)  # type: ignore[arg-type]


ENTRY = {"uid": (b"alice",), "uidnumber": (b"50001",)}


@pytest.mark.slow
def test_it_binds_as_the_user_and_reads_what_was_asked_for(slapd: Slapd, context: ssl.SSLContext) -> None:
    assert read(slapd.uri, context) == ENTRY
    assert read(slapd.tls_uri, context) == ENTRY


@pytest.mark.slow
@pytest.mark.usefixtures("far_away")
def test_a_server_on_the_network_is_asked_for_tls_before_it_hears_anything(
    slapd: Slapd, context: ssl.SSLContext
) -> None:
    before = len(slapd.log)
    assert read(slapd.uri, context) == ENTRY
    steps = ("STARTTLS", "TLS established", "BIND dn=", "SRCH base=", "UNBIND")
    wait_until(lambda: all(step in slapd.log[before:] for step in steps), "the log of all steps")
    places = [slapd.log[before:].index(step) for step in steps]
    assert places == sorted(places)


@pytest.mark.slow
def test_a_wrong_password_and_an_unknown_user_are_the_same(slapd: Slapd, context: ssl.SSLContext) -> None:
    refusals = []
    for person, password in ((ALICE, "wrong"), (Person("nobody-here", "x"), "wrong"), (UNREADABLE, "alice-secret")):
        with pytest.raises(BindRefused) as raised:
            read(slapd.tls_uri, context, person, password)
        refusals.append((raised.value.code, str(raised.value)))
    assert refusals == [(49, "code 49")] * 3


@pytest.mark.slow
def test_who_may_not_read_the_own_entry_is_not_told_to_be_refused(slapd: Slapd, context: ssl.SSLContext) -> None:
    with pytest.raises(LdapError, match="may not read the own entry"):
        read(slapd.tls_uri, context, UNREADABLE)


def assert_no_bind(slapd: Slapd, before: int) -> None:
    """In the log since then, in which the connection has come to its end."""
    wait_until(lambda: re.search("ACCEPT.*closed", slapd.log[before:], re.DOTALL), "the end of the connection")
    assert " BIND " not in slapd.log[before:]


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["ldap", "ldaps"])
@pytest.mark.usefixtures("far_away")
def test_a_certificate_that_proves_nothing_hears_no_password(
    slapd: Slapd, certificates: Certificates, tmp_path: Path, scheme: str
) -> None:
    strangers = tls.client_context(str(certificates.self_signed.certificate))
    before = len(slapd.log)
    with pytest.raises(LdapError, match="unable to get local issuer certificate"):
        read(slapd.uri if scheme == "ldap" else slapd.tls_uri, strangers)
    assert_no_bind(slapd, before)


@pytest.mark.slow
def test_the_certificate_has_to_be_that_of_the_host(
    certificates: Certificates, context: ssl.SSLContext, tmp_path: Path
) -> None:
    with (
        start(tmp_path, certificates.wrong_name) as slapd,
        pytest.raises(LdapError, match=r"not valid for '127\.0\.0\.1'"),
    ):
        read(slapd.tls_uri, context)


@pytest.mark.slow
@pytest.mark.usefixtures("far_away")
def test_a_server_without_tls_hears_no_password(context: ssl.SSLContext, tmp_path: Path) -> None:
    with start(tmp_path, None) as slapd:
        with pytest.raises(LdapError, match="it refused StartTLS: unsupported extended operation"):
            read(slapd.uri, context)
        wait_until(lambda: re.search(r"EXT oid=1\.3\.6\.1\.4\.1\.1466\.20037.*closed", slapd.log, re.DOTALL), "its end")
        assert " BIND " not in slapd.log


# Servers that say what they are told to.

STARTED = b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00"
BOUND = b"\x30\x0c\x02\x01\x02\x61\x07\x0a\x01\x00\x04\x00\x04\x00"
FOUND = b"\x30\x16\x02\x01\x03\x64\x11\x04\x00\x30\x0d\x30\x0b\x04\x03uid\x31\x04\x04\x02al"
DONE = b"\x30\x0c\x02\x01\x03\x65\x07\x0a\x01\x00\x04\x00\x04\x00"
REFERENCE = b"\x30\x0d\x02\x01\x03\x73\x08\x04\x06ldap:/"


def bind_result(code: int, text: bytes = b"") -> bytes:
    result = bytes((0x0A, 1, code, 4, 0, 4, len(text))) + text
    return bytes((0x30, len(result) + 5, 2, 1, 2, 0x61, len(result))) + result


@contextlib.contextmanager
def answering(*answers: bytes | None) -> Iterator[tuple[str, bytearray]]:
    """Its URI, and what it has heard. Each time that it hears something it says the next answer; None: it is silent.

    After the last answer it closes the connection.
    """
    heard = bytearray()
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(SECONDS)
                for answer in answers:
                    if not (octets := connection.recv(65536)):
                        return
                    heard.extend(octets)
                    if answer is None:
                        connection.recv(1)
                        return
                    connection.sendall(answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"ldap://127.0.0.1:{listener.getsockname()[1]}", heard
    finally:
        # Wakes it up where nobody came.
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(SECONDS)
        assert not thread.is_alive()


@pytest.fixture
def plain() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def test_references_are_not_followed_and_change_nothing(plain: ssl.SSLContext) -> None:
    with answering(BOUND, REFERENCE + FOUND + REFERENCE + DONE) as (address, heard):
        assert read(address, plain) == {"uid": (b"al",)}
    assert b"uid=alice," in heard


@pytest.mark.parametrize("code", [19, 32, 48, 49, 53])
def test_these_codes_are_about_the_user(plain: ssl.SSLContext, code: int) -> None:
    with answering(bind_result(code, b"too many tries")) as (address, _), pytest.raises(BindRefused) as raised:
        read(address, plain)
    assert (raised.value.code, str(raised.value)) == (code, f"too many tries (code {code})")


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ((b"",), "it closed the connection"),
        ((bind_result(10),), "it refers to another server"),
        ((bind_result(34, b"invalid DN"),), "it refused the bind: invalid DN \\(code 34\\)"),
        ((bind_result(51),), "it refused the bind: code 51"),
        ((bind_result(52, b"\xff\n" + b"x" * 80),), "it refused the bind: \ufffd\nx"),
        ((b"\x30\x10\x02\x01\x00\x78\x0b\x0a\x01\x34\x04\x00\x04\x04bye.",), "it ends the connection: bye. \\(code 52"),
        ((b"220 smtp.moon.test ESMTP\r\n",), "it does not speak LDAP"),
        ((b"\x30\x84\x7f\xff\xff\xff",), "too long"),
        # Out of step: the answer to nothing, an entry instead of a result, a result of something else.
        ((DONE,), "none to what we have asked"),
        ((FOUND.replace(b"\x02\x01\x03", b"\x02\x01\x02"),), "none to what we have asked"),
        ((BOUND, BOUND), "none to what we have asked"),
        ((BOUND, b""), "it closed the connection"),
        ((BOUND, DONE), "may not read the own entry"),
        ((BOUND, FOUND + FOUND + DONE), "more than the one entry"),
    ],
)
def test_a_server_that_does_as_none_should_is_an_error_and_no_answer(
    plain: ssl.SSLContext, answers: tuple[bytes, ...], reason: str
) -> None:
    with answering(*answers) as (address, _), pytest.raises(LdapError, match=reason):
        read(address, plain)


@pytest.mark.parametrize("answers", [(None,), (BOUND, None), (BOUND[:5], None), (BOUND, REFERENCE, None)])
def test_a_server_that_says_nothing_has_its_time(plain: ssl.SSLContext, answers: tuple[bytes | None, ...]) -> None:
    with answering(*answers) as (address, _), pytest.raises(LdapError, match=r"no answer within 0\.2 seconds"):
        read(address, plain, seconds=0.2)


def test_a_server_that_is_not_there_is_an_error(plain: ssl.SSLContext) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(LdapError, match="Connection refused"):
        read(f"ldap://127.0.0.1:{port}", plain)


@pytest.mark.usefixtures("far_away")
@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        # It says yes in advance to what we have not asked yet (CVE-2021-22947 was of this kind).
        (STARTED + BOUND, "it went on in clear after StartTLS"),
        (STARTED.replace(b"\x0a\x01\x00", b"\x0a\x01\x02"), "it refused StartTLS: code 2"),
        (STARTED, "closed|ended|reset|eof"),
    ],
)
def test_without_tls_nothing_is_said(plain: ssl.SSLContext, answer: bytes, reason: str) -> None:
    with answering(answer) as (address, heard), pytest.raises(LdapError, match=reason):
        read(address, plain)
    assert b"alice" not in heard
