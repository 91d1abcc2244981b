"""What a proxy may hand over when it wants an agent, and what it may not."""

import os
import socket
from collections.abc import Callable, Iterator, Sequence

import pytest

from sendooway.privsep.messages import AgentWanted, LookUp, Message, ProtocolError
from sendooway.privsep.request import LOCAL, open_request, peer_address


def seqpacket() -> int:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    other.close()
    return one.detach()


def stream() -> int:
    return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM).detach()


def pipe() -> int:
    reading, writing = os.pipe()
    os.close(writing)
    return reading


def unconnected() -> int:
    return socket.socket().detach()


def datagrams() -> int:
    """The other end need not be there, so that it can be anybody."""
    sock = socket.socket(type=socket.SOCK_DGRAM)
    sock.connect(("127.0.0.1", 9))
    return sock.detach()


def open_descriptors() -> list[str]:
    return os.listdir("/proc/self/fd")


def test_a_wish_is_granted_with_the_channel_only() -> None:
    before = open_descriptors()
    request = open_request(AgentWanted("3ef52446", ""), [seqpacket(), pipe()], ())
    assert (request.session, request.client) == ("3ef52446", LOCAL)
    assert len(open_descriptors()) == len(before) + 1
    request.end.close()
    assert open_descriptors() == before


@pytest.mark.parametrize("session", ["", "x" * 33, "a b", "a\nb", "a=b", "../x", "ä", '"'])
def test_a_session_that_could_forge_the_log_is_refused(session: str) -> None:
    before = open_descriptors()
    with pytest.raises(ProtocolError):
        open_request(AgentWanted(session, ""), [seqpacket(), pipe()], ())
    assert open_descriptors() == before


@pytest.mark.parametrize(
    ("message", "makers"),
    [
        (AgentWanted("s", ""), []),
        (AgentWanted("s", ""), [seqpacket]),
        (AgentWanted("s", ""), [pipe, pipe]),
        (AgentWanted("s", ""), [stream, pipe]),
        (AgentWanted("s", ""), [unconnected, pipe]),
        (AgentWanted("s", ""), [seqpacket, pipe, pipe]),
        (LookUp("s"), [seqpacket, pipe]),
    ],
)
def test_what_is_no_channel_and_connection_is_refused_and_closed(
    message: Message, makers: list[Callable[[], int]]
) -> None:
    before = open_descriptors()
    with pytest.raises(ProtocolError):
        open_request(message, [make() for make in makers], ())
    assert open_descriptors() == before


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_the_address_is_that_of_the_connection(family: socket.AddressFamily, address: str) -> None:
    if family is socket.AF_INET6 and not os.path.exists("/proc/net/if_inet6"):
        pytest.skip("no IPv6 here")
    with socket.create_server((address, 0), family=family) as listener:
        client = socket.create_connection(listener.getsockname()[:2])
        server, _ = listener.accept()
        with client, server:
            assert peer_address(server.fileno()) == address
            assert server.getpeername() == client.getsockname()


def test_an_ipv4_client_of_an_ipv6_socket_has_its_ipv4_address() -> None:
    try:
        listener = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    except (OSError, ValueError):
        pytest.skip("no IPv6 here")
    with listener:
        client = socket.create_connection(("127.0.0.1", listener.getsockname()[1]))
        server, _ = listener.accept()
        with client, server:
            assert peer_address(server.fileno()) == "127.0.0.1"


@pytest.fixture
def connection() -> Iterator[socket.socket]:
    """Our end of one whose other end is 127.0.0.1."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
        with client, server:
            yield server


def opened(told: str, client: int, trust: Sequence[str]) -> str | None:
    request = open_request(AgentWanted("s", told), [seqpacket(), os.dup(client)], trust)
    request.end.close()
    return request.client


HERE, ELSEWHERE = ("192.0.2.0/24", "127.0.0.1/32"), ("192.0.2.0/24", "2001:db8::/64")


@pytest.mark.parametrize("told", ["192.0.2.7", "2001:db8::7", "127.0.0.2"])
def test_what_a_balancer_tells_is_believed_of_its_own_connections_only(connection: socket.socket, told: str) -> None:
    assert opened(told, connection.fileno(), HERE) == told
    for trust in (ELSEWHERE, ()):
        with pytest.raises(ProtocolError, match="that nobody has told"):
            opened(told, connection.fileno(), trust)


@pytest.mark.parametrize(
    "told",
    [
        *("x", "local", "192.0.2.07", "192.0.2.7 ", "192.0.2", "::FFFF", "2001:db8:0::7", "fe80::1%eth0"),
        *('192.0.2.7" user="root', "192.0.2.7\n", "٣.0.0.1", "1" * 1000),
    ],
)
def test_what_is_no_address_is_not_believed_of_anybody(connection: socket.socket, told: str) -> None:
    before = open_descriptors()
    with pytest.raises(ProtocolError, match="that nobody has told"):
        opened(told, connection.fileno(), HERE)
    assert open_descriptors() == before


def test_where_nothing_is_told_it_is_the_connections_own(connection: socket.socket) -> None:
    assert opened("", connection.fileno(), HERE) == opened("", connection.fileno(), ()) == "127.0.0.1"


@pytest.mark.parametrize("make", [pipe, stream, seqpacket])
def test_where_there_is_no_network_there_is_no_balancer(make: Callable[[], int]) -> None:
    descriptor = make()
    with pytest.raises(ProtocolError):
        opened("192.0.2.7", descriptor, HERE)
    os.close(descriptor)


def test_a_balancer_that_is_gone_is_no_fault_of_the_proxys() -> None:
    descriptor = unconnected()
    assert opened("192.0.2.7", descriptor, HERE) is None
    os.close(descriptor)


@pytest.mark.parametrize(
    ("make", "address"),
    [(pipe, LOCAL), (stream, LOCAL), (seqpacket, LOCAL), (unconnected, None), (datagrams, None)],
)
def test_where_there_is_no_network_or_nobody(make: Callable[[], int], address: str | None) -> None:
    descriptor = make()
    assert peer_address(descriptor) == address
    os.close(descriptor)
