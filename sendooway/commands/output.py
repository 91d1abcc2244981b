"""Where the answer of a command goes: standard output and standard error, whatever they are."""

import json
import os
import sys
from collections.abc import Iterable
from typing import TextIO

from sendooway.commands.table import Terminal, printable


def terminal(stream: TextIO) -> Terminal:
    """How a stream shows text. COLUMNS counts for every stream, else only a terminal has a width; NO_COLOR is obeyed
    (https://no-color.org)."""
    is_terminal = stream.isatty()
    coloured = is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    columns = os.environ.get("COLUMNS", "")
    if columns.isascii() and columns.isdigit() and int(columns) > 0:
        return Terminal(int(columns), coloured)
    try:
        return Terminal(os.get_terminal_size(stream.fileno()).columns or None if is_terminal else None, coloured)
    except (OSError, ValueError):
        return Terminal(None, coloured)


def show(lines: list[str], stream: TextIO | None = None) -> None:
    """Print lines, None: on standard output. What the stream's encoding lacks is written as an escape sequence."""
    stream = stream or sys.stdout
    encoding = stream.encoding or "utf-8"
    text = "".join(f"{line}\n" for line in lines)
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding))


def show_json(value: object, warnings: Iterable[object]) -> None:
    """Print the answer as JSON, and on standard error each warning, a line without secrets."""
    show([json.dumps(value, indent=2)])
    show([printable(f"warning: {warning}") for warning in warnings], sys.stderr)
