"""One time budget for many steps."""

from time import monotonic


class Deadline:
    """Ends `seconds` from now, whatever happens to the clock of the day."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = monotonic() + seconds

    def left(self) -> float:
        """Seconds until the end. Raises TimeoutError when there are none."""
        left = self._end - monotonic()
        if left <= 0:
            raise TimeoutError(f"no answer within {self.seconds:g} seconds")
        return left

    def sooner(self, seconds: float) -> "Deadline":
        """This deadline or one `seconds` from now, whichever ends first. Raises TimeoutError if this one has ended."""
        return self if self.left() < seconds else Deadline(seconds)
