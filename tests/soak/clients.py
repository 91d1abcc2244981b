"""Mail programs that mostly behave: they log in, send some mails, and leave. Now and then they do something else."""

import asyncio
import contextlib
import os
import pwd
import ssl
from base64 import b64encode
from dataclasses import dataclass, field
from itertools import count
from random import Random

from soak.ledger import Ledger
from soak.smarthosts import STALL, reset

FAULT = 0.004  # the chance before each piece that is said
PATIENCE = 120.0  # seconds for a reply: the server's own waits are much shorter
THINK = 8.0  # seconds, at most, before the next thing
WRONG = 0.02  # the chance of a login that fails, and so has to wait

# `authBackend = none` lets in who runs the server, with any password.
_LOGIN = b64encode(f"\0{pwd.getpwuid(os.geteuid()).pw_name}\0any".encode())
_WRONG = b64encode(b"\0nobody-of-this-name\0any")


class Left(Exception):
    """This session is over, as the client wished or as the server said."""


@dataclass
class Clients:
    """`number` of them, each from an address of its own, as long as `open` is set. When it is not, each ends its
    session and waits; `active` counts those that have not yet."""

    number: int
    port: int
    domains: list[str]
    context: ssl.SSLContext
    ledger: Ledger
    random: Random
    open: asyncio.Event = field(default_factory=asyncio.Event)
    active: int = 0

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(self.number):
                group.create_task(self._serve_one(f"127.1.{number // 250}.{number % 250 + 1}"))

    async def _serve_one(self, address: str) -> None:
        while True:
            await self.open.wait()
            self.active += 1
            try:
                await _Session(self, address).run()
            finally:
                self.active -= 1
            await asyncio.sleep(self.random.random())


_numbers = count(1)


class _Session:
    def __init__(self, clients: Clients, address: str) -> None:
        self._clients = clients
        self._ledger, self._random = clients.ledger, clients.random
        self._address = address

    async def run(self) -> None:
        self._ledger.counts["sessions"] += 1
        try:
            self._reader, self._writer = await asyncio.open_connection(
                "127.0.0.1", self._clients.port, local_addr=(self._address, 0), limit=1 << 20
            )
        except OSError:
            self._ledger.counts["sessions without a connection"] += 1
            return
        try:
            await self._talk()
        except (Left, OSError, EOFError, ssl.SSLError):
            self._ledger.counts["sessions that ended early"] += 1
        except TimeoutError:
            self._ledger.break_(f"no reply within {PATIENCE:g} s")
        finally:
            with contextlib.suppress(OSError, RuntimeError):
                self._writer.transport.abort()

    async def _talk(self) -> None:
        await self._reply()
        await self._ask(b"EHLO client.test\r\n")
        if self._random.random() < 0.3:
            await self._ask(b"STARTTLS\r\n")
            await self._writer.start_tls(self._clients.context, server_hostname="localhost")
            await self._ask(b"EHLO client.test\r\n")
        if self._random.random() < WRONG:
            await self._ask(b"AUTH PLAIN " + _WRONG + b"\r\n")
        if await self._ask(b"AUTH PLAIN " + _LOGIN + b"\r\n") != 235:
            self._ledger.counts["logins refused"] += 1
            return
        for _ in range(self._random.randint(1, 6)):
            if not self._clients.open.is_set():
                break
            await self._mail()
            await self._think()
        await self._ask(b"QUIT\r\n")

    async def _think(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._random.random() * THINK):
                while self._clients.open.is_set():
                    await asyncio.sleep(0.2)

    async def _mail(self) -> None:
        name = f"message-{next(_numbers)}"
        sender = f"{name}@{self._random.choice(self._clients.domains)}"  # so that the log tells of it
        if await self._ask(b"MAIL FROM:<%s>\r\n" % sender.encode()) != 250:
            return
        recipients = self._random.randint(1, 4)
        self._writer.write(b"RCPT TO:<bob@mars.test>\r\n" * recipients)
        codes = [await self._reply() for _ in range(recipients)]
        content = self._content(name)
        in_chunks = self._random.randrange(2)
        if 250 not in codes or not await (self._send_chunks if in_chunks else self._send_data)(name, content):
            await self._ask(b"RSET\r\n")
            return
        self._ledger.client_hears(name, await self._reply())

    async def _send_data(self, name: str, content: bytes) -> bool:
        """All but the reply to it; false if there is none, since the message was refused before its end."""
        if await self._ask(b"DATA\r\n") != 354:
            return False
        dotted = content.replace(b"\r\n.", b"\r\n..")
        for start in range(0, len(dotted), 16384):
            await self._say(dotted[start : start + 16384])
        self._ledger.client_finishes(name, content)
        await self._say(b".\r\n", may_fail=False)
        return True

    async def _send_chunks(self, name: str, content: bytes) -> bool:
        """Likewise."""
        rest = content
        while True:
            size = self._random.choice((1, 500, 50_000, 1_000_000))
            chunk, rest = rest[:size], rest[size:]
            last = not rest
            await self._say(b"")  # or something fails between two chunks
            line = b"BDAT %d%s\r\n" % (len(chunk), b" LAST" if last else b"")
            if self._random.random() < FAULT:
                await self._say(line + chunk[: len(chunk) // 2], may_fail=False)
                raise Left
            if last:
                self._ledger.client_finishes(name, content)
            await self._say(line + chunk, may_fail=False)
            if last:
                return True
            if await self._reply() != 250:
                return False

    def _content(self, name: str) -> bytes:
        lines = self._random.choice((3, 10, 100, 100, 1000, 20000))
        piece = b".%d Gr\xfc\xdfe and a line of usual length, more or less, up to its end\r\n"
        return name.encode() + b"\r\n" + b"".join(piece % number for number in range(lines))

    async def _ask(self, line: bytes) -> int:
        await self._say(line)
        return await self._reply()

    async def _say(self, octets: bytes, *, may_fail: bool = True) -> None:
        if may_fail and self._random.random() < FAULT:
            await self._fail()
        self._writer.write(octets)
        await self._writer.drain()

    async def _fail(self) -> None:
        kind = self._random.choice(["reset", "close", "stall", "garbage", "half-close", "deaf"])
        self._ledger.counts[f"client: {kind}"] += 1
        match kind:
            case "reset":
                reset(self._writer)
                raise Left
            case "close":
                raise Left
            case "stall":
                await asyncio.sleep(STALL)
            case "garbage":
                self._writer.write(self._random.randbytes(self._random.randrange(1, 20000)))
                await self._writer.drain()
                raise Left
            case "half-close":
                if self._writer.can_write_eof():
                    self._writer.write_eof()
                    async with asyncio.timeout(PATIENCE):
                        await self._reader.read()
                raise Left
            case _:
                # Asks and asks, and reads no answer.
                self._writer.write(b"NOOP\r\n" * 100_000)
                await asyncio.sleep(3)
                raise Left

    async def _reply(self) -> int:
        async with asyncio.timeout(PATIENCE):
            while True:
                line = await self._reader.readuntil(b"\r\n")
                if line[3:4] != b"-":
                    break
        code = int(line[:3])
        if code == 421:
            raise Left
        return code
