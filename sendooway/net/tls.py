"""TLS on both sides: contexts, the handshake, and octets through it.

The only module that imports certifi: its bundle is what we trust where the system has no store of its own.
"""

import contextlib
import os
import re
import select
import ssl
from functools import cache
from hashlib import sha256

from sendooway.net.deadline import Deadline
from sendooway.net.stream import RECEIVE_OCTETS, ConnectionLost, SocketTransport, Stream

_CA_FOLDER = "/etc/ssl/certs"  # certificates named by their hash: only those that are needed are ever read
_CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
_RECORD_OCTETS = 16384  # RFC 8446, 5.1: OpenSSL receives and sends no more at once

# In contents that users bring. Systems come with 140; the time that OpenSSL takes grows with the square of the number.
MAX_CERTIFICATES = 500


class TlsError(Exception):
    """No TLS, and so no connection. The text says why."""


class CertificateError(TlsError):
    """The other side's certificate does not prove that it is who we want to talk to."""


def server_context(certificate: str, key: str) -> ssl.SSLContext:
    """The context for clients. `certificate` and `key` are files in PEM, the first certificate of the chain being ours;
    an empty `key`: it is in `certificate`, too. Raises TlsError naming the files."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    try:
        # A password prompt on the terminal would hang a server for ever.
        context.load_cert_chain(certificate, key or None, password=_no_password)
    except (OSError, TlsError) as error:
        files = certificate if key in ("", certificate) else f"{certificate} and {key}"
        # OpenSSL has no words for it.
        is_none = isinstance(error, ssl.SSLError) and error.reason is None
        reason = "there must be a certificate and its key in PEM" if is_none else _reason(error)
        raise TlsError(f"cannot use certificate and key of {files}: {reason}") from error
    return context


def _no_password() -> str:
    raise TlsError("the key must not have a password")


def client_context(ca: str | bytes) -> ssl.SSLContext:
    """The context for smarthosts, with whom it trusts: `ca` is the path of a file of certificates in PEM, or the octets
    of one; an empty path: the system's store, else certifi's. Raises TlsError naming the file."""
    context = trusting_nobody()
    try:
        if isinstance(ca, bytes):
            for certificate in _certificates(ca):
                context.load_verify_locations(cadata=certificate)
        elif ca:
            context.load_verify_locations(cafile=ca)
        elif _is_hashed(_CA_FOLDER):
            # Reading the whole bundle costs 35 to 80 ms, this a quarter of one.
            context.load_verify_locations(capath=_CA_FOLDER)
        elif os.access(_CA_BUNDLE, os.R_OK):
            context.load_verify_locations(cafile=_CA_BUNDLE)
        else:
            context.load_verify_locations(cadata=_certifi())
    except (OSError, ValueError) as error:
        raise TlsError(
            f"cannot read trusted certificates{f' of {ca}' if isinstance(ca, str) else ''}: {_reason(error)}"
        ) from error
    return context


def trusting_nobody() -> ssl.SSLContext:
    """A context for smarthosts in which none can prove its name, as no certificate is trusted."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.hostname_checks_common_name = False
    return context


def _certificates(contents: bytes) -> list[str]:
    """Each certificate of a file in PEM by itself: while OpenSSL reads contents, all other threads stand still.

    Raises ValueError where there are none, or too many.
    """
    text = contents.decode("ascii", "ignore")
    # OpenSSL's names for them; what else may stand in the file it passes over.
    found = re.findall(r"^-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----[^-]*-----END [^-]*-----", text, re.MULTILINE)
    if not found:
        raise ValueError("there is no certificate in it")
    if len(found) > MAX_CERTIFICATES:
        raise ValueError(f"there are more than {MAX_CERTIFICATES} in it")
    return found


def unverified(context: ssl.SSLContext) -> ssl.SSLContext:
    """Like a client context, but any certificate will do."""
    lax = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    lax.minimum_version = context.minimum_version
    lax.check_hostname = False
    lax.verify_mode = ssl.CERT_NONE
    return lax


def _is_hashed(folder: str) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(entry.name.endswith(".0") for entry in entries)
    except OSError:
        return False


@cache
def _certifi() -> str:
    import certifi  # it costs 34 ms, which few machines need to pay

    # Not the path: within the one file of `make dist` there is none.
    return str(certifi.contents())


