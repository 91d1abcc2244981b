"""Who is a balancer, and of whom its connections are."""

import pytest

from sendooway.net.trust import Trust, client_address

BALANCERS = Trust(("192.0.2.7/32", "198.51.100.0/24", "2001:db8::/64", "fe80::1/128"))


@pytest.mark.parametrize(
    "address",
    [
        "192.0.2.7",
        "::ffff:192.0.2.7",
        "198.51.100.0",
        "198.51.100.255",
        "2001:db8::",
        "2001:db8::ffff:1",
        "fe80::1%eth0",
    ],
)
def test_trusted_are_the_addresses_of_the_networks(address: str) -> None:
    assert address in BALANCERS


@pytest.mark.parametrize("address", ["192.0.2.8", "198.51.101.0", "2001:db8:0:1::", "127.0.0.1", "::1", "::192.0.2.7"])
def test_nobody_else_is_trusted(address: str) -> None:
    assert address not in BALANCERS
    assert address not in Trust(())


@pytest.mark.parametrize(
    ("told", "balancer", "client"),
    [
        ("192.0.2.7", "10.0.0.1", "192.0.2.7"),
        ("192.0.2.7", "127.0.0.1", "192.0.2.7"),
        (None, "10.0.0.1", "10.0.0.1"),
        # Clients on the balancer's own host.
        ("127.0.0.1", "10.0.0.1", "10.0.0.1"),
        ("::1", "2001:db8::1", "2001:db8::1"),
        ("127.0.0.2", "127.0.0.1", "127.0.0.2"),
    ],
)
def test_a_connection_is_of_whom_the_balancer_tells_or_the_balancers(
    told: str | None, balancer: str, client: str
) -> None:
    assert client_address(told, balancer) == client
