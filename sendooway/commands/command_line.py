"""What follows the name of a command. Pure."""

from dataclasses import dataclass
from getopt import GetoptError, gnu_getopt

from sendooway.options import UsageError


@dataclass(frozen=True)
class Syntax:
    """The long options of a command, as getopt has them, beside those that every command has; and how many arguments it
    takes."""

    options: tuple[str, ...] = ()
    fewest: int = 0
    most: int = 0

    @property
    def long(self) -> list[str]:
        return ["help", "config=", "json", *self.options]


SHORT = "hc:"
_LONG_OF = {"-h": "--help", "-c": "--config"}


@dataclass(frozen=True)
class CommandLine:
    """Options by their long name, in the order given, and arguments."""

    options: tuple[tuple[str, str], ...]
    arguments: tuple[str, ...]

    def has(self, name: str) -> bool:
        return any(option == name for option, _ in self.options)

    def values(self, name: str) -> tuple[str, ...]:
        return tuple(value for option, value in self.options if option == name)

    def value(self, name: str) -> str | None:
        """The value of the last one, None where there is none."""
        return self.values(name)[-1] if self.has(name) else None


def parse_command_line(argv: list[str], syntax: Syntax) -> CommandLine:
    """Options and arguments, in any order. With --help the arguments are not looked at. Raises UsageError."""
    try:
        pairs, arguments = gnu_getopt(argv, SHORT, syntax.long)
    except GetoptError as error:
        raise UsageError(error.msg) from None
    options = tuple((_LONG_OF.get(option, option).removeprefix("--"), value) for option, value in pairs)
    line = CommandLine(options, tuple(arguments))
    if line.has("help"):
        return line
    if len(arguments) < syntax.fewest:
        raise UsageError("an argument is missing")
    if len(arguments) > syntax.most:
        raise UsageError(f"unexpected argument {arguments[syntax.most]!r}")
    if "" in line.values("config"):
        raise UsageError("--config: the name of a file is empty")
    return line
