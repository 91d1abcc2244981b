"""The splice: moves octets between client, relay and smarthost until the relay is done."""

import select
import selectors
from collections.abc import Mapping

from sendooway.net.deadline import Deadline
from sendooway.net.stream import ConnectionLost, Stopping, Stream
from sendooway.smtp.relay import Relay, Wait

# Where the time until a client's next message runs, whoever it is that the client waits for.
_BEFORE_THE_MESSAGE = (Wait.CLIENT_COMMAND, Wait.REPLY)


class ClientTimeout(Exception):
    """The client did not speak, or did not listen, for so long."""


def splice(client: Stream, smarthost: Stream, relay: Relay, limits: Mapping[Wait, float], due: Deadline) -> None:
    """Returns when the relay is done and the client has been told all that it said.

    `limits` is in seconds; by `due` the client has to have begun its message, whatever else it says. Raises
    ClientTimeout and Stopping; then the smarthost's connection has to be cut. What befalls the smarthost is told to the
    relay, which knows what to say in its place.
    """
    with _Pump(client, smarthost, relay, limits, due) as pump:
        pump.run()


class _Pump:
    def __init__(
        self, client: Stream, smarthost: Stream, relay: Relay, limits: Mapping[Wait, float], due: Deadline
    ) -> None:
        self._client = client
        self._smarthost = smarthost
        self._relay = relay
        self._limits = limits
        self._due = due
        self._client_gone = False
        self._selector = selectors.PollSelector()  # epoll refuses files, which stdin may be
        self._interest: dict[int, int] = {}
        self._sent = 0
        self._waiting_for: object = None
        self._deadline = Deadline(0)
        if client.stop is not None:
            self._selector.register(client.stop, selectors.EVENT_READ)

    def __enter__(self) -> "_Pump":
        return self

    def __exit__(self, *exception: object) -> None:
        self._selector.close()

    def run(self) -> None:
        while True:
            self._send()
            if self._relay.done and not self._relay.for_client:
                return
            if not self._receive_pending():
                self._wait()

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

    def _receive_pending(self) -> bool:
        """Takes octets that TLS has decrypted already and no poll would tell of; false if there were none."""
        relay = self._relay
        if relay.wants_smarthost and self._smarthost.transport.pending:
            self._receive_from_smarthost()
        elif relay.wants_client and not relay.done and self._client.transport.pending:
            self._receive_from_client()
        else:
            return False
        return True

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

    def _wait(self) -> None:
        relay = self._relay
        wanted: dict[int, int] = {}

        def want(descriptor: int, events: int) -> None:
            wanted[descriptor] = wanted.get(descriptor, 0) | events

        client, smarthost = self._client.transport, self._smarthost.transport
        if relay.wants_client and not relay.done:
            want(client.descriptors()[0], client.read_events)
        if relay.for_client:
            want(client.descriptors()[1], client.write_events)
        if relay.lost is None and not relay.done:
            if relay.wants_smarthost:
                want(smarthost.descriptors()[0], smarthost.read_events)
            if relay.for_smarthost:
                want(smarthost.descriptors()[1], smarthost.write_events)
        self._register(wanted)

        ready = [key.fd for key, _ in self._selector.select(self._seconds_left())]
        if self._client.stop in ready:
            raise Stopping
        if not ready:
            self._late()
        # Writing is tried at each turn, so that only reading has to be told apart here.
        if smarthost.descriptors()[0] in ready and relay.wants_smarthost:
            self._receive_from_smarthost()
        if client.descriptors()[0] in ready and relay.wants_client and not relay.done:
            self._receive_from_client()

    def _register(self, wanted: dict[int, int]) -> None:
        if wanted == self._interest:
            return
        for descriptor in self._interest.keys() - wanted.keys():
            self._selector.unregister(descriptor)
        for descriptor, events in wanted.items():
            mask = (selectors.EVENT_READ if events & select.POLLIN else 0) | (
                selectors.EVENT_WRITE if events & select.POLLOUT else 0
            )
            if descriptor not in self._interest:
                self._selector.register(descriptor, mask)
            elif self._interest[descriptor] != events:
                self._selector.modify(descriptor, mask)
        self._interest = wanted

    def _seconds_left(self) -> float:
        """Of the limit of what is waited for now; it begins anew whenever something has moved."""
        relay = self._relay
        if relay.for_smarthost or relay.for_client:
            waiting_for: object = (bool(relay.for_smarthost), self._sent)
            limit = self._limits[Wait.CLIENT_BODY]
        else:
            waiting_for = (relay.wait, relay.progress)
            limit = self._limits[relay.wait]
        if relay.wait in _BEFORE_THE_MESSAGE:
            limit = min(limit, self._left_until_due())
        if waiting_for != self._waiting_for:
            self._waiting_for = waiting_for
            self._deadline = Deadline(limit)
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
