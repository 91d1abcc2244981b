"""A limit for what Python itself waits for, in a process with one thread."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# For all files that are read for one question: a network file system or an automounter may take its time, or for ever.
READ_SECONDS = 5.0
_AGAIN_SECONDS = 0.5


class TooLate(Exception):
    """No OSError, so that nothing takes it for a file that cannot be read."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raises TooLate in the block, which reads files, when it takes longer. Only for the main thread.

    And again every while: where the interpreter calls back from (a finalizer, the garbage collector), exceptions go to
    nobody.
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
