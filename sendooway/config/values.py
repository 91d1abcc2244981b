"""How single values of sendooway.conf are read.

In goes text without comment and surrounding blanks, out comes what `Configuration` and `UserSettings` hold. Each reader
raises ValueError with a predicate that fits behind the value and says what would be right: "is not yes or no".
"""

import re
from collections.abc import Callable
from enum import Enum

from sendooway.config import MECHANISMS, SERVICES, Listen
from sendooway.secret import Secret

# What fits in the kernel's sun_path with its NUL, see unix(7).
_MAX_SOCKET_PATH = 107
# Beyond this, settimeout() overflows and the SIZE of RFC 1870 3. (20 digits) does not matter any more.
_MAX_SECONDS = 2**31 - 1
_MAX_OCTETS = 2**63 - 1

# Compiled at first use, which a start with a plain configuration never comes to.
_LOCALNAME = r"[A-Za-z0-9._-]{1,255}|\[[A-Za-z0-9.:-]{1,253}\]"


def one_of(words: type[Enum]) -> Callable[[str], Enum]:
    """The reader of an enumeration whose values are the words of the manual."""
    members = {str(member.value).lower(): member for member in words}

    def read_word(value: str) -> Enum:
        try:
            return members[value.lower()]
        except KeyError:
            raise ValueError("is not " + either([str(member.value) for member in words])) from None

    return read_word


def either(words: list[str]) -> str:
    """`a, b or c`, for messages."""
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def yes_or_no(value: str) -> bool:
    match value.lower():
        case "yes":
            return True
        case "no":
            return False
        case _:
            raise ValueError("is not yes or no")


def _number(value: str, least: int, most: int) -> int:
    # isdecimal() alone is true for digits of all scripts.
    if not (value.isascii() and value.isdecimal() and least <= int(value) <= most):
        raise ValueError(f"is not a number from {least} to {most}")
    return int(value)


def seconds(value: str) -> int:
    return _number(value, 1, _MAX_SECONDS)


def from_one_to(most: int) -> Callable[[str], int]:
    """The reader of a number that has to be at least 1."""
    return lambda value: _number(value, 1, most)


def seconds_or_zero(value: str) -> int:
    """Where 0 stands for never."""
    return _number(value, 0, _MAX_SECONDS)


def size(value: str) -> int | None:
    """A number of octets, 0 for no limit; None for `disable`."""
    if value.lower() == "disable":
        return None
    try:
        return _number(value, 0, _MAX_OCTETS)
    except ValueError:
        raise ValueError("is not `disable` or a number of octets (0: no limit)") from None


def mechanisms(value: str) -> tuple[str, ...]:
    """In the order in which they are offered."""
    wanted = {word.upper() for word in re.split(r"[ \t,]+", value)}
    if not wanted <= set(MECHANISMS):
        raise ValueError(f"is not a list of {either(list(MECHANISMS))} apart by blanks")
    return tuple(mechanism for mechanism in MECHANISMS if mechanism in wanted)


def keytab(value: str) -> str:
    """An absolute path."""
    path = value.removeprefix("FILE:")
    if not path.startswith("/"):
        raise ValueError("is not the absolute path of a keytab, as in /etc/krb5.keytab")
    return path


def text(value: str) -> str:
    return value


def localname(value: str) -> str:
    """A host name, or an address in brackets."""
    # It becomes part of the greeting, of EHLO and of Received, where a blank would end it.
    if not re.fullmatch(_LOCALNAME, value):
        raise ValueError("is not a host name in ASCII, as in mail.example.org")
    return value


def word(value: str) -> str:
    """A name without blanks."""
    if " " in value or "\t" in value:
        raise ValueError("is not one name; no name has blanks in it")
    return value


def template(value: str) -> str:
    """A path with %u, %h and %% in it, which `accounts.lookup.expand` fills in."""
    if re.sub("%[uh%]", "", value).count("%"):
        raise ValueError("has a `%` that is not part of %u (user name), %h (home folder) or %%")
    return value


def user_dn(value: str) -> str:
    """A DN with %u and %% in it, which `auth.ldap.format_dn` fills in."""
    # Without %u, one entry's password would open every account.
    signs = re.sub("%[u%]", "", value).count("%")
    if "=" not in value or "%u" not in value.replace("%%", "") or signs or not value.isprintable():
        raise ValueError("is not a DN with the user name in it, as in uid=%u,ou=people,dc=example,dc=org")
    return value


