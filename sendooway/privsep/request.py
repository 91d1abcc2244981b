"""A proxy's wish for an agent, looked at with distrust."""

import errno
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from sendooway.net.trust import Trust, client_address
from sendooway.privsep.channel import Channel
from sendooway.privsep.messages import AgentWanted, Message, ProtocolError

LOCAL = "local"


@dataclass(frozen=True)
class Request:
    """An agent is wanted: `end` is its end of the channel, `client` the address of the session's client.

    The address is numeric, the connection's own or what a balancer told; LOCAL where there is no network between us,
    None where nobody is there any more. `user` is who wants to log in, if the proxy is right.
    """

    end: Channel
    session: str
    client: str | None
    user: str = ""


def open_request(message: Message, descriptors: list[int], trust: Sequence[str]) -> Request:
    """Check an AgentWanted and the descriptors beside it. All of them are used up: `end` is the only one left open.

    Another address than the connection's own is believed only where that is in one of the networks of `trust`.

    Raises ProtocolError for anything else, and leaves none open.
    """
    try:
        match message, descriptors:
            case AgentWanted(session, told, user), [_, client] if _is_id(session):
                address = _client_address(told, peer_address(client), Trust(trust))
                return Request(_open_channel(descriptors.pop(0)), session, address, user)
            case _:
                raise ProtocolError("an AgentWanted that cannot be meant")
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def peer_address(descriptor: int) -> str | None:
    """The address at the other end of a connection, as in Request. The descriptor stays open."""
    try:
        sock = socket.socket(fileno=descriptor)
    except OSError as error:
        # A pipe or a terminal is no socket.
        return LOCAL if error.errno == errno.ENOTSOCK else None
    try:
        if sock.family not in (socket.AF_INET, socket.AF_INET6):
            return LOCAL
        # A datagram socket has whatever other end its owner names, though nobody there has ever heard of it.
        if sock.type != socket.SOCK_STREAM:
            return None
        address = str(sock.getpeername()[0])
    except OSError:
        return None
    finally:
        sock.detach()
    # An IPv4 address in IPv6's clothes (RFC 4291, 2.5.5.2); the zone behind `%` is our own name for an interface.
    return address.removeprefix("::ffff:").partition("%")[0]


def _client_address(told: str, peer: str | None, trust: Trust) -> str | None:
    """The client's address. Raises ProtocolError for one that no balancer at the address `peer` can have told."""
    if not told or peer is None:
        return peer
    if peer == LOCAL or peer not in trust or not _is_address(told) or client_address(told, peer) != told:
        raise ProtocolError("an AgentWanted with an address that nobody has told")
    return told


def _is_address(told: str) -> bool:
    """Whether it is an address in the one form that the log has: without a zone, which names an interface of ours."""
    try:
        return str(ip_address(told)) == told and "%" not in told
    except ValueError:
        return False


def _is_id(session: str) -> bool:
    # It goes to the log in our name.
    return session.isascii() and session.isalnum() and len(session) <= 32


def _open_channel(descriptor: int) -> Channel:
    try:
        end = socket.socket(fileno=descriptor)
    except OSError:
        os.close(descriptor)
        raise ProtocolError("an AgentWanted without a channel") from None
    if (end.family, end.type) != (socket.AF_UNIX, socket.SOCK_SEQPACKET):
        end.close()
        raise ProtocolError("an AgentWanted without a channel")
    return Channel(end)
