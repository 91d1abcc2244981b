"""Where something is said: every message about a file names the place."""

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Origin:
    """The place in a file that says something, for messages: `FILE:LINE`, or `FILE` where `line` is 0."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file
