"""GSSAPI, RFC 4752: Kerberos tickets, both sides. Which library makes and reads the tokens is not known here.

After the tokens of the security context, both sides agree on a security layer. Ours is always "no layer", with a
buffer of 0 octets: what protects the connection is TLS.
"""

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Protocol

from sendooway.sasl.mechanism import Client, SaslError, parse_name

NO_LAYER = b"\1\0\0\0"  # RFC 4752, 3.3: the bit-mask of security layers, then the largest buffer, here none


class ContextError(Exception):
    """A security context fails. The text says why and holds no secret; `remedy` what helps, empty if that is unknown.

    Where several ways were tried, `causes` are the errors of each.
    """

    def __init__(self, reason: str, remedy: str = "", causes: "tuple[ContextError, ...]" = ()) -> None:
        super().__init__(reason)
        self.remedy = remedy
        self.causes = causes


class Context(Protocol):
    """One side of a security context (RFC 2743). Every method raises ContextError."""

    @property
    def complete(self) -> bool:
        """No token of the other side is expected any more."""
        ...

    def step(self, token: bytes) -> bytes:
        """Take the other side's token, which is empty at the initiator's start, and give ours; empty: none."""
        ...

    def wrap(self, message: bytes) -> bytes:
        """The message with its integrity protected, not its confidentiality."""
        ...

    def unwrap(self, token: bytes) -> bytes:
        """The message that `wrap` of the other side made the token of."""
        ...


class Acceptor(Context, Protocol):
    """The server's side. What it knows of the client is there once it is complete."""

    @property
    def principal(self) -> str:
        """Who the client is, as in alice@EXAMPLE.TEST."""
        ...

    @property
    def tickets(self) -> object | None:
        """What the client delegated, for contexts in its name."""
        ...


@dataclass(frozen=True)
class TicketLogin:
    """What a client proved with GSSAPI: it is `principal`. It wants to act as the user `authzid` (empty: as itself).

    `tickets` is what it delegated, for whoever made the context.
    """

    principal: str
    authzid: str
    tickets: object | None = field(repr=False)


def server(context: Acceptor) -> Generator[bytes, bytes, TicketLogin]:
    """The server side (RFC 4752, 3.2). Raises SaslError, and ContextError where the context fails."""
    token = context.step((yield b""))
    while not context.complete:
        token = context.step((yield token))
    # RFC 4752, 3.1: to the last token, the client responds with nothing.
    if token and (yield token):
        raise SaslError("a response to the last token, which must be empty")
    message = context.unwrap((yield context.wrap(NO_LAYER)))
    # The client's largest buffer counts for layers only, and there are clients that do not say 0.
    if len(message) < len(NO_LAYER) or message[:1] != NO_LAYER[:1]:
        raise SaslError("a security layer that was not offered")
    return TicketLogin(context.principal, parse_name(message[len(NO_LAYER) :]), context.tickets)


def client(context: Context) -> Client:
    """The client side (RFC 4752, 3.1), which acts as the principal whose tickets the context has. Raises SaslError, and
    ContextError where the context fails."""
    challenge = yield context.step(b"")
    while not context.complete:
        challenge = yield context.step(challenge)
    offer = context.unwrap(challenge)
    if len(offer) != len(NO_LAYER) or not offer[0] & NO_LAYER[0]:
        raise SaslError("the server insists on a security layer; TLS is what protects this connection")
    yield context.wrap(NO_LAYER)
    raise SaslError("a challenge after the GSSAPI dialogue")
