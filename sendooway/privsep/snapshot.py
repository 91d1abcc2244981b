"""The configuration as it was read at one moment, with its passwords out of reach of the proxy.

The file may hold passwords, in its mappings. So a process that serves no network reads it: it puts the mappings into
memory that has a descriptor but no name, and gives its parent the text without the passwords. The parent's children
get the descriptor, or not: agents do, proxies do not.

The same process looks for the keytab, which decides whether GSSAPI is offered.
"""

import fcntl
import json
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

from sendooway.config import GSSAPI, Configuration, ConfigurationError, Mapping, Parsed
from sendooway.config.file import exposure, read
from sendooway.config.keywords import parse, redact
from sendooway.log import Log
from sendooway.origin import Origin
from sendooway.privsep.fingerprint import KEY_OCTETS
from sendooway.secret import Secret
from sendooway.unix import process

# Where `workers` does not say it: each takes 8 MB at rest, and so many serve some thousands of mails a second.
MAX_WORKERS = 8

# Reading and parsing take milliseconds, unless the file is on a file system that does not answer.
TAKE_SECONDS = 20.0

_GOOD = b"+"
_BAD = b"-"


class SnapshotError(Exception):
    """The configuration cannot be read or is wrong. The text is the message for the administrator."""


@dataclass(frozen=True)
class Secrets:
    """The global mappings, with their passwords, and the credentials of the service that these name."""

    mappings: tuple[Mapping, ...]
    credentials: dict[str, Secret]


@dataclass(frozen=True)
class Snapshot:
    """The configuration of the file `path`.

    `memory` is the descriptor of its key, which is new for each snapshot, and of its secrets behind that: agents have
    it, and no proxy.

    Of the mechanisms that the file allows, the configuration has only those that can be offered. For the receiving side
    its `workers` is a number in any case, not 0.
    """

    path: str
    configuration: Configuration
    memory: int

    @cached_property
    def key(self) -> bytes:
        """For `fingerprint` and `remembered.proof`. Once read, it stays in memory: no process may read it that a proxy
        is forked from."""
        # Not read(2): all processes that have the descriptor share its position.
        return os.pread(self.memory, KEY_OCTETS, 0)

    def secrets(self) -> Secrets:
        """Read them. As with the key, only in processes that no proxy is forked from."""
        found = json.loads(os.pread(self.memory, os.fstat(self.memory).st_size, KEY_OCTETS))
        return Secrets(
            tuple(Mapping(source, _secret(text), Origin(file, line)) for source, text, file, line in found["mappings"]),
            {name: _secret(text) for name, text in found["credentials"].items()},
        )

    def close(self) -> None:
        os.close(self.memory)


def _secret(text: str) -> Secret:
    return Secret(text.encode("utf-8", "surrogateescape"))


def _text(secret: Secret) -> str:
    return secret.octets.decode("utf-8", "surrogateescape")


def take(path: str, log: Log) -> Snapshot:
    """Let a short-lived process read the configuration. Raises SnapshotError, and OSError where the system is short of
    something; warnings go to the log."""
    memory = allocate()
    try:
        return _take(path, memory, log)
    except (SnapshotError, OSError):
        os.close(memory)
        raise


def _take(path: str, memory: int, log: Log) -> Snapshot:
    reading, writing = os.pipe()

    def run() -> int:
        return 0 if publish(path, memory, writing, log) else os.EX_CONFIG

    try:
        pid = process.start("sendooway [configuration]", run, (memory, writing), log)
    except OSError:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    try:
        return receive(path, memory, reading)
    finally:
        os.waitpid(pid, 0)


def allocate() -> int:
    """The descriptor of new, empty memory for the secrets."""
    return os.memfd_create("sendooway.conf", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)


