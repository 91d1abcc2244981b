"""python -m soak [--minutes 30] [--clients 200] [--seed SEED]: a server under load and faults for a while.

Half of the time is storm: clients and smarthosts misbehave at random, agents and proxies are killed, the configuration
is read anew. The other half is siege: the same without the killing of proxies, so that the ones at work live long
enough for a leak to show. At the borders all clients rest, and what the server takes is measured: from the first
quarter of the siege to its end it must not grow.

Prints what happened, how long the server was away after a proxy had been killed, and the figures as a table. Exit
status 1 if a promise of `ledger` is broken, something has grown, the server has ended, or its log shows a failure of
its own.
"""

import argparse
import asyncio
import os
import resource
import signal
import ssl
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from secrets import token_hex

from servers.certificates import Certificate, make_certificates
from servers.program import Sendooway
from soak.clients import Clients
from soak.figures import HEAD, Figures, growth, measure
from soak.ledger import Ledger
from soak.smarthosts import Smarthost

WORKERS = 2
REST = 90.0  # seconds in which a server without clients must have let go of all


@dataclass
class Soak:
    minutes: float
    number: int
    seed: str
    away_limit: float = 5.0  # seconds; one is what is promised, on a machine that has nothing else to do
    ledger: Ledger = field(default_factory=Ledger)
    rows: list[tuple[str, Figures]] = field(default_factory=list)
    away: list[float] = field(default_factory=list)

    async def run(self, folder: Path) -> None:
        random = Random(self.seed)
        certificates = make_certificates(folder)
        good, expired = _context(certificates.good), _context(certificates.expired)
        smarthosts = {
            "clear": Smarthost(self.ledger, random, None),
            "secure": Smarthost(self.ledger, random, good),
            "expired": Smarthost(self.ledger, random, expired),
        }
        for smarthost in smarthosts.values():
            await smarthost.start()
        configuration = f"""\
localname = proxy.test
authBackend = none
workers = {WORKERS}
timeout = 10
smarthostIdle = 2
dialEarly = yes
maxSessionsPerUser = {2 * self.number}
sslCA = {certificates.authority}
sslCert = {certificates.good.certificate}
sslKey = {certificates.good.key}
smarthostMapping = direct:*@clear.test localhost {smarthosts["clear"].port} - - noAuth
smarthostMapping = direct:*@secure.test localhost {smarthosts["secure"].port} alice s3cret tls
smarthostMapping = direct:*@expired.test localhost {smarthosts["expired"].port} alice s3cret tls
"""
        with Sendooway(folder, configuration) as server:
            self._server = server
            self._clients = Clients(
                self.number,
                server.port,
                ["clear.test", "secure.test"] * 5 + ["expired.test"],
                ssl.create_default_context(cafile=str(certificates.authority)),
                self.ledger,
                random,
            )
            self._random = random
            server.wait_for_log("ready", f"proxies={WORKERS}")
            await self._measure("at the start")
            running = asyncio.create_task(self._clients.run())
            try:
                await self._phase("storm", self.minutes * 30, storm=True)
                await self._phase("first quarter of the siege", self.minutes * 7.5)
                begun = self.rows[-1][1]
                await self._phase("end", self.minutes * 22.5)
            finally:
                running.cancel()
            end = self.rows[-1][1]
            # Some proxy may have had its first mail since then, or has kept an idle thread.
            if end.threads <= self._most_threads:
                begun = replace(begun, threads=end.threads)
            for grown in growth(begun, end):
                self.ledger.break_(f"has grown: {grown}")
            self._check_server()
        for smarthost in smarthosts.values():
            await smarthost.stop()

    async def _phase(self, name: str, seconds: float, *, storm: bool = False) -> None:
        end = time.monotonic() + seconds
        self._clients.open.set()
        busiest: Figures | None = None
        while time.monotonic() < end:
            await asyncio.sleep(min(5.0, seconds / 4))
            figures = measure(self._server)
            if busiest is None or figures.threads > busiest.threads:
                busiest = figures
            await self._strike(storm)
        if busiest:
            self._add(f"busiest in {name}"[:25], busiest)
        self._clients.open.clear()
        await self._measure(f"at rest, {name}"[:25])

    async def _strike(self, storm: bool) -> None:
        """One blow against the server's own processes."""
        kinds = ["agent", "agent", "nothing"] + ["proxy", "reload"] * storm
        kind = self._random.choice(kinds)
        if kind == "nothing":
            return
        self.ledger.counts[f"blow: {kind}"] += 1
        match kind:
            case "reload":
                self._server.process.send_signal(signal.SIGHUP)
            case "agent" | "proxy":
                victims = self._server.role(kind)
                if victims:
                    try:
                        os.kill(self._random.choice(victims).pid, signal.SIGKILL)
                    except ProcessLookupError:
                        return
                if kind == "proxy":
                    await self._time_return()

    async def _time_return(self) -> None:
        """How long until all proxies are there again and one greets."""
        begun = time.monotonic()
        await self._until(lambda: len(self._server.role("proxy")) >= WORKERS, "all proxies are there", 60)
        reader, writer = await asyncio.open_connection("127.0.0.1", self._server.port)
        async with asyncio.timeout(60):
            await reader.readuntil(b"\n")
        writer.transport.abort()
        self.away.append(time.monotonic() - begun)
        if self.away[-1] > self.away_limit:
            self.ledger.break_(f"the service was not back within {self.away_limit:g} s: {self.away[-1]:.1f} s")

    async def _measure(self, name: str) -> None:
        """When nobody is there any more."""

        def resting() -> bool:
            processes = measure(self._server).processes
            return processes == {"monitor": 1, "proxy": WORKERS}

        if self.rows:
            await self._until(lambda: self._clients.active == 0, "all clients rest", 300)
        await self._until(resting, "only the monitor and the proxies are left", REST)
        await self._until(self._let_go, "the descriptors and threads of sessions are gone", REST)
        self._add(name, measure(self._server))

    def _let_go(self) -> bool:
        now = measure(self._server)
        if not self.rows:
            # Somebody has looked whether it serves.
            return now.threads == 1 + WORKERS
        return now.descriptors <= self.rows[0][1].descriptors and now.threads <= self._most_threads

    @property
    def _most_threads(self) -> int:
        """At rest. From its first mail on, a proxy has a thread that watches idle connections to smarthosts."""
        return self.rows[0][1].threads + WORKERS

    def _add(self, name: str, figures: Figures) -> None:
        self.rows.append((name, figures))
        print(figures.row(name), flush=True)

    async def _until(self, condition: Callable[[], object], what: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                self.ledger.break_(f"after {seconds:g} s still not: {what} ({measure(self._server)})")
                return
            await asyncio.sleep(0.1)

    def _check_server(self) -> None:
        if self._server.process.poll() is not None:
            self.ledger.break_("the server has ended")
        for line in self._server.log.splitlines():
            if any(word in line for word in ("Traceback", "reason=crash", "agent-failed")):
                self.ledger.break_(f"in the log: {line}")


def _context(certificate: Certificate) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate.certificate, certificate.key)
    return context


def main() -> int:
    parser = argparse.ArgumentParser(prog="soak")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seed", default=token_hex(4))
    options = parser.parse_args()
    # Two sockets a client, and those of the smarthosts.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    print(f"seed {options.seed}, {options.minutes:g} minutes, {options.clients} clients\n{HEAD}", flush=True)
    soak = Soak(options.minutes, options.clients, options.seed)
    with tempfile.TemporaryDirectory(prefix="sendooway-soak-") as folder:
        asyncio.run(soak.run(Path(folder)))
    print()
    for what, number in sorted(soak.ledger.counts.items()):
        print(f"{number:>8} {what}")
    if soak.away:
        print(f"back after the death of a proxy: at most {max(soak.away):.2f} s, of {len(soak.away)}")
    for promise in soak.ledger.broken:
        print(f"BROKEN: {promise}")
    return 1 if soak.ledger.broken else 0


if __name__ == "__main__":
    sys.exit(main())
