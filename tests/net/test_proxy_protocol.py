"""The header that a balancer sends, in both versions, as the specification has it."""

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendooway.net.proxy_protocol import LIMIT, Header, HeaderError, parse

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LOCAL, PROXY = 0x20, 0x21
TCP4, UDP4, TCP6, UDP6, UNIX, UNSPECIFIED = 0x11, 0x12, 0x21, 0x22, 0x31, 0x00
FOUR = IPv4Address("192.0.2.7").packed + IPv4Address("203.0.113.1").packed + b"\xc0\x00\x02\x4b"
SIX = IPv6Address("2001:db8::7").packed + IPv6Address("2001:db8::1").packed + b"\xc0\x00\x02\x4b"


LONG = ":".join(["fffe"] * 8)


def binary(command: int, kind: int, content: bytes) -> bytes:
    return SIGNATURE + bytes((command, kind)) + len(content).to_bytes(2, "big") + content


def tlv(kind: int, value: bytes) -> bytes:
    return bytes((kind,)) + len(value).to_bytes(2, "big") + value


SSL = tlv(0x20, b"\x01\0\0\0\0" + tlv(0x21, b"TLSv1.3") + tlv(0x22, b"alice"))
MORE = tlv(0x02, b"mail.test") + SSL + tlv(0x04, b"") + tlv(0x05, b"x" * 128) + tlv(0xE0, b"any")

