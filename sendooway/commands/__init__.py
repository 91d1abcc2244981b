"""What people ask Sendooway, as themselves: one module a command. None of it is imported by a server.

A module has `HELP`, its `SYNTAX`, and `run`, which is given the parsed command line and returns the exit status.
"""

from importlib import import_module
from typing import Protocol, cast

from sendooway.commands.command_line import CommandLine, Syntax, parse_command_line

NAMES = ("accounts", "explain", "check", "discover")


class Command(Protocol):
    """The module of a command."""

    HELP: str
    SYNTAX: Syntax

    def run(self, line: CommandLine) -> int: ...


def load(name: str) -> Command:
    """The command of one of NAMES."""
    return cast("Command", import_module(f"sendooway.commands.{name}"))


def run(name: str, argv: list[str]) -> int:
    """Run a command of NAMES with the arguments behind it. Returns its exit status; 0: all is well.

    Raises UsageError, and ConfigurationError where the configuration or the user's own one cannot be used.
    """
    command = load(name)
    line = parse_command_line(argv, command.SYNTAX)
    if line.has("help"):
        print(command.HELP, end="")
        return 0
    return command.run(line)
