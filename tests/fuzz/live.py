"""A conversation with the running server: over sockets, through processes, with the login before it.

We are the client and the smarthost, in one thread. For the target `server` both behave until the smarthost has been
told MAIL; from there on they say what the conversation says, in its order. For the target `session` the conversation
begins with greeting and EHLO, so that logins are mutated too. At the end both leave, and the session must end.

Of what `oracle` holds against a relay, these promises can be seen from outside:

1. Each reply is well-formed and belongs to a line, none too many.
2. A smarthost that heard octets of a message heard the client's, in order, behind the Received field; all of them only
   if the client said all of them.
3. The client heard 2yz after its message only if the smarthost that heard all of it said so.
4. The server is alive, no process of it has failed, and the session's agent is gone.
"""

import contextlib
import itertools
import os
import pwd
import re
import select
import socket
import tempfile
import time
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from fuzz import conversation, targets
from fuzz.conversation import CLIENT, SMARTHOST, Conversation, Event
from fuzz.oracle import Exchange, answers, exchanges, in_step, messages, require
from servers.processes import wait_until
from servers.program import Sendooway

PATIENCE = 60.0  # seconds for what must happen
PAUSE = 0.002  # seconds: with nothing to read for so long, the next event comes; what is found depends on none

# `authBackend = none` lets in who runs the server, with any password.
_LOGIN = b64encode(f"\0{pwd.getpwuid(os.geteuid()).pw_name}\0any".encode())
PREFACE = (b"EHLO client.test\r\n", b"AUTH PLAIN " + _LOGIN + b"\r\n", b"MAIL FROM:<alice@moon.test>\r\n")
GREETING = b"220 smarthost.test\r\n"
_RECEIVED = re.compile(rb"Received: from [^\r\n]*\r\n(?:\t[^\r\n]*\r\n)+")

_numbers = itertools.count()  # of the conversations


class Server:
    """Sendooway, with one account whose smarthost is us."""

    def __init__(self, sendooway: Sendooway, listener: socket.socket) -> None:
        self._sendooway = sendooway
        self._listener = listener
        self._log_read = 0
        seeds = conversation.seeds("relay")
        self.targets = [
            targets.conversations("server", seeds, self.run),
            targets.conversations("session", list(map(_from_the_start, seeds)), partial(self.run, behaving=False)),
        ]

    def run(self, script: Conversation, *, behaving: bool = True) -> None:
        """Raises AssertionError where a promise is broken. `behaving`: both sides do, until the smarthost has MAIL."""
        with _Ends(self._sendooway.port, self._listener, script) as ends:
            ends.play(behaving=behaving)
        _check(ends)
        require(self._sendooway.process.poll() is None, "4: the server has ended")
        log = self._sendooway.log
        news, self._log_read = log[self._log_read :], len(log)
        for word in ("Traceback", "process-failed", "reason=crash", "agent-lost"):
            require(word not in news, f"4: {word} in the log", news)

    def has_let_go(self) -> None:
        """No agent is left when the sessions have ended."""
        wait_until(lambda: not self._sendooway.role("agent"), "the end of all agents", PATIENCE)


@contextlib.contextmanager
def server() -> Iterator[Server]:
    with (
        tempfile.TemporaryDirectory(prefix="sendooway-fuzz-") as folder,
        socket.create_server(("127.0.0.1", 0)) as listener,
    ):
        port = listener.getsockname()[1]
        configuration = (
            f"localname = proxy.test\nauthBackend = none\nsmarthostMapping = direct:* 127.0.0.1 {port} - - noAuth\n"
        )
        with Sendooway(Path(folder), configuration) as sendooway:
            server = Server(sendooway, listener)
            yield server
            server.has_let_go()


