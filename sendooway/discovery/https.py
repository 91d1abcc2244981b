"""One document over HTTPS, bounded in octets and time, from a domain that nobody can lead us away from."""

import io
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from typing import cast
from urllib.parse import urljoin, urlsplit

from sendooway.discovery.search import Absent, Unreachable, is_host, is_within
from sendooway.net import tls
from sendooway.net.deadline import Deadline
from sendooway.net.dial import Address, DialError, dial_addresses
from sendooway.net.stream import ConnectionLost, SocketTransport, Stream

MAX_REDIRECTIONS = 3
_MAX_HEAD_OCTETS = 16 * 1024
_PORT = 443
_REDIRECTIONS = frozenset({301, 302, 303, 307, 308})

Resolve = Callable[[str, int, Deadline], list[Address]]


def fetch(
    url: str, domain: str, most_octets: int, deadline: Deadline, context: ssl.SSLContext, resolve: Resolve
) -> bytes | Absent | Unreachable:
    """The document at an https URL, if it has at most `most_octets`; more are not waited for.

    Redirections are followed within the domain, and only to https. Absent: the answer is no such document, or its
    certificate not good; Unreachable: there was no answer.
    """
    for _ in range(1 + MAX_REDIRECTIONS):
        parts = urlsplit(url)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        try:
            octets = _exchange(parts.hostname or "", path, most_octets, deadline, context, resolve)
        except tls.CertificateError as error:
            return Absent(f"its certificate is not valid: {error}")
        except (DialError, TimeoutError, ConnectionLost, tls.TlsError) as error:
            return Unreachable(str(error))
        answer = read_response(octets, url, domain, most_octets)
        if not isinstance(answer, Redirection):
            return answer
        url = answer.url
    return Absent(f"redirects more than {MAX_REDIRECTIONS} times")


@dataclass(frozen=True)
class Redirection:
    """The answer leads to an https URL within the domain."""

    url: str


def read_response(octets: bytes, url: str, domain: str, most_octets: int) -> bytes | Absent | Redirection:
    """The meaning of all octets that a server has sent, until it closed, in answer to a request for `url`."""
    try:
        response = HTTPResponse(cast("ssl.SSLSocket", _Received(octets)))
        response.begin()
        if response.status in _REDIRECTIONS:
            target = urljoin(url, response.getheader("Location", ""))
            reason = _why_not(target, domain)
            return Absent(f"redirects {reason}") if reason else Redirection(target)
        if response.status != 200:
            return Absent(f"answers {response.status}")
        if (response.length or 0) > most_octets or len(document := response.read()) > most_octets:
            return Absent(f"is longer than {most_octets} octets")
        return document
    # ValueError: numbers and URLs that are none; OverflowError: pieces of absurd lengths.
    except (HTTPException, ValueError, OverflowError) as error:
        return Absent(f"is no HTTP: {type(error).__name__}")


class _Received:
    """As much of a socket as HTTPResponse wants: all that has come of it."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self._octets)


def _exchange(
    host: str, path: str, most_octets: int, deadline: Deadline, context: ssl.SSLContext, resolve: Resolve
) -> bytes:
    """Request and response, which ends with the connection, or when it is longer than anything we could use."""
    stream = Stream(SocketTransport(dial_addresses(resolve(host, _PORT, deadline), deadline)))
    try:
        tls.connect(stream, context, host, deadline)
        # HTTP/1.0: what comes is neither in pieces nor compressed, and ends with the connection (RFC 1945).
        stream.send(f"GET {path} HTTP/1.0\r\nHost: {host}\r\nAccept: text/xml, */*\r\n\r\n".encode("ascii"), deadline)
        octets = bytearray()
        try:
            while len(octets) <= most_octets + _MAX_HEAD_OCTETS and (piece := stream.receive(deadline)):
                octets += piece
        except ConnectionLost:
            # Many servers close without the end of TLS. A document that was cut shows it: XML has an end of its own.
            if not octets:
                raise
        return bytes(octets)
    finally:
        stream.close()


def _why_not(url: str, domain: str) -> str:
    """Why a redirection is not followed; empty where it is."""
    parts = urlsplit(url)
    if parts.scheme != "https" or parts.port not in (None, _PORT) or parts.username is not None:
        return "away from https"
    host = (parts.hostname or "").lower()
    if not is_host(host) or not is_within(host, domain):
        return f"out of {domain}"
    if not url.isascii() or not url.isprintable() or " " in url:
        return "to what is no URL"
    return ""
