"""Text for a terminal: tables that fit, colours, and nothing that could drive the terminal. Pure."""

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum

_GAP = "  "


class Colour(Enum):
    """The values are the parameters of SGR (ECMA-48, 8.3.117)."""

    NONE = ""
    GREEN = "32"
    YELLOW = "33"
    RED = "31"
    BOLD = "1"


@dataclass(frozen=True)
class Cell:
    """A text in a table, as it came: `table` makes it printable."""

    text: str
    colour: Colour = Colour.NONE


@dataclass(frozen=True)
class Terminal:
    """Where text is shown. `width` in columns, None: there is no limit."""

    width: int | None = None
    coloured: bool = False

    def paint(self, text: str, colour: Colour) -> str:
        return f"\x1b[{colour.value}m{text}\x1b[0m" if self.coloured and colour is not Colour.NONE and text else text


def printable(text: str) -> str:
    """The text on one line, with \\xNN in place of all that a terminal would not show: a server or a file made it."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else _escaped(one) for one in text)


def _escaped(character: str) -> str:
    number = ord(character)
    # An octet that is not UTF-8, as surrogateescape keeps it.
    if 0xDC80 <= number <= 0xDCFF:
        number -= 0xDC00
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def width(text: str) -> int:
    """How many columns a printable text takes. Those of East Asia are wide; accents that combine take none."""
    if text.isascii():
        return len(text)
    return sum(
        0
        if unicodedata.combining(one) or unicodedata.category(one) in ("Mn", "Me", "Cf")
        else 2
        if unicodedata.east_asian_width(one) in ("W", "F")
        else 1
        for one in text
    )


def table(heads: Sequence[str], rows: Sequence[Sequence[Cell]], terminal: Terminal) -> list[str]:
    """Lines of a table, a column for each head; where that is too wide, a paragraph for each row.

    A column without any text is left out.
    """
    if not rows:
        return []
    shown = [number for number in range(len(heads)) if any(row[number].text for row in rows)]
    texts = [[Cell(printable(row[number].text), row[number].colour) for number in shown] for row in rows]
    names = [heads[number] for number in shown]
    widths = [max(width(name), *(width(row[at].text) for row in texts)) for at, name in enumerate(names)]
    if terminal.width is not None and sum(widths) + len(_GAP) * (len(widths) - 1) > terminal.width:
        return _paragraphs(names, texts, terminal)
    head = [Cell(name.upper(), Colour.BOLD) for name in names]
    return [_line(row, widths, terminal) for row in [head, *texts]]


def _line(row: Sequence[Cell], widths: Sequence[int], terminal: Terminal) -> str:
    cells = [
        terminal.paint(cell.text, cell.colour) + " " * (size - width(cell.text))
        for cell, size in zip(row, widths, strict=True)
    ]
    return _GAP.join(cells).rstrip()


def _paragraphs(names: Sequence[str], rows: Sequence[Sequence[Cell]], terminal: Terminal) -> list[str]:
    """The first column is the head of each; what is too long for a line stays in one piece, to be copied."""
    size = max(map(len, names[1:]), default=0)
    lines = []
    for first, *others in rows:
        lines.append(terminal.paint(first.text, first.colour if first.colour is not Colour.NONE else Colour.BOLD))
        for name, cell in zip(names[1:], others, strict=True):
            if cell.text:
                lines.append(f"{_GAP}{name:{size}}{_GAP}{terminal.paint(cell.text, cell.colour)}")
    return lines


def marked(mark: str, colour: Colour, text: str, terminal: Terminal) -> list[str]:
    """A paragraph behind a mark of one character."""
    narrower = replace(terminal, width=None if terminal.width is None else terminal.width - 2)
    first, *others = paragraph(printable(text), narrower)
    return [f"{terminal.paint(mark, colour)} {first}", *(f"  {line}" for line in others)]


def warnings(texts: Iterable[str], terminal: Terminal) -> list[str]:
    """What stands below an answer, apart from it; nothing where there is nothing to say."""
    lines = [line for text in texts for line in marked("!", Colour.YELLOW, text, terminal)]
    return ["", *lines] if lines else []


def paragraph(text: str, terminal: Terminal, indentation: str = "") -> list[str]:
    """The words of a text in lines that fit, all but the first behind `indentation`. A long word stays whole."""
    if terminal.width is None:
        return [text]
    lines: list[str] = []
    for word in text.split(" "):
        if lines and width(lines[-1]) + 1 + width(word) <= terminal.width:
            lines[-1] += f" {word}"
        else:
            lines.append(f"{indentation}{word}" if lines else word)
    return lines
