"""SRV records. The only module that imports dnspython, and only when it is used: that takes 50 ms."""

import socket
from functools import partial
from typing import TYPE_CHECKING

from sendooway.discovery.search import Absent, DnsAnswer, Service, Target, Unreachable
from sendooway.net.deadline import Deadline
from sendooway.net.together import together

if TYPE_CHECKING:
    from dns.resolver import Resolver


class Dns:
    """Asks the system's name servers or, where one is named, the one at this numeric address and port."""

    def __init__(self, server: tuple[str, int] | None = None) -> None:
        self._server = server

    def ask(self, names: tuple[str, ...], deadline: Deadline) -> tuple[DnsAnswer, ...]:
        """The SRV records of each name, in the order of the names; all are asked at once."""
        from dns.exception import DNSException
        from dns.resolver import Resolver

        try:
            resolver = Resolver(configure=self._server is None)
        except (DNSException, OSError) as error:
            # No /etc/resolv.conf, or nothing in it.
            return (Unreachable(f"no name server is known: {_one_line(error)}"),) * len(names)
        if self._server is not None:
            resolver.nameservers = [self._server[0]]
            resolver.port = self._server[1]
        return tuple(together([partial(_ask, resolver, name, deadline) for name in names]))


def _ask(resolver: "Resolver", name: str, deadline: Deadline) -> DnsAnswer:
    from dns.exception import DNSException, Timeout
    from dns.resolver import NXDOMAIN, NoAnswer, NoNameservers

    try:
        answer = resolver.resolve(f"{name}.", "SRV", lifetime=deadline.left())
        records = [(one.priority, one.weight, one.port, one.target.to_text(omit_final_dot=True)) for one in answer]
    except (NXDOMAIN, NoAnswer):
        return Absent("no such record")
    except (Timeout, TimeoutError):
        return Unreachable(f"no name server answered within {deadline.seconds:g} seconds")
    except NoNameservers as error:
        return Unreachable(_one_line(error))
    # What a hostile server sends may be wrong in more ways than dnspython has exceptions of its own for.
    except (DNSException, OSError, ValueError) as error:
        return Unreachable(f"no usable answer: {_one_line(error)}")
    return Service(tuple(Target(priority, weight, port, host.rstrip(".")) for priority, weight, port, host in records))


def _one_line(error: Exception) -> str:
    text = str(error) if not isinstance(error, socket.gaierror) else str(error.strerror)
    return " ".join(text.split())[:200] or type(error).__name__
