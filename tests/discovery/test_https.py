"""Documents over HTTPS, from servers that do not mean well."""

import socket
import ssl
import time
from collections.abc import Mapping

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from servers.certificates import Certificate, Certificates
from servers.web import Handler, Page, WebServer

from sendooway.discovery.https import Redirection, fetch, read_response
from sendooway.discovery.search import Absent, Unreachable
from sendooway.net import tls
from sendooway.net.deadline import Deadline
from sendooway.net.dial import Address

URL = "https://moon.test/mail.xml"
LIMIT = 64 * 1024


@pytest.fixture
def context(certificates: Certificates) -> ssl.SSLContext:
    return tls.client_context(str(certificates.authority))


def get(
    context: ssl.SSLContext, certificate: Certificate, pages: Mapping[str, Page], url: str = URL, seconds: float = 30
) -> tuple[bytes | Absent | Unreachable, list[str]]:
    """What comes of it, and what the server was asked."""
    with WebServer(certificate, pages) as server:

        def resolve(host: str, port: int, deadline: Deadline) -> list[Address]:
            assert port == 443
            return [(socket.AF_INET, ("127.0.0.1", server.port))]

        answer = fetch(url, "moon.test", LIMIT, Deadline(seconds), context, resolve)
        return answer, server.asked


def test_a_document_is_fetched_as_it_is(context: ssl.SSLContext, certificates: Certificates) -> None:
    document = b"<a>\r\n\xfc</a>"
    answer, asked = get(context, certificates.moon, {"moon.test/mail.xml": document}, f"{URL}?a=b")
    assert (answer, asked) == (document, ["moon.test/mail.xml?a=b"])


def test_a_missing_document_is_absent(context: ssl.SSLContext, certificates: Certificates) -> None:
    assert get(context, certificates.moon, {})[0] == Absent("answers 404")


def test_redirections_within_the_domain_are_followed(context: ssl.SSLContext, certificates: Certificates) -> None:
    pages: dict[str, Page] = {
        "moon.test/mail.xml": "https://www.moon.test/a",
        "www.moon.test/a": "/b",
        "www.moon.test/b": b"here",
    }
    assert get(context, certificates.moon, pages)[0] == b"here"


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("https://sun.test/", "redirects out of moon.test"),
        ("https://moon.test.sun.test/", "redirects out of moon.test"),
        ("https://notmoon.test/", "redirects out of moon.test"),
        ("https://moon.test@sun.test/", "redirects away from https"),
        ("http://moon.test/", "redirects away from https"),
        ("https://moon.test:8443/", "redirects away from https"),
        ("file:///etc/passwd", "redirects away from https"),
        ("https://moon.test/a b", "redirects to what is no URL"),
        ("https://moon.test:x/", "is no HTTP: ValueError"),
        ("https://[moon.test/", "is no HTTP: ValueError"),
        ("/mail.xml", "redirects more than 3 times"),
    ],
)
def test_other_redirections_are_not(
    context: ssl.SSLContext, certificates: Certificates, target: str, reason: str
) -> None:
    answer, asked = get(context, certificates.moon, {"moon.test/mail.xml": target})
    assert answer == Absent(reason)
    assert len(asked) <= 4


def test_a_document_of_a_gigabyte_is_left_unread(context: ssl.SSLContext, certificates: Certificates) -> None:
    sent = []

    def pour(handler: Handler) -> None:
        handler.begin()
        for _ in range(1024):
            handler.wfile.write(b" " * 1024 * 1024)
            sent.append(1)

    answer, _ = get(context, certificates.moon, {"moon.test/mail.xml": pour})
    assert answer == Absent("is longer than 65536 octets")
    assert len(sent) < 64


