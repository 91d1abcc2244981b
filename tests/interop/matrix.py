"""python -m interop.matrix [CLIENT or SMARTHOST ...]: every client through every smarthost, as a table.

Each pair is one mail: the client logs in at Sendooway, the domain of the sender names the smarthost, and what the
smarthost passes on is compared octet for octet with what the client was given. Exit status 1 where a pair fails.
A program that is missing here is told, and is no failure.
"""

import os
import pwd
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from interop.clients import CLIENTS, Client, Submission
from interop.smarthosts import SMARTHOSTS, make
from servers.certificates import make_certificates
from servers.program import Sendooway
from servers.smarthost import Smarthost, Unavailable

# `authBackend = none` lets in who runs the server, with any password.
USERNAME, PASSWORD = pwd.getpwuid(os.geteuid()).pw_name, "any-password"

_RECEIVED = re.compile(rb"Received: [^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*")


class Matrix:
    """Sendooway with an account at each of the smarthosts that can be started here; `missing` are the others."""

    def __init__(self, folder: Path, stack: ExitStack, kinds: tuple[type[Smarthost], ...] = SMARTHOSTS) -> None:
        folder.chmod(0o755)
        self._folder = folder
        certificates = folder / "certificates"
        certificates.mkdir()
        self._certificates = make_certificates(certificates)
        self.smarthosts: dict[str, Smarthost] = {}
        self.missing: dict[str, str] = {}
        for kind in kinds:
            try:
                smarthost = make(kind, folder, self._certificates.good)
            except Unavailable as reason:
                self.missing[kind.name] = str(reason)
                continue
            stack.callback(smarthost.stop)
            self.smarthosts[kind.name] = smarthost
        configuration = (
            f"localname = proxy.test\nauthBackend = none\nsslCA = {self._certificates.authority}\n"
            f"sslCert = {self._certificates.good.certificate}\nsslKey = {self._certificates.good.key}\n"
        ) + "".join(smarthost.mapping for smarthost in self.smarthosts.values())
        program = folder / "sendooway"
        program.mkdir(mode=0o700)
        self._sendooway = stack.enter_context(Sendooway(program, configuration))

    def deliver(self, client: Client, smarthost: str) -> None:
        """One mail. Raises AssertionError that tells what came instead of it."""
        name = f"{client}-{smarthost}"
        sender, recipient = f"alice@{smarthost}.test", f"{name}@mars.test"
        folder = self._folder / name
        folder.mkdir()
        content = client.content(sender, recipient)
        submission = Submission(
            self._sendooway.port,
            USERNAME,
            PASSWORD,
            self._certificates.authority,
            sender,
            recipient,
            content,
            folder,
        )
        client.send(submission)
        delivery = self.smarthosts[smarthost].take(recipient)
        assert (delivery.sender, delivery.recipients) == (sender, (recipient,))
        compare(client, content, delivery.content)


def compare(client: Client, sent: bytes, came: bytes) -> None:
    """Raises AssertionError where another message came than was sent.

    The Received fields in front are Sendooway's and, if it writes one, the smarthost's.
    """
    trace = b""
    while field := _RECEIVED.match(came):
        trace += field[0]
        came = came[field.end() :]
    assert trace.count(b"(Sendooway)") == 1, f"{client}: no Received field of Sendooway: {trace!r}"
    if not client.whole:
        header, _, came = came.partition(b"\r\n\r\n")
        assert b"Subject: octets" in header, f"{client}: another header: {header!r}"
        sent = sent.partition(b"\r\n\r\n")[2]
    assert came == sent, f"{client}: {_difference(sent, came)}"


def _difference(sent: bytes, came: bytes) -> str:
    place = next(
        (at for at, (one, other) in enumerate(zip(sent, came, strict=False)) if one != other), min(len(sent), len(came))
    )
    start = max(0, place - 40)
    return f"octet {place} of {len(sent)}: {sent[start : place + 40]!r} was sent, {came[start : place + 40]!r} came"


@contextmanager
def matrix(kinds: tuple[type[Smarthost], ...] = SMARTHOSTS) -> Iterator[Matrix]:
    with tempfile.TemporaryDirectory(prefix="sendooway-interop-") as folder, ExitStack() as stack:
        yield Matrix(Path(folder), stack, kinds)


def main(chosen: list[str]) -> int:
    clients = [client for client in CLIENTS if client.name in chosen] or list(CLIENTS)
    kinds = tuple(kind for kind in SMARTHOSTS if kind.name in chosen) or SMARTHOSTS
    failures: list[str] = []
    with matrix(kinds) as everybody:
        print(f"{'':<16}" + "".join(f"{name:<12}" for name in everybody.smarthosts), flush=True)
        for client in clients:
            if reason := client.why_not():
                print(f"{client.name:<16}{reason}")
                continue
            cells = []
            for smarthost in everybody.smarthosts:
                try:
                    everybody.deliver(client, smarthost)
                    cells.append("ok")
                except Exception as error:  # one pair must not keep the others from being tried
                    cells.append("FAILED")
                    failures.append(f"{client} through {smarthost}: {error}")
            print(f"{client.name:<16}" + "".join(f"{cell:<12}" for cell in cells), flush=True)
        for name, reason in everybody.missing.items():
            print(f"{name} was not started: {reason}")
    print("\n\n".join(["", *failures]), end="\n" if failures else "")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
