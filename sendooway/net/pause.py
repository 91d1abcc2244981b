"""A wait for which a session gives its thread back."""

import select
from dataclasses import dataclass

from sendooway.net.deadline import Deadline


@dataclass(frozen=True)
class Pause:
    """A wait until `descriptor` is readable or the deadline has come, during which the session needs no thread."""

    descriptor: int
    deadline: Deadline

    def seconds(self) -> float:
        """How long it may still last; 0 at the deadline."""
        try:
            return self.deadline.left()
        except TimeoutError:
            return 0.0

    def wait(self) -> bool:
        """Wait in this thread after all. False: the deadline has come first."""
        poll = select.poll()
        poll.register(self.descriptor, select.POLLIN)
        return bool(poll.poll(self.seconds() * 1000))
