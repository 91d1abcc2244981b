"""How our processes are born: with what they need of their parent, and with nothing else."""

import os
import select
import signal
import time
from collections.abc import Callable, Collection

from sendooway.log import Log, describe
from sendooway.unix import kernel

# What the monitor has handlers for. ^C at the terminal and SIGHUP come to its children, too, which leave them to it.
_DEFAULT = (signal.SIGTERM, signal.SIGALRM, signal.SIGUSR1, signal.SIGCHLD)
_IGNORED = (signal.SIGINT, signal.SIGHUP)


def start(title: str, run: Callable[[], int], keep: Collection[int], log: Log) -> int:
    """Fork a process that does `run` and ends with the status that it returns. Returns the number of the process.

    It gets SIGTERM when its parent ends. `title` is what ps(1) shows. Of the descriptors above 2 only those of `keep`
    and of the log stay open. What `run` raises goes to the log, and the process ends with os.EX_SOFTWARE. Call it only
    where there is one thread. Raises OSError if the system has no room for one more process.
    """
    parent = os.getpid()
    # Until the child has its own handlers, a signal to it would be taken for one to the parent.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, (*_DEFAULT, *_IGNORED))
    try:
        pid = os.fork()
    except OSError:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        raise
    if pid != 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        return pid
    status = os.EX_SOFTWARE
    try:
        _forget_signals()
        kernel.die_with_parent(signal.SIGTERM)
        if os.getppid() != parent:
            # It was too late for the signal.
            os._exit(status)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        # Objects of the parent whose descriptors are gone stay referenced by its frames, which this process never
        # returns to: so none of them closes a number that belongs to something else by then.
        close_all_but({0, 1, 2, *keep, *log.descriptors()})
        kernel.set_title(title)
        status = run()
    except Exception as error:
        log.error("process-failed", process=title, reason=describe(error))
    finally:
        os._exit(status)


def last_words(pid: int, pipe: int, seconds: float, limit: int) -> bytes | None:
    """All that the child `pid` says through `pipe` until it closes it. Then the child is ended, and the pipe closed.

    None if that takes longer, or is more than `limit` octets.
    """
    end = time.monotonic() + seconds
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    octets = b""
    try:
        # poll(2) would wait for ever for a time below 0.
        while len(octets) <= limit and poll.poll(max(0.0, end - time.monotonic()) * 1000):
            piece = os.read(pipe, limit + 1)
            if not piece:
                return octets
            octets += piece
        return None
    finally:
        os.close(pipe)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def point_at_null(*descriptors: int) -> None:
    """Make the descriptors, open or closed, the null device: what is written there is lost, and nothing can be read."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in descriptors:
        if descriptor != null:
            os.dup2(null, descriptor)
    if null not in descriptors:
        os.close(null)


def _forget_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in _DEFAULT:
        signal.signal(number, signal.SIG_DFL)
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)


def close_all_but(keep: Collection[int]) -> None:
    """Close all descriptors of this process, except those to keep."""
    lowest = 0
    for descriptor in sorted(keep):
        # For an empty range, CPython's closerange(0, 0) closes everything.
        if lowest < descriptor:
            os.closerange(lowest, descriptor)
        lowest = descriptor + 1
    os.closerange(lowest, os.sysconf("SC_OPEN_MAX"))
