"""Whom we believe when they say who the client is: balancers, known by their address."""

from collections.abc import Sequence
from ipaddress import IPv6Address, ip_address, ip_network

from sendooway.loopback import is_loopback


class Trust:
    """The addresses of balancers, as the networks of `proxyTrust`: `192.0.2.0/24`."""

    def __init__(self, networks: Sequence[str]) -> None:
        self._networks = tuple(map(ip_network, networks))

    def __contains__(self, address: str) -> bool:
        """Is this numeric address, as getpeername(2) gives it, a balancer's?"""
        if not self._networks:
            return False  # as nearly everywhere, and it is asked for each connection
        number = ip_address(address)
        if isinstance(number, IPv6Address):
            # IPv4 in IPv6's clothes (RFC 4291, 2.5.5.2).
            number = number.ipv4_mapped or number
        return any(number in network for network in self._networks)


def client_address(told: str | None, peer: str) -> str:
    """The client's address, where the balancer at the address `peer` has told `told` (None: no address).

    It is `peer` itself where none was told, or a loopback address of another host: a client on the balancer's host
    must not pass for one on this host, whose password crosses no network.
    """
    return peer if told is None or (is_loopback(told) and not is_loopback(peer)) else told