GOOD = {
    "TCP4": (b"PROXY TCP4 192.0.2.7 203.0.113.1 56324 587\r\n", "192.0.2.7"),
    "TCP4, the longest": (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255"),
    "TCP6": (b"PROXY TCP6 2001:DB8:0::7 ::1 0 587\r\n", "2001:db8::7"),
    "TCP6, the longest": (f"PROXY TCP6 {LONG} {LONG} 65535 65535\r\n".encode(), LONG),
    "IPv4 in IPv6's clothes": (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 1 587\r\n", "192.0.2.7"),
    "UNKNOWN": (b"PROXY UNKNOWN\r\n", None),
    "UNKNOWN, with what is to be ignored": (b"PROXY UNKNOWN 192.0.2.7 x \xff\r\n", None),
    "UNKNOWN, the longest": (b"PROXY UNKNOWN".ljust(105) + b"\r\n", None),
    "2, TCP4": (binary(PROXY, TCP4, FOUR), "192.0.2.7"),
    "2, TCP6": (binary(PROXY, TCP6, SIX), "2001:db8::7"),
    "2, IPv4 in IPv6's clothes": (binary(PROXY, TCP6, IPv6Address("::ffff:192.0.2.7").packed + SIX[16:]), "192.0.2.7"),
    "2, with more behind the addresses": (binary(PROXY, TCP4, FOUR + MORE), "192.0.2.7"),
    "2, the longest": (binary(PROXY, TCP6, SIX.ljust(LIMIT - 16)), "2001:db8::7"),
    "2, UNIX": (binary(PROXY, UNIX, b"/run/haproxy".ljust(216, b"\0")), None),
    "2, UDP4": (binary(PROXY, UDP4, FOUR), None),
    "2, UDP6": (binary(PROXY, UDP6, SIX), None),
    "2, unspecified": (binary(PROXY, UNSPECIFIED, b""), None),
    "2, unspecified, with more": (binary(PROXY, UNSPECIFIED, MORE), None),
    "2, LOCAL": (binary(LOCAL, UNSPECIFIED, b""), None),
    "2, LOCAL, whose family is ignored": (binary(LOCAL, 0xFF, FOUR), None),
    "2, LOCAL, whose addresses are ignored": (binary(LOCAL, TCP4, FOUR + MORE), None),
}

BAD = {
    "SMTP": b"EHLO client.test\r\n",
    "TLS": b"\x16\x03\x01",
    "another case": b"proxy TCP4 192.0.2.7 203.0.113.1 56324 587\r\n",
    "no such family": b"PROXY TCP5 192.0.2.7 203.0.113.1 56324 587\r\n",
    "a family that begins as one": b"PROXY UNKNOWNS\r\n",
    "nothing": b"PROXY \r\n",
    "no ports": b"PROXY TCP4 192.0.2.7 203.0.113.1\r\n",
    "one port": b"PROXY TCP4 192.0.2.7 203.0.113.1 56324\r\n",
    "three ports": b"PROXY TCP4 192.0.2.7 203.0.113.1 56324 587 1\r\n",
    "a port beyond 65535": b"PROXY TCP4 192.0.2.7 203.0.113.1 56324 65536\r\n",
    "a port with a leading zero": b"PROXY TCP4 192.0.2.7 203.0.113.1 56324 0587\r\n",
    "a port with a sign": b"PROXY TCP4 192.0.2.7 203.0.113.1 56324 +587\r\n",
    "a port in other digits": "PROXY TCP4 192.0.2.7 203.0.113.1 56324 ٥٨٧\r\n".encode(),
    "two blanks": b"PROXY TCP4  192.0.2.7 203.0.113.1 56324 587\r\n",
    "a tab": b"PROXY TCP4\t192.0.2.7 203.0.113.1 56324 587\r\n",
    "a blank at the end": b"PROXY TCP4 192.0.2.7 203.0.113.1 56324 587 \r\n",
    "a bare LF": b"PROXY TCP4 192.0.2.7 203.0.113.1 56324 587\nEHLO x\r\n",
    "a bare CR": b"PROXY TCP4 192.0.2.7 203.0.113.1 56324 587\rEHLO x\r\n",
    "an octet of an address beyond 255": b"PROXY TCP4 192.0.2.256 203.0.113.1 56324 587\r\n",
    "an octet with a leading zero": b"PROXY TCP4 192.0.2.07 203.0.113.1 56324 587\r\n",
    "three octets": b"PROXY TCP4 192.0.2 203.0.113.1 56324 587\r\n",
    "a destination that is no address": b"PROXY TCP4 192.0.2.7 here 56324 587\r\n",
    "IPv6 where IPv4 is said": b"PROXY TCP4 ::1 ::1 56324 587\r\n",
    "IPv4 where IPv6 is said": b"PROXY TCP6 192.0.2.7 203.0.113.1 56324 587\r\n",
    "a zone": b"PROXY TCP6 fe80::1%eth0 ::1 56324 587\r\n",
    "too long a line": b"PROXY UNKNOWN".ljust(106) + b"\r\n",
    "a line without end": b"PROXY " + b"x" * 101,
    "2, version 1": binary(0x11, TCP4, FOUR),
    "2, version 3": binary(0x31, TCP4, FOUR),
    "2, no such command": binary(0x22, TCP4, FOUR),
    "2, no such family": binary(PROXY, 0x41, FOUR),
    "2, no such protocol": binary(PROXY, 0x13, FOUR),
    "2, too short for two IPv4 addresses": binary(PROXY, TCP4, FOUR[:11]),
    "2, too short for two IPv6 addresses": binary(PROXY, TCP6, SIX[:35]),
    "2, too long": binary(PROXY, TCP4, FOUR.ljust(LIMIT - 15)),
    "2, too long by far": SIGNATURE + bytes((LOCAL, 0, 0xFF, 0xFF)),
    "2, a signature that is not quite it": SIGNATURE[:-1] + b"\r",
}
FOLLOWS = [b"", b"E", b"EHLO client.test\r\n", b"\x16\x03\x01", b"PROXY UNKNOWN\r\n", b"\r\n"]


@pytest.mark.parametrize("follows", FOLLOWS)
@pytest.mark.parametrize("name", GOOD)
def test_a_header_is_what_it_tells_whatever_follows(name: str, follows: bytes) -> None:
    octets, client = GOOD[name]
    assert parse(octets + follows) == Header(len(octets), client)


@pytest.mark.parametrize("name", GOOD)
def test_each_piece_of_a_header_waits_for_more(name: str) -> None:
    octets, _ = GOOD[name]
    assert {parse(octets[:length]) for length in range(len(octets))} == {None}


@pytest.mark.parametrize("follows", FOLLOWS)
@pytest.mark.parametrize("name", BAD)
def test_what_is_no_header_is_refused_whatever_follows(name: str, follows: bytes) -> None:
    with pytest.raises(HeaderError):
        parse(BAD[name] + follows)


@pytest.mark.parametrize("octets", [b"E", b"PROX ", b"\r\n\r\r", b"\n", b"\x16"])
def test_what_cannot_become_a_header_is_refused_at_its_first_wrong_octet(octets: bytes) -> None:
    assert parse(octets[:-1]) is None
    with pytest.raises(HeaderError):
        parse(octets)


def outcome(octets: bytes) -> Header | str | None:
    try:
        return parse(octets)
    except HeaderError as error:
        return str(error)


pieces = st.one_of(
    st.sampled_from([octets for octets, _ in GOOD.values()] + list(BAD.values())),
    st.sampled_from([b"PROXY ", SIGNATURE, SIGNATURE + b"\x21\x11\0", b" ", b"\r\n", b"TCP4 ", b"::1 ", b"1"]),
    st.binary(max_size=40),
)


@given(st.lists(pieces, max_size=6).map(b"".join))
def test_any_octets_give_the_same_in_any_cutting(octets: bytes) -> None:
    """Nothing is known, then it is, and stays so: whoever feeds it piece by piece hears the same."""
    outcomes = [outcome(octets[:length]) for length in range(min(len(octets), 300) + 1)]
    known = [each for each in outcomes if each is not None]
    assert outcomes == [None] * (len(outcomes) - len(known)) + known[:1] * len(known)
    assert not known or outcome(octets) == known[0]


@given(st.lists(pieces, max_size=6).map(b"".join))
def test_a_header_is_a_part_of_what_came_and_names_an_address(octets: bytes) -> None:
    match outcome(octets):
        case Header(length, client):
            assert 15 <= length <= min(LIMIT, len(octets))
            assert client is None or client == str(IPv6Address(client) if ":" in client else IPv4Address(client))
        case str(reason):
            assert reason.isascii()
            assert len(reason) < 80
        case None:
            assert len(octets) < LIMIT


addresses = st.one_of(
    st.tuples(st.just(TCP4), st.ip_addresses(v=4), st.ip_addresses(v=4)),
    st.tuples(st.just(TCP6), st.ip_addresses(v=6), st.ip_addresses(v=6)),
)
ports = st.integers(min_value=0, max_value=65535)


@given(addresses, ports, ports)
def test_both_versions_tell_the_same(
    told: tuple[int, IPv4Address | IPv6Address, IPv4Address | IPv6Address], source: int, destination: int
) -> None:
    kind, client, server = told
    line = f"PROXY {'TCP4' if kind == TCP4 else 'TCP6'} {client} {server} {source} {destination}\r\n".encode()
    content = client.packed + server.packed + source.to_bytes(2, "big") + destination.to_bytes(2, "big")
    one, two = parse(line), parse(binary(PROXY, kind, content))
    assert one is not None
    assert two is not None
    assert (one.length, two.length) == (len(line), 16 + len(content))
    assert one.client == two.client == str(getattr(client, "ipv4_mapped", None) or client)
