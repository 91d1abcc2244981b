"""The PROXY protocol: the header in which a TCP balancer tells whose connection it brings.

Versions 1 (a line of text) and 2 (octets), as HAProxy's specification of 2020 has them; the numbers of sections are
its. Pure: octets in, a header or an error out. `balancer.py` receives them.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

# The longest line of version 1 with its CR LF (2.1).
_MAX_LINE_OCTETS = 107
_TEXT = b"PROXY "
_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
# Signature, version and command, family and protocol, and the length of what follows (2.2).
_FIXED = len(_SIGNATURE) + 4
# Version 2 with its two commands, and two families with their protocol.
_LOCAL, _PROXY = 0x20, 0x21
_TCP4, _TCP6 = 0x11, 0x21
# Of all of version 2: the longest addresses are 216 octets, and what balancers put behind them (host names,
# certificates' names, identifiers) hundreds. Its length field could say 65535.
LIMIT = 4096


class HeaderError(Exception):
    """There is no header, or one that cannot be meant. The text says why, and quotes nothing of what came."""


@dataclass(frozen=True)
class Header:
    """The first `length` octets. `client` is the numeric address of the client; None where the connection is the
    balancer's own (a health check), or of a kind that has no such address: then the addresses of the connection count.
    """

    length: int
    client: str | None


def parse(octets: bytes) -> Header | None:
    """The header that `octets` begin with; None while all of them may be a part of one.

    Raises HeaderError if they begin otherwise: at the first octet that is wrong, but within a line of version 1 at its
    end. What follows a header, or an error, changes nothing.
    """
    if octets.startswith(_TEXT):
        return _parse_line(octets)
    if octets.startswith(_SIGNATURE):
        return _parse_binary(octets)
    if _TEXT.startswith(octets) or _SIGNATURE.startswith(octets):
        return None
    raise HeaderError("there is no PROXY header")


def _parse_line(octets: bytes) -> Header | None:
    """Version 1 (2.1): `PROXY TCP4 SOURCE DESTINATION PORT PORT` CR LF, or `PROXY UNKNOWN` and anything."""
    end = octets.find(b"\r\n", 0, _MAX_LINE_OCTETS)
    if end < 0 and len(octets) < _MAX_LINE_OCTETS:
        return None
    if end < 0:
        raise HeaderError(f"a PROXY line is longer than {_MAX_LINE_OCTETS} octets")
    match octets[:end].split(b" "):
        case [_, b"UNKNOWN", *_]:
            return Header(end + 2, None)
        case [_, b"TCP4" | b"TCP6" as family, source, destination, *ports] if _are_ports(ports):
            kind = IPv4Address if family == b"TCP4" else IPv6Address
            return Header(end + 2, _parse_client(kind, source, destination))
    raise HeaderError("a PROXY line is malformed")


def _are_ports(words: list[bytes]) -> bool:
    return len(words) == 2 and all(map(_is_port, words))


def _is_port(octets: bytes) -> bool:
    # Of octets, isdigit() is true for ASCII digits alone.
    return octets.isdigit() and len(octets) <= 5 and b"%d" % int(octets) == octets and int(octets) <= 65535


def _parse_client(kind: type[IPv4Address] | type[IPv6Address], source: bytes, destination: bytes) -> str:
    """The source; both must be addresses of that kind."""
    # Python takes a zone for a part of an IPv6 address, but it names an interface of one host.
    if b"%" in source + destination:
        raise HeaderError("a PROXY line has a zone in an address")
    try:
        client, _ = (kind(octets.decode("ascii")) for octets in (source, destination))
    except ValueError:
        raise HeaderError("a PROXY line has no address where one belongs") from None
    return _format(client)


def _format(address: IPv4Address | IPv6Address) -> str:
    """The address as text; an IPv4 address that comes as IPv6 (RFC 4291, 2.5.5.2) is written as an IPv4 address."""
    return str(address.ipv4_mapped or address) if isinstance(address, IPv6Address) else str(address)


def _parse_binary(octets: bytes) -> Header | None:
    """Version 2 (2.2). What follows the addresses is skipped, as the specification permits."""
    if len(octets) < _FIXED:
        return None
    version_and_command, family_and_protocol = octets[12:14]
    length = _FIXED + int.from_bytes(octets[14:16], "big")
    if version_and_command not in (_LOCAL, _PROXY):
        raise HeaderError("a PROXY header has an unknown version or command")
    if length > LIMIT:
        raise HeaderError(f"a PROXY header is longer than {LIMIT} octets")
    # LOCAL has nothing else to say: its family is ignored.
    size = 0 if version_and_command == _LOCAL else _address_size(family_and_protocol)
    if size and length < _FIXED + 2 * (size + 2):  # two addresses, and two ports of 16 bits
        raise HeaderError("a PROXY header is too short for its addresses")
    if len(octets) < length:
        return None
    source = octets[_FIXED : _FIXED + size]
    match size:
        case 4:
            return Header(length, _format(IPv4Address(source)))
        case 16:
            return Header(length, _format(IPv6Address(source)))
        case _:
            return Header(length, None)


def _address_size(family_and_protocol: int) -> int:
    """Octets of each of the two addresses, in front of two ports; 0 for what we need not know: UNIX sockets, datagrams,
    and what even the balancer does not know."""
    if family_and_protocol >> 4 > 3 or family_and_protocol & 15 > 2:
        raise HeaderError("a PROXY header has an unknown family or protocol")
    return {_TCP4: 4, _TCP6: 16}.get(family_and_protocol, 0)
