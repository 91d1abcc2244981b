"""A DNS server on loopback: UDP, SRV records from a table, and answers that no honest server gives."""

import socket
import threading
from collections.abc import Mapping
from enum import Enum
from types import TracebackType

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
from servers.processes import PATIENCE


class Oddity(Enum):
    """What comes in place of records."""

    SILENCE = "no answer"
    GARBAGE = "octets that are no message"
    FAILURE = "SERVFAIL"
    OTHER_NAME = "records of another name"


Records = tuple[str, ...] | Oddity
"""SRV records as text, `PRIORITY WEIGHT PORT TARGET`; none: the name exists, without any."""


class NameServer:
    """Answers on 127.0.0.1:`port` inside a `with`. Names are without the final dot; others do not exist."""

    def __init__(self, records: Mapping[str, Records]) -> None:
        self.asked: list[str] = []
        self._records = records
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> "NameServer":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stopper:
            stopper.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            octets, client = self._socket.recvfrom(4096)
            if not octets:
                return
            answer = self._answer(dns.message.from_wire(octets))
            if answer is not None:
                self._socket.sendto(answer, client)

    def _answer(self, query: dns.message.Message) -> bytes | None:
        name = query.question[0].name
        text = name.to_text(omit_final_dot=True)
        self.asked.append(text)
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA
        match self._records.get(text):
            case None:
                response.set_rcode(dns.rcode.NXDOMAIN)
            case Oddity.SILENCE:
                return None
            case Oddity.GARBAGE:
                return octets_of_garbage(query)
            case Oddity.FAILURE:
                response.set_rcode(dns.rcode.SERVFAIL)
            case Oddity.OTHER_NAME:
                response.answer.append(
                    dns.rrset.from_text("elsewhere.test.", 60, "IN", "SRV", "0 0 465 smtp.moon.test.")
                )
            case records if records:
                response.answer.append(dns.rrset.from_text(name, 60, "IN", "SRV", *records))
        return response.to_wire()


def octets_of_garbage(query: dns.message.Message) -> bytes:
    """With the id of the query, since a client waits for more where it does not fit."""
    return query.id.to_bytes(2) + b"\x81\x80\x00\x01\xff\xff\x00\x00\x00\x00" + b"\xc0" * 40
