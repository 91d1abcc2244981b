class Clock:
    """A monotonic clock that the test sets, in seconds."""

    now = 0.0

    def __call__(self) -> float:
        return self.now
