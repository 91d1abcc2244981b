"""A limit for what Python itself waits for, in a process with one thread."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# For all files that are read for one question: a network file system or an automounter may take its time, or for ever.
READ_SECONDS = 5.0
_AGAIN_SECONDS = 0.5


class TooLate(Exception):
    """It took longer than it may. No OSError (as TimeoutError is), so that nothing takes it for an unreadable file."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raises TooLate in the block, which reads files, when it takes longer. Only for the main thread.

    It is raised again every _AGAIN_SECONDS: within a finalizer or the garbage collector, an exception reaches nobody.
    """

    running = True

    def interrupt(number: int, frame: FrameType | None) -> None:
        if running:
            raise TooLate(f"reading the files took longer than {seconds:g} seconds")

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN_SECONDS)
        yield
    finally:
        # First of all: a timer that outlived the block would interrupt something else.
        running = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
