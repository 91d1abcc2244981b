"""Receives the PROXY header, with which a balancer tells at the beginning of a connection whose it is."""

import select
import socket

from sendooway.net.deadline import Deadline
from sendooway.net.proxy_protocol import LIMIT, HeaderError, parse
from sendooway.net.stream import ConnectionLost, SocketTransport, Stream

# A balancer sends its header at once. This leaves TCP time to send it three times more, after 1, 3 and 7 s (RFC 6298).
HEADER_SECONDS = 10.0


def receive_told(balancer: Stream) -> str | None:
    """The client's address that the PROXY header tells, None as in `proxy_protocol.Header`.

    Takes the header from the connection, and no octet of what follows it. Raises HeaderError where it is malformed, or
    does not come whole within HEADER_SECONDS; Stopping.
    """
    transport = balancer.transport
    assert isinstance(transport, SocketTransport)  # nothing else has an address that could be trusted
    deadline, begun = Deadline(HEADER_SECONDS), b""
    try:
        while True:
            while (seen := transport.receive_now(LIMIT, socket.MSG_PEEK)) is None:
                balancer.wait(transport.socket.fileno(), select.POLLIN, deadline)
            if not seen:
                raise HeaderError(f"the connection ended {'within' if begun else 'without'} a PROXY header")
            header = parse(begun + seen)
            if header is not None:
                transport.receive_now(header.length - len(begun))
                return header.client
            # All of it belongs to the header, so it can be taken. Else it would keep us from waiting for more.
            begun += transport.receive_now(len(seen)) or b""
    except TimeoutError:
        raise HeaderError(f"no{' whole' if begun else ''} PROXY header within {deadline.seconds:g} seconds") from None
    except ConnectionLost as error:
        raise HeaderError(f"the connection broke before its PROXY header: {error}") from None
