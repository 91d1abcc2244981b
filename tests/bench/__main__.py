"""python -m bench [--rounds 5] [--megabytes 100]: what a mail through Sendooway costs, beside other ways.

TLS and a login on both sides, messages of 4 KiB, all on this machine; each message has to arrive as it is. CPU time is
that of all processes of a server, from /proc. Servers take turns in each round, since machines are noisy: look at the
ratios, more than at the times. As root the password is checked by PAM (a cheap hash), else not at all.
"""

import argparse
import contextlib
import math
import ssl
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.candidates import Candidates
from bench.load import Message, Server, send, settled_cpu_seconds
from bench.smarthost import Smarthost
from servers import users
from servers.certificates import make_certificates
from servers.users import User

SMALL = Message(4096)
# In seconds.
ROUND_TRIP = 0.02
PAUSE = 1.0  # until somebody sends the next mail
REFERENCE = "Dovecot, tuned"


class Bench:
    def __init__(self, servers: list[Server], smarthost: Smarthost, tls: ssl.SSLContext, rounds: int) -> None:
        self._servers = servers
        self._smarthost = smarthost
        self._tls = tls
        self._rounds = rounds

    def cpu(self, title: str, unit: str, message: Message, sessions: int, mails: int, scale: float) -> None:
        """Prints a table: seconds of CPU for a mail, times `scale`."""

        def once(server: Server) -> float:
            assert server.pid is not None
            before = settled_cpu_seconds(server.pid)
            for _ in range(sessions):
                send(server, self._smarthost, self._tls, message, mails)
            return (settled_cpu_seconds(server.pid) - before) / sessions / mails * scale

        self._table(title, unit, once, [server for server in self._servers if server.pid is not None])

    def second_mail(self) -> None:
        """Prints a table: how long the second of two mails takes, each in a session of its own."""

        def once(server: Server) -> float:
            send(server, self._smarthost, self._tls, SMALL, 1)
            time.sleep(PAUSE)
            return send(server, self._smarthost, self._tls, SMALL, 1) * 1000

        self._smarthost.move_away(ROUND_TRIP)
        self._table(
            f"a second mail, {ROUND_TRIP * 1000:.0f} ms a round trip: accepted after", "ms", once, self._servers
        )
        self._smarthost.move_away(0)

    def _table(self, title: str, unit: str, once: Callable[[Server], float], servers: list[Server]) -> None:
        values: dict[str, list[float]] = {server.name: [] for server in servers}
        for _ in range(self._rounds):
            for server in servers:
                values[server.name].append(once(server))
        reference = REFERENCE if REFERENCE in values else servers[0].name
        print(f"\n{title:<52}{unit:>10}{'ratio':>8}")
        for name, all_of_it in values.items():
            pairs = zip(all_of_it, values[reference], strict=True)
            ratio = statistics.median(mine / theirs if theirs else math.nan for mine, theirs in pairs)
            print(f"  {name:<50}{statistics.median(all_of_it):>10.2f}{ratio:>8.2f}", flush=True)


def run(folder: Path, user: User | None, rounds: int, megabytes: int, sessions: int = 40) -> None:
    """Prints all tables. `folder` is empty, and every user of the machine can enter it."""
    certificates = make_certificates(folder)
    tls = ssl.create_default_context(cafile=str(certificates.authority))
    large = Message(megabytes * 1_000_000)
    with Smarthost(certificates.good) as smarthost:
        candidates = Candidates(folder, certificates, smarthost, user)
        with candidates.running() as servers:
            for reason in candidates.missing:
                print(f"without {reason}")
            bench = Bench(servers, smarthost, tls, rounds)
            bench.cpu("one mail a session: CPU time a mail", "ms", SMALL, sessions, 1, 1e3)
            bench.cpu("twenty mails a session: CPU time a mail", "ms", SMALL, max(1, sessions // 8), 20, 1e3)
            bench.cpu(f"a mail of {megabytes} MB: CPU time a GB", "s", large, 1, 1, 1e9 / large.octets)
            bench.second_mail()


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=100)
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sendooway-bench-")))
        folder.chmod(0o755)
        user = None
        if not users.why_not():
            stack.enter_context(users.pam_service())
            user = stack.enter_context(users.temporary_user("sendooway-bench", folder))
        run(folder, user, options.rounds, options.megabytes)


if __name__ == "__main__":
    main()