def test_a_document_that_says_it_is_long_is_believed(context: ssl.SSLContext, certificates: Certificates) -> None:
    def say(handler: Handler) -> None:
        handler.wfile.write(b"HTTP/1.0 200 OK\r\nContent-Length: 1073741824\r\n\r\n<a/>")

    answer, _ = get(context, certificates.moon, {"moon.test/mail.xml": say})
    assert answer == Absent("is longer than 65536 octets")


def test_an_endless_header_is_left_unread(context: ssl.SSLContext, certificates: Certificates) -> None:
    def pour(handler: Handler) -> None:
        handler.wfile.write(b"HTTP/1.0 200 OK\r\n")
        while True:
            handler.wfile.write(b"X: y\r\n" * 10000)

    assert get(context, certificates.moon, {"moon.test/mail.xml": pour})[0] == Absent("is no HTTP: HTTPException")


def test_a_server_that_drips_has_only_its_time(context: ssl.SSLContext, certificates: Certificates) -> None:
    def drip(handler: Handler) -> None:
        handler.begin()
        while True:
            handler.wfile.write(b" ")
            time.sleep(0.01)  # what is tested is that this may go on for ever

    answer, _ = get(context, certificates.moon, {"moon.test/mail.xml": drip}, seconds=0.7)
    assert answer == Unreachable("no answer within 0.7 seconds")


@pytest.mark.parametrize("octets", [b"", b"garbage", b"HTTP/1.0 abc\r\n\r\n", b"HTTP/1.0 200 OK\r\n\0", b"\0" * 99])
def test_garbage_is_no_document(context: ssl.SSLContext, certificates: Certificates, octets: bytes) -> None:
    def say(handler: Handler) -> None:
        handler.wfile.write(octets)

    answer, _ = get(context, certificates.moon, {"moon.test/mail.xml": say})
    assert not answer or isinstance(answer, Absent | Unreachable)


def test_a_document_that_is_cut_is_no_document(context: ssl.SSLContext, certificates: Certificates) -> None:
    def say(handler: Handler) -> None:
        handler.wfile.write(b"HTTP/1.0 200 OK\r\nContent-Length: 10\r\n\r\n<a/>")

    answer, _ = get(context, certificates.moon, {"moon.test/mail.xml": say})
    assert answer == Absent("is no HTTP: IncompleteRead")


@pytest.mark.parametrize("kind", ["wrong_name", "expired", "foreign", "self_signed"])
def test_a_server_without_a_valid_certificate_is_not_asked(
    context: ssl.SSLContext, certificates: Certificates, kind: str
) -> None:
    answer, asked = get(context, getattr(certificates, kind), {"moon.test/mail.xml": b"x"})
    assert isinstance(answer, Absent)
    assert answer.reason.startswith("its certificate is not valid: ")
    assert asked == []


RESPONSES = st.sampled_from(
    [
        b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\n<a/>",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n<a/>\r\n0\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: https://www.moon.test/x?y\r\n\r\n",
        b"HTTP/1.1 301 Moved\r\nLocation: //[::1]:x/\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\nx",
    ]
)
PIECES = st.sampled_from([b"\r\n", b"\0", b"\xff", b":", b"//", b"@", b"[", b"]", b"%00", b" ", b"9" * 30])


@example(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n", [(47, 0, b"9" * 30)])
@given(RESPONSES, st.lists(st.tuples(st.integers(0, 80), st.integers(0, 3), PIECES), max_size=4))
def test_any_octets_are_a_document_or_none_and_never_lead_out_of_the_domain(
    octets: bytes, changes: list[tuple[int, int, bytes]]
) -> None:
    for place, gone, piece in changes:
        octets = octets[:place] + piece + octets[place + gone :]
    answer = read_response(octets, URL, "moon.test", LIMIT)
    if isinstance(answer, Redirection):
        host = answer.url.removeprefix("https://").partition("/")[0].partition("?")[0].partition("#")[0]
        assert answer.url.startswith("https://")
        assert host.removesuffix(":443") in ("moon.test", "www.moon.test") or host.endswith(".moon.test")
