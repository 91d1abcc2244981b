"""Run a program that prints a password, as the user that this process is.

There is no shell, no terminal and no input. What the kernel has been told about this process holds for the program,
too: no new privileges (so sudo(8) and the like do not work), no cores, umask 077.
"""

import os
import select
import signal
import time
from collections.abc import Mapping
from contextlib import closing, suppress

from sendooway.accounts.password import first_line
from sendooway.log import Log
from sendooway.secret import Secret
from sendooway.unix import kernel, process

SECONDS = 10.0
ORPHANS_SECONDS = 1.0
MAX_OUTPUT_OCTETS = 4096  # octets
MAX_ERROR = 300  # characters

_NOT_STARTED = 127  # as in shells


class CommandError(Exception):
    """The program gave no password. The text says why, with what it said on standard error."""


def run(arguments: tuple[str, ...], environment: Mapping[str, str], folder: str, log: Log) -> Secret:
    """The password that a program prints as its first line. Raises CommandError.

    The program is looked for in the PATH of `environment`, which is all that it gets, and starts in `folder`, or in /
    where it may not. It has SECONDS; then, or when it ends, it and all that it has started is killed.
    """
    try:
        with closing(kernel.Children()) as children:
            others = children.numbers()
            kernel.adopt_orphans(True)
            try:
                status, printed, said, trouble = _run(arguments, environment, folder, log)
            finally:
                _end_orphans(children, others)
                kernel.adopt_orphans(False)
    except OSError as error:
        raise CommandError(f"cannot be run: {error.strerror}") from error
    password = first_line(printed)
    if not trouble and status < 0:
        trouble = f"was ended by {signal.Signals(-status).name}"
    elif not trouble and status > 0:
        trouble = f"ended with status {status}"
    if not trouble and password is not None:
        return password
    words = _printable(said, password)
    trouble = trouble or "printed no password"
    raise CommandError(f"{trouble}: {words}" if words else trouble)


def _run(
    arguments: tuple[str, ...], environment: Mapping[str, str], folder: str, log: Log
) -> tuple[int, bytes, bytes, str]:
    """Exit status, negative for a signal; what it printed; what it said on standard error; what was wrong, if so."""
    output, printing = os.pipe()
    errors, complaining = os.pipe()
    try:
        try:
            pid = process.start(
                "sendooway [password]",
                lambda: _execute(arguments, environment, folder, printing, complaining),
                (printing, complaining),
                log,
            )
        finally:
            os.close(printing)
            os.close(complaining)
        try:
            heard = _listen(pid, output, errors)
        finally:
            status = _end(pid)
        return status, *heard
    finally:
        os.close(output)
        os.close(errors)


def _execute(
    arguments: tuple[str, ...], environment: Mapping[str, str], folder: str, printing: int, complaining: int
) -> int:
    """In the new process. Returns only if the program cannot be started, and has said so on standard error."""
    # A session and process group of its own.
    os.setsid()
    process.point_at_null(0)
    os.dup2(printing, 1)
    os.dup2(complaining, 2)
    # What Python and the agent ignore would be ignored by the program.
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.chdir(folder)
    except OSError:
        os.chdir("/")
    try:
        os.execvpe(arguments[0], arguments, dict(environment))
    except OSError as error:
        os.write(2, (error.strerror or "no such program").encode())
    return _NOT_STARTED


def _listen(pid: int, output: int, errors: int) -> tuple[bytes, bytes, str]:
    """What the program has printed on both until it ends, takes too long or prints too much; and what was wrong, if so.

    Not until both pipes are closed: what it has started may hold them open.
    """
    end = time.monotonic() + SECONDS
    heard = {output: b"", errors: b""}
    ended = os.pidfd_open(pid)
    poll = select.poll()
    try:
        poll.register(ended, select.POLLIN)
        for descriptor in heard:
            os.set_blocking(descriptor, False)
            poll.register(descriptor, select.POLLIN)
        while (left := end - time.monotonic()) > 0:
            ready = [descriptor for descriptor, _ in poll.poll(left * 1000)]
            for descriptor in heard if ended in ready else ready:
                piece = _read(descriptor)
                if not piece and ended not in ready:
                    poll.unregister(descriptor)
                heard[descriptor] = (heard[descriptor] + piece)[: MAX_OUTPUT_OCTETS + 1]
            if len(heard[output]) > MAX_OUTPUT_OCTETS:
                return heard[output], heard[errors], f"printed more than {MAX_OUTPUT_OCTETS} octets"
            if ended in ready:
                return heard[output], heard[errors], ""
        return heard[output], heard[errors], f"has not ended after {SECONDS:g} seconds"
    finally:
        os.close(ended)


def _read(descriptor: int) -> bytes:
    """What is there now, one octet more than the limit at most; nothing at the end, too."""
    try:
        return os.read(descriptor, MAX_OUTPUT_OCTETS + 1)
    except BlockingIOError:
        return b""


def _end(pid: int) -> int:
    """Kill what is left of the process and its group; the exit status of the process, negative for a signal."""
    # It is not reaped yet, so its number belongs to nobody else. It has no group before it has come to that. Where
    # programs may gain rights, it can be out of reach.
    for kill in (os.kill, os.killpg):
        with suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _end_orphans(children: kernel.Children, others: frozenset[int]) -> None:
    """Kill what has left the program's process group, as daemons do: they are children of this process now, beside the
    `others`. Who starts more of them, faster, has ORPHANS_SECONDS."""
    end = time.monotonic() + ORPHANS_SECONDS
    while (orphans := children.numbers() - others) and time.monotonic() < end:
        for pid in orphans:
            with suppress(PermissionError):  # as in _end; nobody waits for that one
                os.kill(pid, signal.SIGKILL)
                # Its own children are orphans, too, now.
                os.waitpid(pid, 0)


def _printable(octets: bytes, secret: Secret | None) -> str:
    """What a program said, on one line and cut to MAX_ERROR; nothing of it if it repeats the password."""
    if secret is not None and secret.octets in octets:
        return "(words withheld, they repeat what it printed)"
    text = " ".join(octets.decode("utf-8", "replace").split())
    # A reply of SMTP is in ASCII.
    text = "".join(char if char.isascii() and char.isprintable() else "?" for char in text)
    return text if len(text) <= MAX_ERROR else f"{text[:MAX_ERROR]}..."
