"""Which connections lead back to this server."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from sendooway.net.ourselves import Ourselves

ANY = "0.0.0.0"  # noqa: S104


def listen(stack: ExitStack, address: str, port: int = 0) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
    if address == "::":
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.bind((address, port))
    sock.listen()
    return sock


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.mark.parametrize(
    ("address", "way"),
    [
        ("127.0.0.1", "127.0.0.1"),
        (ANY, "127.0.0.1"),
        (ANY, "127.0.0.5"),
        ("::1", "::1"),
        ("::", "::1"),
        ("::", "127.0.0.1"),
    ],
)
def test_a_connection_to_a_socket_of_ours_leads_back(stack: ExitStack, address: str, way: str) -> None:
    try:
        ours = listen(stack, address)
    except OSError as error:
        pytest.skip(f"no {address} here: {error.strerror}")
    connection = stack.enter_context(socket.create_connection((way, ours.getsockname()[1]), 10))
    assert Ourselves([ours]).answers(connection)


def test_another_server_on_this_machine_is_not_us(stack: ExitStack) -> None:
    other = listen(stack, "127.0.0.1")
    ours = listen(stack, "127.0.0.2", other.getsockname()[1])
    everywhere = listen(stack, ANY)
    connection = stack.enter_context(socket.create_connection(other.getsockname(), 10))
    assert not Ourselves([ours, everywhere]).answers(connection)
    assert not Ourselves().answers(connection)


def test_the_connection_that_we_serve_shows_where_we_are(stack: ExitStack) -> None:
    somebody = listen(stack, "127.0.0.1")
    stack.enter_context(socket.create_connection(somebody.getsockname(), 10))
    served = stack.enter_context(somebody.accept()[0])
    connection = stack.enter_context(socket.create_connection(somebody.getsockname(), 10))
    assert Ourselves([served]).answers(connection)


def test_a_unix_socket_is_no_way_back(stack: ExitStack) -> None:
    one, other = socket.socketpair()
    stack.enter_context(one)
    stack.enter_context(other)
    connection = stack.enter_context(socket.create_connection(listen(stack, "127.0.0.1").getsockname(), 10))
    assert not Ourselves([one]).answers(connection)
    assert not Ourselves([one]).answers(stack.enter_context(socket.socket()))