class TlsTransport:
    """TLS upon a socket whose handshake is done.

    OpenSSL receives no octet behind the record that is asked for, which is taken whole: none stays with it.
    """

    def __init__(self, sock: ssl.SSLSocket) -> None:
        self.socket = sock
        self.read_events = select.POLLIN
        self.write_events = select.POLLOUT

    @property
    def verified(self) -> bool:
        """The other side had to show a good certificate."""
        return self.socket.context.verify_mode is ssl.CERT_REQUIRED

    @property
    def version(self) -> str:
        """As in TLSv1.3."""
        return self.socket.version() or ""

    @property
    def cipher(self) -> str:
        """OpenSSL's name of it, as in TLS_AES_256_GCM_SHA384."""
        cipher = self.socket.cipher()
        return cipher[0] if cipher else ""

    def receive_now(self) -> bytes | None:
        octets = self._receive_record()
        # A full record is seldom the last one, and what is there together costs its receiver a single turn.
        while octets and len(octets) % _RECORD_OCTETS == 0 and len(octets) < RECEIVE_OCTETS:
            try:
                more = self._receive_record()
            except ConnectionLost:
                break  # which the next call will tell: these octets came before it
            if not more:
                break
            octets += more
        return octets

    def _receive_record(self) -> bytes | None:
        self.read_events = select.POLLIN
        try:
            return self.socket.recv(_RECORD_OCTETS)
        except ssl.SSLWantReadError:
            return None
        except ssl.SSLWantWriteError:
            self.read_events = select.POLLOUT
            return None
        except ssl.SSLZeroReturnError:
            return b""
        except OSError as error:
            raise ConnectionLost(_reason(error)) from error

    def send_now(self, octets: bytes | bytearray | memoryview) -> int:
        sent = self._send_record(octets)
        with memoryview(octets) as whole:
            while sent and sent % _RECORD_OCTETS == 0 and sent < len(whole):
                try:
                    more = self._send_record(whole[sent:])
                except ConnectionLost:
                    break  # which the next call will tell
                if not more:
                    break
                sent += more
        return sent

    def _send_record(self, octets: bytes | bytearray | memoryview) -> int:
        self.write_events = select.POLLOUT
        try:
            return self.socket.send(octets)
        except ssl.SSLWantWriteError:
            return 0
        except ssl.SSLWantReadError:
            self.write_events = select.POLLIN
            return 0
        except OSError as error:
            raise ConnectionLost(_reason(error)) from error

    def descriptors(self) -> tuple[int, int]:
        return self.socket.fileno(), self.socket.fileno()

    def close(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self.socket.unwrap()  # says close_notify; the answer is not waited for
        self.socket.close()


def accept(stream: Stream, context: ssl.SSLContext, deadline: Deadline) -> None:
    """The handshake with a client. Raises TlsError, TimeoutError, Stopping."""
    _secure(stream, context, deadline, server_side=True, host=None)


def connect(
    stream: Stream, context: ssl.SSLContext, host: str, deadline: Deadline, certificate_sha256: bytes = b""
) -> None:
    """The handshake with a smarthost, which has to prove that it is `host`, unless the context is unverified.

    With `certificate_sha256` it has to show the certificate with that digest instead, whatever that one says.
    Raises CertificateError, TlsError, TimeoutError, Stopping.
    """
    if not certificate_sha256:
        _secure(stream, context, deadline, server_side=False, host=host)
        return
    _secure(stream, unverified(context), deadline, server_side=False, host=host)
    if not shows(stream, certificate_sha256):
        raise CertificateError("it is not the one that the account's fingerprint is of")


def shows(stream: Stream, certificate_sha256: bytes) -> bool:
    """Whether the other side of an established TLS has shown the certificate with that digest."""
    assert isinstance(stream.transport, TlsTransport)
    certificate = stream.transport.socket.getpeercert(binary_form=True)
    return sha256(certificate or b"").digest() == certificate_sha256


def _secure(
    stream: Stream, context: ssl.SSLContext, deadline: Deadline, *, server_side: bool, host: str | None
) -> None:
    if not isinstance(stream.transport, SocketTransport):
        raise TlsError("TLS needs a socket")
    try:
        sock = context.wrap_socket(
            stream.transport.socket,
            server_side=server_side,
            server_hostname=host,
            do_handshake_on_connect=False,
            suppress_ragged_eofs=False,
        )
        # The old socket object has lost its descriptor to the new one.
        stream.transport = TlsTransport(sock)
        while (events := _handshake(sock)) is not None:
            stream.wait(sock.fileno(), events, deadline)
    except ssl.SSLCertVerificationError as error:
        raise CertificateError(error.verify_message) from error
    except (OSError, ValueError) as error:
        if isinstance(error, TimeoutError):
            raise
        raise TlsError(_reason(error)) from error


def _handshake(sock: ssl.SSLSocket) -> int | None:
    """One step; None when it is done, else the events of poll(2) to wait for."""
    try:
        sock.do_handshake()
    except ssl.SSLWantReadError:
        return select.POLLIN
    except ssl.SSLWantWriteError:
        return select.POLLOUT
    return None


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLEOFError):
        return "the connection ended without the end of TLS"
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).replace("_", " ").lower()
    return str(getattr(error, "strerror", None) or error)