def publish(
    path: str, memory: int, answer: int, log: Log, serves: Callable[[Configuration], bool] = lambda _: True
) -> Snapshot | None:
    """The side that reads the file: fill `memory` for good, answer through the pipe `answer` and close it.

    Warnings go to the log. None if the configuration is wrong: the answer says so. If `serves` says that nobody will
    serve with this configuration, since it was read only to learn that, nothing is logged and no keytab looked for.
    SIGALRM ends the process after TAKE_SECONDS.
    """
    signal.setitimer(signal.ITIMER_REAL, TAKE_SECONDS)
    try:
        return _publish(path, memory, answer, log, serves)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _publish(path: str, memory: int, answer: int, log: Log, serves: Callable[[Configuration], bool]) -> Snapshot | None:
    with open(answer, "wb") as pipe:
        try:
            text = read(path)
            parsed = _parse(text, path)
            exposed = exposure(path, parsed.mappings)
        except ConfigurationError as error:
            pipe.write(_BAD + str(error).encode("utf-8", "surrogateescape"))
            return None
        configuration = parsed.configuration
        found: dict[str, Secret] = {}
        if serves(configuration):
            for warning in parsed.warnings if exposed is None else (*parsed.warnings, exposed):
                log.warning("configuration", reason=warning)
            configuration = _narrow(configuration, log)
            # Only here: the process that begins to serve the network meanwhile needs nothing of it.
            from sendooway.privsep import credentials

            found = credentials.read(parsed.mappings, log)
        _fill(memory, Secrets(parsed.mappings, found))
        mechanisms = " ".join(configuration.auth_mechanisms).encode()
        pipe.write(_GOOD + mechanisms + b"\n" + redact(text).encode("utf-8", "surrogateescape"))
        return Snapshot(path, configuration, memory)


def _fill(memory: int, secrets: Secrets) -> None:
    """Write a new key and these secrets, for good: nobody who has the descriptor can change them."""
    mappings = [
        (mapping.source, _text(mapping.argument), mapping.origin.file, mapping.origin.line)
        for mapping in secrets.mappings
    ]
    credentials = {name: _text(secret) for name, secret in secrets.credentials.items()}
    with open(memory, "wb", closefd=False) as file:
        file.write(os.urandom(KEY_OCTETS))
        file.write(json.dumps({"mappings": mappings, "credentials": credentials}).encode("ascii"))
    seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
    fcntl.fcntl(memory, fcntl.F_ADD_SEALS, seals)


def _narrow(configuration: Configuration, log: Log) -> Configuration:
    """Without GSSAPI, unless everything is there for it."""
    if GSSAPI not in configuration.auth_mechanisms:
        return configuration
    # Only here: the process that begins to serve the network meanwhile needs none of it.
    from sendooway.auth import kerberos
    from sendooway.auth.identity import AuthenticatorError

    try:
        kerberos.check(configuration.krb5_keytab)
    except AuthenticatorError as error:
        log.event("no-gssapi", reason=str(error))
        others = tuple(mechanism for mechanism in configuration.auth_mechanisms if mechanism != GSSAPI)
        return replace(configuration, auth_mechanisms=others)
    return configuration


def receive(path: str, memory: int, answer: int) -> Snapshot:
    """The side that may not see the file: read the pipe `answer` to its end and close it.

    Raises SnapshotError if the configuration is wrong, or the other process has ended.
    """
    with open(answer, "rb") as pipe:
        octets = pipe.read()
    text = octets[1:].decode("utf-8", "surrogateescape")
    match octets[:1]:
        case b"+":
            mechanisms, _, text = text.partition("\n")
            configuration = _parse(text, path).configuration
            workers = configuration.workers or min(len(os.sched_getaffinity(0)), MAX_WORKERS)
            configuration = replace(configuration, auth_mechanisms=tuple(mechanisms.split()), workers=workers)
            return Snapshot(path, configuration, memory)
        case b"-":
            raise SnapshotError(text)
        case _:
            raise SnapshotError(
                f"{path}: the process that reads it ended, or took longer than {TAKE_SECONDS:g} seconds"
            )


def _parse(text: str, path: str) -> Parsed:
    return parse(text, path, os.uname().nodename)
