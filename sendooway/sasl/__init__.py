"""SASL (RFC 4422). One file per mechanism, in the shape of `mechanism.py`; this is the table of them."""

from collections.abc import Callable, Collection, Generator

from sendooway.sasl import cram_md5, gssapi, login, plain
from sendooway.sasl.gssapi import ContextError, TicketLogin
from sendooway.sasl.mechanism import Client, PasswordLogin, SaslError
from sendooway.secret import Secret

__all__ = [
    "CLIENTS",
    "GSSAPI",
    "SERVERS",
    "STRENGTH",
    "Client",
    "ContextError",
    "PasswordLogin",
    "SaslError",
    "Server",
    "TicketLogin",
    "choose",
    "claimed",
    "client",
    "gssapi",
    "server",
]

Server = Generator[bytes, bytes, PasswordLogin | TicketLogin]

# It is in neither table: both of its sides need a security context.
GSSAPI = "GSSAPI"

SERVERS: dict[str, Callable[[], Server]] = {"PLAIN": plain.server, "LOGIN": login.server}

CLIENTS: dict[str, Callable[[str, Secret], Client]] = {
    "CRAM-MD5": cram_md5.client,
    "PLAIN": plain.client,
    "LOGIN": login.client,
}

# The strongest first.
STRENGTH = (GSSAPI, *CLIENTS)


def server(mechanism: str) -> Server:
    """The server side of `mechanism` (in capitals). Raises KeyError for one that is not in SERVERS."""
    return SERVERS[mechanism]()


def claimed(mechanism: str, initial_response: bytes | None) -> str:
    """The user name that a client claims with AUTH, as it was typed; empty where only a later message tells it."""
    if mechanism != "PLAIN" or initial_response is None:
        return ""
    dialogue = plain.server()
    next(dialogue)
    try:
        dialogue.send(initial_response)
    except StopIteration as end:
        claim: PasswordLogin = end.value
        return claim.authcid
    except SaslError:
        pass
    return ""


def client(mechanism: str, username: str, password: Secret) -> Client:
    """The client side of `mechanism` (in capitals). Raises KeyError for one that is not in CLIENTS."""
    return CLIENTS[mechanism](username, password)


def choose(
    offered: Collection[str], always: Collection[str], never: Collection[str], refused: Collection[str]
) -> str | None:
    """The strongest mechanism to try next, None if none is left.

    `offered` is what the smarthost advertises, `always` what is tried even so, `never` what is not; `refused` what this
    smarthost has refused already.
    """
    for mechanism in STRENGTH:
        if mechanism in never or mechanism in refused:
            continue
        if mechanism in offered or mechanism in always:
            return mechanism
    return None
