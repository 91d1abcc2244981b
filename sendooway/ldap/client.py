"""One login at an LDAP server: TLS, a simple bind, and reading the entry of who has bound (RFC 4511, RFC 4513)."""

import contextlib
import ssl

from sendooway.config.ldap_uri import Server
from sendooway.ldap import messages
from sendooway.ldap.messages import Entry, Message, MessageError, MessageReader, Result, Unused
from sendooway.net import tls
from sendooway.net.deadline import Deadline
from sendooway.net.dial import DialError, dial
from sendooway.net.stream import ConnectionLost, SocketTransport, Stream
from sendooway.secret import Secret

_MAX_TEXT = 200  # characters of what a server says


class LdapError(Exception):
    """This server cannot tell whether the password is right. The text says why."""


class BindRefused(Exception):
    """The server does not know the user, or not with this password. `code` is its result code, the text its words."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


# The result codes that are about the user (RFC 4511, appendix A). Some servers have 19 or 53 for locked accounts.
_ABOUT_THE_USER = frozenset(
    {
        19,  # constraintViolation
        32,  # noSuchObject
        48,  # inappropriateAuthentication: the entry has no password
        49,  # invalidCredentials
        53,  # unwillingToPerform
    }
)


def read_own_entry(
    server: Server, dn: str, password: Secret, attributes: tuple[str, ...], context: ssl.SSLContext, deadline: Deadline
) -> dict[str, tuple[bytes, ...]]:
    """Bind as `dn` with a password, which must not be empty, and read these attributes of that entry.

    Returns the values of each attribute, by its name in lower case; those that the server does not show are missing.
    Nothing goes over a network in clear: without TLS from the first octet it is begun with StartTLS, unless the server
    is on this machine. Referrals are not followed. Raises BindRefused, and LdapError for what is not about the user.
    """
    try:
        stream = Stream(SocketTransport(dial(server.host, server.port, deadline)))
        try:
            return _Connection(server, stream, context, deadline).read_own_entry(dn, password, attributes)
        finally:
            with contextlib.suppress(ConnectionLost):
                stream.transport.send_now(messages.format_unbind(4))
            stream.close()
    except (DialError, ConnectionLost, MessageError, tls.TlsError) as error:
        raise LdapError(str(error)) from error
    except TimeoutError:
        raise LdapError(f"no answer within {deadline.seconds:g} seconds") from None


class _Connection:
    def __init__(self, server: Server, stream: Stream, context: ssl.SSLContext, deadline: Deadline) -> None:
        self._server = server
        self._stream = stream
        self._context = context
        self._deadline = deadline
        self._reader = MessageReader()

    def read_own_entry(self, dn: str, password: Secret, attributes: tuple[str, ...]) -> dict[str, tuple[bytes, ...]]:
        if self._server.tls:
            self._secure()
        elif not self._server.is_here:
            self._start_tls()
        self._bind(dn, password)
        return self._read(dn, attributes)

    def _start_tls(self) -> None:
        self._send(messages.format_start_tls(1))
        answer = self._result(1)
        if answer.code != messages.SUCCESS:
            raise LdapError(f"it refused StartTLS: {_words(answer)}")
        if not self._reader.empty:
            # It would be taken for what came through TLS.
            raise LdapError("it went on in clear after StartTLS")
        self._secure()

    def _secure(self) -> None:
        tls.connect(self._stream, self._context, self._server.host, self._deadline)

    def _bind(self, dn: str, password: Secret) -> None:
        self._send(messages.format_bind(2, dn, password))
        answer = self._result(2)
        if answer.code in _ABOUT_THE_USER:
            raise BindRefused(answer.code, _words(answer))
        if answer.code == messages.REFERRAL:
            raise LdapError("it refers to another server: name that one in ldapUri, as no password is sent to others")
        if answer.code != messages.SUCCESS:
            raise LdapError(f"it refused the bind: {_words(answer)}")

    def _read(self, dn: str, attributes: tuple[str, ...]) -> dict[str, tuple[bytes, ...]]:
        self._send(messages.format_read(3, dn, attributes, max(1, int(self._deadline.left()))))
        found: list[Entry] = []
        while not isinstance(message := self._receive(3), Result):
            if isinstance(message, Entry):
                found.append(message)
            if len(found) > 1:
                raise LdapError("it found more than the one entry that was asked for")
        if not found:
            raise LdapError(f"the user may not read the own entry: {_words(message)}")
        return found[0].attributes

    def _send(self, octets: bytes) -> None:
        self._stream.send(octets, self._deadline)

    def _result(self, number: int) -> Result:
        while isinstance(message := self._receive(number), Unused):
            pass
        if isinstance(message, Entry):
            raise MessageError("its answer is none to what we have asked")
        return message

    def _receive(self, number: int) -> Message:
        while (message := self._reader.next_message()) is None:
            octets = self._stream.receive(self._deadline)
            if not octets:
                raise ConnectionLost("it closed the connection")
            self._reader.receive(octets)
        if isinstance(message, Result) and message.number == 0:
            raise LdapError(f"it ends the connection: {_words(message)}")
        if message.number != number:
            raise MessageError("its answer is none to what we have asked")
        return message


def _words(result: Result) -> str:
    text = result.text.strip()
    return f"{text[:_MAX_TEXT]} (code {result.code})" if text else f"code {result.code}"