def uris(value: str) -> tuple[str, ...]:
    from sendooway.config import ldap_uri

    servers = tuple(value.split())
    try:
        for server in servers:
            ldap_uri.parse(server)
    except ValueError:
        raise ValueError("is not a list of ldap://HOST:PORT or ldaps://HOST:PORT apart by blanks") from None
    return servers


def permitted(value: str) -> tuple[str, ...]:
    """A user, or a %group."""
    if value == "%":
        raise ValueError("names no group; %staff would be the members of the group staff")
    return (word(value),)


def parse_port(value: str) -> int:
    """The number of a TCP port to listen on: itself, or one of smtp, submission, submissions, smtps.

    Raises ValueError, with a predicate that says what would be right, for all else.
    """
    if value.lower() in SERVICES:
        return SERVICES[value.lower()]
    try:
        return _number(value, 1, 65535)
    except ValueError:
        raise ValueError(f"is not a port: a number from 1 to 65535, {either(list(SERVICES))}") from None


def listen(value: str) -> tuple[Listen, ...]:
    """One place, or two where the host has an IPv4 and an IPv6 address."""
    words = value.split()
    tls = len(words) > 1 and words[-1].lower() == "tls"
    if len(words) != 1 + tls:
        raise ValueError("is not ADDRESS:PORT or unix:PATH, with or without ` tls` behind it")
    if words[0][:5].lower() == "unix:":
        path = words[0][5:]
        if not path.startswith("/") or len(path.encode("utf-8", "surrogateescape")) > _MAX_SOCKET_PATH:
            raise ValueError(f"does not name an absolute path of at most {_MAX_SOCKET_PATH} octets")
        return (Listen(path=path, tls=tls),)
    host, _, service = words[0].rpartition(":")
    port = parse_port(service)
    return tuple(Listen(address, port, tls=tls) for address in _addresses(host))


def _addresses(host: str) -> tuple[str, ...]:
    """The numeric addresses that `*` (empty), `localhost`, an IPv4 or, in brackets, an IPv6 address stands for."""
    if host == "*":
        return ("",)
    if host.lower() == "localhost":
        return ("127.0.0.1", "::1")
    import ipaddress  # a millisecond that a start without `listen` saves

    try:
        if host.startswith("[") and host.endswith("]"):
            return (str(ipaddress.IPv6Address(host[1:-1])),)
        return (str(ipaddress.IPv4Address(host)),)
    except ValueError:
        raise ValueError(
            "has no address we know before the port: 192.0.2.1, [2001:db8::1], localhost or * would be right"
        ) from None


def networks(value: str) -> tuple[str, ...]:
    """As in 192.0.2.0/24, each in its one form."""
    return tuple(map(_network, value.split()))


def _network(word: str) -> str:
    """An address without a length is the network of that one host."""
    import ipaddress

    address, slash, length = word.partition("/")
    try:
        # Masks with dots and zones, which ip_network takes, are more than anybody needs to understand.
        if "%" in address or (slash and not (length.isascii() and length.isdecimal())):
            raise ValueError
        network = ipaddress.ip_network(word, strict=False)
    except ValueError:
        raise ValueError(
            f"has {word[:60]!r} in it, no address or network; 192.0.2.1 2001:db8::/64 would be right"
        ) from None
    if isinstance(network.network_address, ipaddress.IPv6Address) and network.network_address.ipv4_mapped:
        raise ValueError(
            f"has {word[:60]!r} in it; {network.network_address.ipv4_mapped} is an IPv4 address, write it so"
        )
    if network.prefixlen == 0:
        raise ValueError(f"has {word[:60]!r} in it, which is everybody; only balancers may be believed")
    if slash and ipaddress.ip_address(address) != network.network_address:
        raise ValueError(f"has {word[:60]!r} in it, an address within a network; {network} or {address} would be right")
    return str(network)


def mapping(value: str) -> tuple[tuple[str, Secret], ...]:
    """The source, in lower case, and its argument."""
    source, _, argument = (part.strip() for part in value.partition(":"))
    if not (source.isascii() and source.isalnum() and argument):
        raise ValueError("is not SOURCE:ARGUMENT, as in getmail:%h/.getmail/getmailrc")
    return ((source.lower(), Secret(argument.encode("utf-8", "surrogateescape"))),)
