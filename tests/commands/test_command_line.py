"""What follows the name of a command."""

import pytest

from sendooway.commands.command_line import CommandLine, Syntax, parse_command_line
from sendooway.options import UsageError

SYNTAX = Syntax(("source=", "deep"), fewest=1, most=2)


def test_options_and_arguments_may_be_mixed() -> None:
    line = parse_command_line(["a", "-c", "x", "--source", "one", "b", "--source=two", "--deep"], SYNTAX)
    assert line.arguments == ("a", "b")
    assert line.values("source") == ("one", "two")
    assert (line.value("config"), line.has("deep"), line.has("json"), line.value("json")) == ("x", True, False, None)


def test_of_an_option_that_is_given_twice_the_last_counts() -> None:
    assert parse_command_line(["-c", "a", "--config=b", "x"], SYNTAX).value("config") == "b"


def test_what_stands_behind_two_hyphens_is_an_argument() -> None:
    assert parse_command_line(["--", "--json"], SYNTAX) == CommandLine((), ("--json",))


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        ([], "an argument is missing"),
        (["a", "b", "c"], "unexpected argument 'c'"),
        (["a", "--no-such"], "option --no-such not recognized"),
        (["a", "--source"], "option --source requires argument"),
        (["a", "--json=x"], "option --json must not have an argument"),
        (["a", "-c", ""], "--config: the name of a file is empty"),
        (["a", "-b", "25"], "option -b not recognized"),
    ],
)
def test_what_makes_no_sense_is_refused(argv: list[str], reason: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_command_line(argv, SYNTAX)
    assert str(error.value) == reason


def test_help_is_given_whatever_else_there_is() -> None:
    assert parse_command_line(["a", "b", "c", "-h"], SYNTAX).has("help")
