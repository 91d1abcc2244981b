"""Octets that must never be seen in a log, a reply or a traceback."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Secret:
    """A password or a text that contains one. Its repr and str show nothing; `octets` is the value.

    `octets` is what goes over the wire, in the encoding of the file or connection it came from.
    """

    octets: bytes = field(repr=False)

    def __str__(self) -> str:
        return "Secret()"
