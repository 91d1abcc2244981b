"""The splice: moves octets between client, relay and smarthost until the relay is done."""

import select
from collections.abc import Mapping

from sendooway.net.deadline import Deadline
from sendooway.net.stream import ConnectionLost, Stopping, Stream
from sendooway.smtp.relay import Relay, Wait

# While these are waited for, the client has not begun its message: then `due` counts, too.
_BEFORE_THE_MESSAGE = (Wait.CLIENT_COMMAND, Wait.REPLY)


class ClientTimeout(Exception):
    """The client did not speak, or did not listen, for so long."""


def splice(client: Stream, smarthost: Stream, relay: Relay, limits: Mapping[Wait, float], due: Deadline) -> None:
    """Returns when the relay is done and the client has been told all that it said.

    `limits` are the seconds for each wait; by `due` the client must have begun its message, whatever else it says.
    Raises ClientTimeout and Stopping; then the caller has to cut the smarthost's connection. What goes wrong with the
    smarthost is told to the relay, which answers in its place.
    """
    _Pump(client, smarthost, relay, limits, due).run()


class _Pump:
    """One splice. A turn of `run` sends what it can, then receives from whoever is ready."""

    def __init__(
        self, client: Stream, smarthost: Stream, relay: Relay, limits: Mapping[Wait, float], due: Deadline
    ) -> None:
        self._client = client
        self._smarthost = smarthost
        self._relay = relay
        self._limits = limits
        self._due = due
        self._client_gone = False
        # For reading and for writing, of the client and of the smarthost: they stay the same while a mail passes.
        self._descriptors = (*client.transport.descriptors(), *smarthost.transport.descriptors())
        self._wanted = (0, 0, 0, 0)  # events of poll(2) for each of them
        self._poll = self._make_poll()
        self._sent = 0
        self._waiting_for: object = None
        self._deadline = Deadline(0)

    def run(self) -> None:
        while True:
            self._send()
            if self._relay.done and not self._relay.for_client:
                return
            self._receive()

    # Sending

    def _send(self) -> None:
        relay = self._relay
        if relay.for_client:
            try:
                self._sent += self._send_some(self._client, relay.for_client)
                relay.client_listened()
            except ConnectionLost:
                self._lose_client()
        if self._client_gone:
            relay.for_client.clear()
        if relay.for_smarthost and relay.lost is None:
            try:
                self._sent += self._send_some(self._smarthost, relay.for_smarthost)
            except ConnectionLost as error:
                self._hear_last_words()
                relay.lose(str(error))

    @staticmethod
    def _send_some(stream: Stream, octets: bytearray) -> int:
        sent = stream.transport.send_now(octets)
        del octets[:sent]
        return sent

    def _hear_last_words(self) -> None:
        """A smarthost that closes may have said why before."""
        try:
            while self._relay.lost is None and (octets := self._smarthost.transport.receive_now()):
                self._relay.receive_from_smarthost(octets)
        except ConnectionLost:
            return  # it had none

    # Receiving

    def _receive(self) -> None:
        """Receive from whoever has said something; wait where nobody has yet."""
        relay = self._relay
        client_reads, smarthost_reads = relay.wants_client, relay.wants_smarthost
        ready = self._wait(client_reads, smarthost_reads)
        # Writing is tried at each turn, so that only reading has to be told apart here.
        client_reading, _, smarthost_reading, _ = self._descriptors
        if smarthost_reads and smarthost_reading in ready:
            self._receive_from_smarthost()
        if client_reading in ready and relay.wants_client:  # still
            self._receive_from_client()

    def _receive_from_client(self) -> None:
        try:
            octets = self._client.transport.receive_now()
        except ConnectionLost:
            self._lose_client()
            return
        if octets:
            self._relay.receive_from_client(octets)
        elif octets is not None:
            self._relay.client_closed()

    def _lose_client(self) -> None:
        self._client_gone = True
        self._relay.client_closed()

    def _receive_from_smarthost(self) -> None:
        try:
            octets = self._smarthost.transport.receive_now()
        except ConnectionLost as error:
            self._relay.lose(str(error))
            return
        if octets:
            self._relay.receive_from_smarthost(octets)
        elif octets is not None:
            self._relay.lose("it closed the connection")

    # Waiting

    def _wait(self, client_reads: bool, smarthost_reads: bool) -> list[int]:
        """The descriptors that are ready."""
        relay, client, smarthost = self._relay, self._client.transport, self._smarthost.transport
        smarthost_writes = relay.for_smarthost and relay.lost is None and not relay.done
        wanted = (
            client.read_events if client_reads else 0,
            client.write_events if relay.for_client else 0,
            smarthost.read_events if smarthost_reads else 0,
            smarthost.write_events if smarthost_writes else 0,
        )
        if wanted != self._wanted:
            self._wanted = wanted
            self._poll = self._make_poll()
        ready = [descriptor for descriptor, _ in self._poll.poll(self._seconds_left() * 1000)]
        if not ready:
            self._late()
        elif self._client.stop in ready:
            raise Stopping
        return ready

    def _make_poll(self) -> select.poll:
        interest = dict.fromkeys(self._descriptors, 0)
        for descriptor, events in zip(self._descriptors, self._wanted, strict=True):
            interest[descriptor] |= events
        poll = select.poll()  # epoll refuses files, which stdin may be
        for descriptor, events in interest.items():
            if events:  # without, it would still tell of hang-ups, again and again
                poll.register(descriptor, events)
        if self._client.stop is not None:
            poll.register(self._client.stop, select.POLLIN)
        return poll

    def _seconds_left(self) -> float:
        """What is left of the limit for the present wait, which begins anew whenever octets have moved."""
        relay, wait = self._relay, self._relay.wait
        if relay.for_smarthost or relay.for_client:
            waiting_for: object = (bool(relay.for_smarthost), self._sent)
            limit = self._limits[Wait.CLIENT_BODY]
        else:
            waiting_for = (wait, relay.progress)
            limit = self._limits[wait]
        if wait in _BEFORE_THE_MESSAGE:
            limit = min(limit, self._left_until_due())
        if waiting_for != self._waiting_for:
            self._waiting_for = waiting_for
            self._deadline = Deadline(limit)
            return limit
        try:
            return self._deadline.left()
        except TimeoutError:
            return 0

    def _left_until_due(self) -> float:
        try:
            return self._due.left()
        except TimeoutError:
            raise ClientTimeout(f"no message within {self._due.seconds:g} seconds") from None

    def _late(self) -> None:
        """Nothing moved within the limit. Whose fault is it?"""
        relay, seconds = self._relay, self._deadline.seconds
        if relay.wait in _BEFORE_THE_MESSAGE:
            self._left_until_due()
        if relay.for_smarthost:
            relay.lose(f"it took no octets for {seconds:g} seconds")
        elif relay.for_client or relay.wait in (Wait.CLIENT_COMMAND, Wait.CLIENT_BODY):
            raise ClientTimeout(f"nothing for {seconds:g} seconds")
        else:
            relay.lose(f"no {relay.wait.value} within {seconds:g} seconds")
