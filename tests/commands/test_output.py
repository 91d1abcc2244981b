"""Where the answer of a command goes."""

import io

import pytest

from sendooway.commands.output import show, show_json, terminal
from sendooway.commands.table import Terminal


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environment", "stream", "expected"),
    [
        ({}, io.StringIO(), Terminal(None, False)),
        ({"COLUMNS": "60"}, io.StringIO(), Terminal(60, False)),
        ({"COLUMNS": "60", "TERM": "xterm"}, Screen(), Terminal(60, True)),
        ({"COLUMNS": "60", "TERM": "dumb"}, Screen(), Terminal(60, False)),
        ({"COLUMNS": "60", "NO_COLOR": "1"}, Screen(), Terminal(60, False)),
        ({"COLUMNS": "60", "NO_COLOR": ""}, Screen(), Terminal(60, True)),
        ({"COLUMNS": "wide"}, Screen(), Terminal(None, True)),
        ({"COLUMNS": "0"}, io.StringIO(), Terminal(None, False)),
    ],
)
def test_the_terminal_and_the_environment_say_how_to_show(
    environment: dict[str, str], stream: io.StringIO, expected: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert terminal(stream) == expected


def test_what_the_streams_encoding_lacks_is_escaped() -> None:
    octets = io.BytesIO()
    stream = io.TextIOWrapper(octets, encoding="ascii")
    show(["bücher"], stream)
    stream.flush()
    assert octets.getvalue() == b"b\\xfccher\n"


def test_json_goes_to_standard_output_and_warnings_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    show_json({"a": [1]}, ["what a file said:\n\x1b[2J"])
    assert capsys.readouterr() == ('{\n  "a": [\n    1\n  ]\n}\n', "warning: what a file said:\\x0a\\x1b[2J\n")