class _End:
    """One end of a connection, ours: what it said and heard so far."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.socket = connection
        self.said = self.heard = b""
        self.waits = self.ended = self.closed = False
        self._unsent = b""

    def say(self, octets: bytes) -> None:
        if not self.closed:
            self._unsent += octets
            self.push()

    def push(self) -> None:
        """As much as the other side takes now."""
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while self._unsent and not self.ended:
                sent = self.socket.send(self._unsent)
                self.said += self._unsent[:sent]
                self._unsent = self._unsent[sent:]

    def hear(self) -> None:
        try:
            octets = self.socket.recv(1 << 16)
        except ConnectionError:
            octets = b""
        self.heard += octets
        self.ended = not octets

    def finish(self) -> None:
        """Say no more."""
        if not self.closed:
            self.closed = True
            with contextlib.suppress(OSError):
                self.socket.shutdown(socket.SHUT_WR)


def _from_the_start(seed: Conversation) -> Conversation:
    """With what comes before MAIL."""
    before = [Event(CLIENT, line) for line in PREFACE]
    before += [Event(SMARTHOST, GREETING), Event(SMARTHOST, _offers(seed))]
    return replace(seed, events=(*before, *seed.events))


def _offers(script: Conversation) -> bytes:
    offers = ["smarthost.test", *script.offers]
    return b"".join(f"250-{offer}\r\n".encode("ascii") for offer in offers) + b"250 SIZE\r\n"


class _Ends:
    def __init__(self, port: int, listener: socket.socket, script: Conversation) -> None:
        self._listener = listener
        self._script = script
        # From an address of its own, as failed logins from one make the next ones wait.
        block, host = divmod(next(_numbers) % (254 * 256), 254)
        address = f"127.2.{block}.{host + 1}"
        self.client = _End(socket.create_connection(("127.0.0.1", port), source_address=(address, 0)))
        self.smarthosts: list[_End] = []
        self._smarthost_waits = self._leaving = self._waited = False
        self._behaving = True
        self._prepared: set[_End] = set()

    def __enter__(self) -> "_Ends":
        return self

    def __exit__(self, *exception: object) -> None:
        for end in (self.client, *self.smarthosts):
            end.socket.close()

    def play(self, *, behaving: bool) -> None:
        self._behaving = behaving
        if behaving:
            for number, line in enumerate(PREFACE, 1):
                self._until(lambda number=number: self._replies() >= number, "the client is answered")
                self.client.say(line)
            self._until(lambda: self._prepared, "the smarthost is told MAIL")
        for event in self._script.events:
            self._do(event)
            while self._listen(PAUSE):
                pass
        self.client.waits = self._smarthost_waits = False
        self.client.finish()
        while self._listen(PAUSE):
            pass
        self._leaving = True
        for smarthost in self.smarthosts:
            smarthost.finish()
        self._until(lambda: self.client.ended, "the session ends")

    def _do(self, event: Event) -> None:
        match event.kind, event.octets:
            case "C", octets:
                self.client.say(octets)
            case "<", octets:
                self._wait_for_smarthost()
                if self.smarthosts:
                    self.smarthosts[-1].say(octets)
            case _, b"client closes":
                self.client.finish()
            case _, b"smarthost closes":
                for smarthost in self.smarthosts[-1:]:
                    smarthost.finish()
            case _, what:
                who, verb = what.split()
                if who == b"client":
                    self.client.waits = verb == b"waits"
                else:
                    self._smarthost_waits = verb == b"waits"

    def _wait_for_smarthost(self) -> None:
        """The first time that it is to speak, it may not be there yet; perhaps it never will."""
        while not self.smarthosts and not self._waited:
            self._waited = not self._listen(0.5)

    def _replies(self) -> int:
        return sum(1 for _ in answers(self.client.heard))

    def _until(self, condition: object, what: str) -> None:
        assert callable(condition)
        deadline = time.monotonic() + PATIENCE
        while not condition():
            require(time.monotonic() < deadline, f"4: in vain waited until {what}", self.client.heard)
            self._listen(0.5)

    def _listen(self, seconds: float) -> bool:
        """Hear what there is to hear; false if there was nothing for so long."""
        ends = [self.client, *self.smarthosts]
        for end in ends:
            end.push()
        waits = {self.client: self.client.waits, **dict.fromkeys(self.smarthosts, self._smarthost_waits)}
        listening = {end.socket: end for end in ends if not waits[end] and not end.ended}
        ready = select.select([self._listener, *listening], [], [], seconds)[0]
        if self._listener in ready:
            smarthost = _End(self._listener.accept()[0])
            self.smarthosts.append(smarthost)
            if self._behaving:
                smarthost.say(GREETING)
            if self._leaving:
                smarthost.finish()
        for connection in ready:
            if connection in listening:
                listening[connection].hear()
                self._prepare(listening[connection])
        return bool(ready)

    def _prepare(self, end: _End) -> None:
        """A smarthost behaves until it is told MAIL."""
        if end is self.client or end in self._prepared or not self._behaving:
            return
        lines = end.heard.split(b"\r\n")
        if any(line.startswith(b"MAIL") for line in lines):
            self._prepared.add(end)
        elif len(lines) == 2 and lines[0].startswith(b"EHLO") and end.said.count(b"\n") == 1:
            end.say(_offers(self._script))


def _check(ends: _Ends) -> None:
    heard = list(answers(ends.client.heard))
    whole = heard[-1].end if heard else 0
    require(whole == len(ends.client.heard), "1: what the client heard is no reply", ends.client.heard[whole:])
    # Both dialogues begin with a greeting: a reply to nothing.
    mine = messages(*exchanges(b"\r\n" + ends.client.said, heard))
    theirs: list[Exchange] = []
    for smarthost in ends.smarthosts:
        said = b"\r\n" + smarthost.heard
        theirs += messages(*exchanges(said, in_step(said, smarthost.said)))
    candidates = iter(mine)
    agreed = []
    for their in theirs:
        if not their.message:
            continue
        received = _RECEIVED.match(their.message)
        content = their.message[received.end() :] if received else b""
        require(received or b"Received:".startswith(their.message[:9]), "2: no Received field", their.message)
        mine_of_it = next((each for each in candidates if each.message and each.message.startswith(content)), None)
        require(mine_of_it is not None or not content, "2: a message that the client did not say", their.message)
        if their.complete:
            require(mine_of_it and mine_of_it.complete, "2: completed, and not by the client", their.message)
            require(mine_of_it and mine_of_it.message == content, "2: it ends early", their.message)
            if their.verdict is not None and their.verdict.positive:
                agreed.append((mine_of_it, their.verdict))
    for exchange in mine:
        if exchange.verdict is not None and exchange.verdict.positive:
            require(
                any(other is exchange and exchange.verdict.repeats(verdict) for other, verdict in agreed),
                "3: no smarthost said so",
                exchange,
            )
