"""Smarthosts that mostly behave: each reply is, by a small chance, something else, as in a bad year."""

import asyncio
import contextlib
import logging
import re
import socket
import ssl
import struct
from collections.abc import Sequence
from random import Random

from soak.ledger import Ledger

# asyncio warns of each write to a connection that the other side has reset.
logging.getLogger("asyncio").setLevel(logging.ERROR)

FAULT = 0.015  # the chance at each reply
STALL = 15.0  # seconds, more than the server waits

_RECEIVED = re.compile(rb"Received: [^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*")
_END = b"\r\n.\r\n"


class Fault(Exception):
    """This connection is over."""


class Smarthost:
    """Serves 127.0.0.1:`port`. With a context it offers STARTTLS and a login."""

    def __init__(self, ledger: Ledger, random: Random, context: ssl.SSLContext | None) -> None:
        self._ledger = ledger
        self._random = random
        self._context = context
        self.port = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 24)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(self._ledger, self._random, self._context, reader, writer)
        # Cancelled is what is still open when all is over.
        ended = (Fault, OSError, EOFError, asyncio.LimitOverrunError, asyncio.CancelledError, ssl.SSLError)
        with contextlib.suppress(*ended):
            await connection.run()
        with contextlib.suppress(OSError, RuntimeError):
            writer.transport.abort()


_KINDS = ("reset", "close", "stall", "garbage", "refuse", "bye", "flood", "twice")


class _Connection:
    def __init__(
        self,
        ledger: Ledger,
        random: Random,
        context: ssl.SSLContext | None,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._ledger, self._random, self._context = ledger, random, context
        self._reader, self._writer = reader, writer
        self._chunks = b""

    async def run(self) -> None:
        self._ledger.counts["connections to smarthosts"] += 1
        await self._say(b"220 smarthost.test ESMTP\r\n")
        while True:
            line = await self._reader.readuntil(b"\r\n")
            match line.split()[0].upper() if line.split() else b"":
                case b"EHLO":
                    await self._say(self._offers())
                case b"STARTTLS" if self._context:
                    await self._say(b"220 2.0.0 Go\r\n")
                    await self._writer.start_tls(self._context)
                case b"AUTH":
                    await self._say(b"235 2.7.0 Welcome\r\n")
                case b"DATA":
                    if await self._say(b"354 Go on\r\n"):
                        await self._take()
                case b"BDAT":
                    await self._take_chunk(line)
                case b"QUIT":
                    await self._say(b"221 2.0.0 Bye\r\n")
                    return
                case b"MAIL" | b"RCPT" | b"RSET":
                    self._chunks = b""
                    await self._say(b"250 2.0.0 Ok\r\n")
                case _:
                    await self._say(b"500 5.5.1 What?\r\n")

    def _offers(self) -> bytes:
        secure = self._writer.get_extra_info("ssl_object") is not None
        offers = [b"PIPELINING"] * self._random.randrange(2) + [b"CHUNKING"] * self._random.randrange(2)
        offers += [b"8BITMIME", b"SIZE 50000000", b"ENHANCEDSTATUSCODES"]
        if self._context:
            offers.append(b"AUTH PLAIN" if secure else b"STARTTLS")
        return b"".join(b"250-%s\r\n" % offer for offer in [b"smarthost.test", *offers]) + b"250 HELP\r\n"

    async def _take(self) -> None:
        content = b"\r\n"
        while not content.endswith(_END):
            # Not readuntil: an empty message ends at its first line.
            content += await self._reader.readuntil(b"\n")
            if self._random.random() < FAULT / 100:
                # To agree before the end would be a lie that nobody can see through once all octets are under way.
                await self._fail(["reset", "close", "stall", "garbage", "refuse", "bye", "flood"])
        await self._complete(content[2:-3].replace(b"\r\n.", b"\r\n"))

    async def _take_chunk(self, line: bytes) -> None:
        _, size, *last = line.split()
        if self._random.random() < FAULT:
            await self._fail(["reset", "close", "stall", "garbage", "refuse", "bye", "flood"])
        self._chunks += await self._reader.readexactly(int(size))
        if last:
            await self._complete(self._chunks)
        else:
            await self._say(b"250 2.0.0 Go on\r\n")

    async def _complete(self, content: bytes) -> None:
        """It has all of a message."""
        while field := _RECEIVED.match(content):
            content = content[field.end() :]
        name = content.partition(b"\r\n")[0].decode("latin-1")
        accepts = self._random.random() > FAULT
        self._ledger.smarthost_completes(name, content, accepts=accepts)
        if accepts:
            await self._say(b"250 2.0.0 Taken\r\n")  # or something else: then the client cannot know
        else:
            self._writer.write(b"451 4.3.0 Disk full\r\n")

    async def _say(self, answer: bytes) -> bool:
        """Whether it was this answer that was said."""
        if self._random.random() < FAULT:
            await self._fail()
            return False
        if self._random.random() < FAULT:
            await self._slowly(answer)
        else:
            self._writer.write(answer)
        await self._writer.drain()
        return True

    async def _slowly(self, answer: bytes) -> None:
        for octet in answer:
            self._writer.write(bytes([octet]))
            await self._writer.drain()
            await asyncio.sleep(0.02)

    async def _fail(self, kinds: Sequence[str] = _KINDS) -> None:
        """Something else than a good answer, after which the server is to be rid of this connection sooner or later."""
        kind = self._random.choice(kinds)
        self._ledger.counts[f"smarthost: {kind}"] += 1
        match kind:
            case "reset":
                reset(self._writer)
                raise Fault
            case "close":
                raise Fault
            case "stall":
                await asyncio.sleep(STALL)
            case "garbage":
                self._writer.write(self._random.randbytes(self._random.randrange(1, 5000)))
            case "refuse":
                self._writer.write(self._random.choice([b"550 5.7.1 No\r\n", b"451 4.3.2 Later\r\n"]))
            case "bye":
                self._writer.write(b"421 4.3.2 Bye\r\n")
                raise Fault
            case "flood":
                self._writer.write(b"250-" + b"x" * 1_000_000)
            case _:
                self._writer.write(b"250 2.0.0 Ok\r\n250 2.0.0 Ok\r\n")
        await self._writer.drain()


def reset(writer: asyncio.StreamWriter) -> None:
    """End the connection with RST in place of FIN."""
    sock = writer.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
