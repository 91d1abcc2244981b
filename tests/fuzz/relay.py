"""A conversation against the relay alone, without sockets, clocks and threads: thousands in a second."""

from fuzz.conversation import CLIENT, SMARTHOST, Conversation
from fuzz.oracle import Record, check, require

from sendooway.smtp import relay as relays
from sendooway.smtp.capabilities import Capabilities
from sendooway.smtp.command import Envelope
from sendooway.smtp.lines import LineReader
from sendooway.smtp.relay import Relay

_PIECE = 65536


class Played:
    """Feeds a relay as the pump does: a side is read only while the relay wants it, and hears only what it reads."""

    def __init__(self, conversation: Conversation) -> None:
        self._lines = LineReader()
        self._relay = Relay(
            self._lines,
            Envelope("alice@moon.test", {}),
            Capabilities(dict.fromkeys(conversation.offers, "")),
            trace=conversation.trace,
        )
        self._conversation = conversation
        self._arrived = {CLIENT: bytearray(), SMARTHOST: bytearray()}
        self._waits = {CLIENT: False, SMARTHOST: False}
        self._closes = {CLIENT: False, SMARTHOST: False}
        self._client_said = self._client_heard = self._smarthost_said = self._smarthost_heard = b""
        self._said_when: list[tuple[int, int]] = []

    def run(self) -> Record:
        """To the end, where both sides read all there is and then leave."""
        self._move()
        for event in self._conversation.events:
            if event.kind in self._arrived:
                if not self._closes[event.kind]:
                    self._arrived[event.kind] += event.octets
            else:
                who, what = event.octets.decode("ascii").split()
                self._happen(CLIENT if who == "client" else SMARTHOST, what)
            self._move()
        for what in ("listens", "closes"):
            for side in (CLIENT, SMARTHOST):
                self._happen(side, what)
                self._move()
        require(self._relay.done, "both sides are gone, and the relay goes on")
        return Record(
            self._conversation.trace,
            self._client_said,
            self._client_heard,
            self._smarthost_said,
            self._smarthost_heard,
            self._said_when,
            self._lines.take(),
        )

    def _happen(self, side: str, what: str) -> None:
        if what == "closes":
            self._closes[side] = True
        else:
            self._waits[side] = what == "waits"

    def _move(self) -> None:
        """Until nothing moves any more."""
        while self._listen() or self._speak():
            pass

    def _listen(self) -> bool:
        relay, moved = self._relay, False
        if relay.for_client and not self._waits[CLIENT]:
            self._client_heard += relay.for_client
            relay.for_client.clear()
            relay.client_listened()
            moved = True
        if relay.for_smarthost and relay.lost is None and not self._waits[SMARTHOST]:
            self._smarthost_heard += relay.for_smarthost
            relay.for_smarthost.clear()
            moved = True
        require(len(relay.for_client) < 4 * relays.ROOM, "the relay keeps too much for the client")
        require(len(relay.for_smarthost) < 4 * relays.ROOM, "the relay keeps too much for the smarthost")
        return moved

    def _speak(self) -> bool:
        relay = self._relay
        if relay.wants_smarthost and not relay.done:
            if piece := self._take(SMARTHOST):
                self._smarthost_said += piece
                self._said_when.append((len(self._smarthost_said), len(self._smarthost_heard)))
                relay.receive_from_smarthost(piece)
                return True
            if self._closes[SMARTHOST]:
                relay.lose("it closed the connection")
                return True
        if relay.wants_client and not relay.done:
            if piece := self._take(CLIENT):
                self._client_said += piece
                relay.receive_from_client(piece)
                return True
            if self._closes[CLIENT]:
                relay.client_closed()
                return True
        return False

    def _take(self, side: str) -> bytes:
        arrived = self._arrived[side]
        piece = bytes(arrived[:_PIECE])
        del arrived[:_PIECE]
        return piece


def run(conversation: Conversation) -> None:
    """Raises Violation if the relay breaks a promise, and whatever the relay raises, which it must not."""
    check(Played(conversation).run())
